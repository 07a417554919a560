"""The house: every room of one mount, put together in one function.

Used by `life`, and by the tests that live in a house without a kernel. Nothing here waits.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from qarnotfs import control
from qarnotfs.bridge import Bridge
from qarnotfs.bucket import Bucket
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from qarnotfs.cache.warming import Warmer, Warmth
from qarnotfs.core.attributes import Defaults
from qarnotfs.core.content import Content
from qarnotfs.core.filesystem import Filesystem
from qarnotfs.core.finder import Finder
from qarnotfs.core.lookup import Lookup
from qarnotfs.core.making import Rooms
from qarnotfs.core.moving import Mover
from qarnotfs.core.xattrs import Xattrs
from qarnotfs.index.index import Index
from qarnotfs.operations import Operations
from qarnotfs.session.options import MountOptions
from qarnotfs.store.base import Capabilities, ObjectInfo
from qarnotfs.writeback.adoption import JournalLock, claim
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.sending import Sender
from qarnotfs.writeback.uploader import Uploader

TTL_SEC_DEFAULT = 60
ELSEWHERE = "choose another place with --cache-dir"
NO_CAPABILITIES = Capabilities(put_if_absent=False, put_if_match="no")


@dataclass(frozen=True)
class House:
    """Every room of one mount, connected."""

    bucket: Bucket
    options: MountOptions
    index: Index
    reader: Reader
    disk: Disk
    warmer: Warmer
    journal: Journal
    lock: JournalLock
    uploader: Uploader
    filesystem: Filesystem
    operations: Operations
    capabilities: list[Capabilities]  # of one; the probe replaces it
    warmths: dict[str, Warmth] = field(default_factory=dict)  # of the pinned prefixes


def build(bucket: Bucket, options: MountOptions) -> House:
    """The whole object graph. Opens the journal and the cache; asks the bucket nothing."""
    view, store = bucket.view, bucket.store
    place = options.cache_dir / place_name(bucket)
    ttls = (options.cache_ttl_sec, bucket.cache_ttl_sec, TTL_SEC_DEFAULT)
    ttl_sec = next(given for given in ttls if given is not None)
    capabilities = [NO_CAPABILITIES]
    bridge = Bridge(timeout_sec=options.io_timeout_sec)
    index, disk, reader = reading_rooms(
        bucket,
        bridge,
        place,
        ttl_sec=ttl_sec,
        cache_bytes_max=options.cache_bytes_max,
        offline_reads=options.offline_reads,
    )
    journal, lock = claim(place / "journals")
    overwrite = options.on_conflict == "overwrite"
    sender = Sender(
        store, bridge, journal, reader.read, lambda: capabilities[0], overwrite=overwrite
    )
    uploader = Uploader(
        store,
        bridge,
        journal,
        index,
        sender,
        adopt=partial(adopt, disk, bridge),
        delay_sec=options.upload_delay_sec,
        dirty_bytes_max=options.dirty_bytes_max,
        patience_sec=options.fsync_timeout_sec or math.inf,
    )
    waits = options.close == "wait"
    content = Content(bridge, reader, journal, uploader, close_waits=waits, now_ns=time.time_ns)
    finder = Finder(index, reader, journal, view, asks_attributes=options.attrs == "full")
    rooms = Rooms(
        index=index,
        journal=journal,
        uploader=uploader,
        content=content,
        mover=Mover(store, bridge, index, journal, uploader, view),
        lookup=Lookup(index, finder, content, _defaults(options), now_ns=time.time_ns),
        view=view,
        read_only=options.read_only,
        now_ns=time.time_ns,
    )
    fs = Filesystem(rooms)
    door = Operations(fs, Xattrs(fs, disk.bytes_cached))
    warmer = Warmer(index, reader, disk)
    return House(
        *(bucket, options, index, reader, disk, warmer),
        *(journal, lock, uploader, fs, door, capabilities),
    )


def reading_rooms(
    bucket: Bucket,
    bridge: Bridge,
    place: Path,
    *,
    ttl_sec: float,
    cache_bytes_max: int,
    offline_reads: bool = False,
) -> tuple[Index, Disk, Reader]:
    """What is needed to read a bucket through the cache at ``place``, which is made private.

    `UsageError` when it, or the directory that it is in, belongs to someone else.
    """
    control.refuse_strangers(place.parent, ELSEWHERE)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    control.make_private(place, ELSEWHERE)
    index = Index(
        bucket.store,
        bridge,
        place / "beliefs.db",
        ttl_sec=ttl_sec,
        filter_prefix=bucket.view.filter_prefix,
        offline_reads=offline_reads,
    )
    disk = Disk(place / "blocks", cache_bytes_max, scope=place.name, ttl_sec=ttl_sec)
    reader = Reader(
        bucket.store,
        bridge,
        disk,
        io_timeout_sec=bridge.timeout_sec,
        learn=index.learn_attributes,
        lost=lambda: index.reach.lost,
        silent=index.reach.silent,
    )
    return index, disk, reader


async def adopt(disk: Disk, bridge: Bridge, info: ObjectInfo, path: Path) -> None:
    """Let the cache have a file that was sent; of a small one that is less work than a thread."""
    try:
        disk.adopt(info, path, wait=False)
    except BlockingIOError:
        await bridge.work(disk.adopt, info, path)


def _defaults(options: MountOptions) -> Defaults:
    return Defaults(options.uid, options.gid, options.file_mode, options.dir_mode)


def place_name(bucket: Bucket) -> str:
    """The directory under the cache directory of one bucket on one server."""
    digest = sha256(json.dumps([bucket.endpoint, bucket.uuid]).encode()).hexdigest()
    return f"{bucket.uuid}-{digest[:12]}"
