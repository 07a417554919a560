"""Which attributes belong to which version of an object. Pure.

Used by `book`. A listing tells versions without metadata; what was seen of one goes on being
its metadata as long as (key, etag, modified) stay: a copy onto itself keeps the etag.
"""

from __future__ import annotations

from qarnotfs.store.base import ObjectInfo

# Metadata seen no later than this after LastModified, which is in whole seconds, may have been
# replaced in the same second: after the TTL it is asked for again.
RACY_SEC = 2.0


def is_racy(info: ObjectInfo, seen_sec: float) -> bool:
    """Whether the metadata seen at a time may have been replaced in the second it is of."""
    return seen_sec - info.modified_sec <= RACY_SEC


def with_attributes(info: ObjectInfo, known: ObjectInfo) -> ObjectInfo:
    """``info`` with the metadata of ``known``, if that is of the same version and has some."""
    if known.metadata is None or not same_attributes(info, known):
        return info
    return info._replace(metadata=known.metadata, content_type=known.content_type)


def same_attributes(a: ObjectInfo, b: ObjectInfo) -> bool:
    """Whether what was seen with one version is true of the other; of one key."""
    return (a.etag, a.modified_sec) == (b.etag, b.modified_sec)
