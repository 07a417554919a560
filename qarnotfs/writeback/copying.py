"""Copies on the server: of a file that is renamed, and onto itself with new attributes.

Used by `sending`, and by `core.renaming`. `NoSuchKey` when there is nothing to copy.
"""

from __future__ import annotations

from qarnotfs.bridge import Bridge
from qarnotfs.store.base import Attributes, ObjectInfo, Store

QUICK_BYTES_MAX = 64 << 20  # a server copies them in much less time than a request may take


async def copy(
    store: Store,
    bridge: Bridge,
    source: str,
    target: str,
    attributes: Attributes | None,
    known: ObjectInfo | None,
) -> ObjectInfo:
    """Copy an object, with these ``attributes`` or its own, and return what is there now.

    ``known``: what was last heard of it. A small one is one request, and a tenth of the CPU, where
    the metadata was not known before, or is given; else one more tells what it has now.
    """
    if known is None or known.size > QUICK_BYTES_MAX:
        return await bridge.call(store.copy, source, target, attributes)
    copied = await bridge.wait(store.copy_object(source, target, attributes))
    is_known = attributes is None and known.metadata is not None
    # Another etag: replaced meanwhile, or a copy of parts.
    if is_known or copied.etag != known.etag or copied.modified_sec is None:
        return await bridge.wait(store.head(target))
    made = ObjectInfo(target, known.size, copied.etag, copied.modified_sec)
    if attributes is None:
        return made
    return made._replace(metadata=dict(attributes.metadata), content_type=attributes.content_type)


def may_be_copy(copied: ObjectInfo, source: ObjectInfo) -> bool:
    """Whether both hold the same bytes; of what is made of parts, a copy has another etag."""
    is_in_parts = "-" in source.etag + copied.etag and copied.size == source.size
    return is_in_parts or copied.same_version(source)
