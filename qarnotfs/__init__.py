"""Mount an S3-compatible bucket as a directory; the same package is a ``Bucket`` class.

This file is the public interface: what it names may be relied upon, nothing else.

    from qarnotfs import Bucket, Connection

    bucket = Bucket(Connection.from_environment(), "data")
    bucket.add_string("hello", "greetings/hello.txt")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qarnotfs.bucket import (
        Bucket,
        BucketPrefixFiltering,
        BucketStorageUnavailableException,
        Filtering,
        MissingBucketException,
        PrefixResourcesTransformation,
        ResourcesTransformation,
        SyncFailed,
        SyncReport,
    )
    from qarnotfs.connection import Connection
    from qarnotfs.errors import QarnotfsError

__version__ = "0.1.0"

__all__ = [
    "Bucket",
    "BucketPrefixFiltering",
    "BucketStorageUnavailableException",
    "Connection",
    "Filtering",
    "MissingBucketException",
    "PrefixResourcesTransformation",
    "QarnotfsError",
    "ResourcesTransformation",
    "SyncFailed",
    "SyncReport",
    "__version__",
]

_HOMES = {"Connection": "qarnotfs.connection", "QarnotfsError": "qarnotfs.errors"}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for: ``qarnotfs status`` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'qarnotfs' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "qarnotfs.bucket")), name)
