"""`Bucket`: a bucket with a view, the interface of ``qarnot.bucket.Bucket``. Python's door.

Used by programs, and by `cli`: a mount is a `Bucket` plus a mountpoint. It works on stored
keys, as the SDK does; `Bucket.visible_files` lists what a mount shows. Every method blocks
and asks the object store each time: nothing is remembered here.
"""

from __future__ import annotations

from qarnotfs.bucket.bucket import Bucket, BucketFile, MissingBucketException
from qarnotfs.bucket.rules import (
    BucketPrefixFiltering,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)

__all__ = [
    "Bucket",
    "BucketFile",
    "BucketPrefixFiltering",
    "Filtering",
    "MissingBucketException",
    "PrefixResourcesTransformation",
    "ResourcesTransformation",
]
