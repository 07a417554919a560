"""`Bucket`: a bucket with a view, the interface of ``qarnot.bucket.Bucket``. Python's door.

Used by programs, and by `cli`: a mount is a `Bucket` plus a mountpoint. It works on stored
keys, as the SDK does; `Bucket.visible_files` lists what a mount shows. Every method blocks
and asks the object store each time: nothing is remembered here.
"""

from __future__ import annotations

from qarnotfs.bucket.bucket import Bucket
from qarnotfs.bucket.files import Body, BucketFile
from qarnotfs.bucket.progress import Progress
from qarnotfs.bucket.report import SyncFailed, SyncReport
from qarnotfs.bucket.rules import (
    BucketPrefixFiltering,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)
from qarnotfs.errors import NoStorage, NoSuchBucket

# The SDK's names for them.
BucketStorageUnavailableException = NoStorage
MissingBucketException = NoSuchBucket

__all__ = [
    "Body",
    "Bucket",
    "BucketFile",
    "BucketPrefixFiltering",
    "BucketStorageUnavailableException",
    "Filtering",
    "MissingBucketException",
    "PrefixResourcesTransformation",
    "Progress",
    "ResourcesTransformation",
    "SyncFailed",
    "SyncReport",
]
