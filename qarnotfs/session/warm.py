"""Warming a cache without a mount: the life of ``qarnotfs warm``.

Used by `cli`. It shares the cache directory with every mount of the bucket, also while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.bucket import Bucket
from qarnotfs.cache.pins import Pins
from qarnotfs.cache.warming import Warmer, Warmth
from qarnotfs.session.house import place_name, reading_rooms
from qarnotfs.session.life import cause

LISTED_SEC = 7 * 86_400.0  # what was listed at the beginning is not asked for again meanwhile


def warm(
    bucket: Bucket,
    prefix: str,
    *,
    cache_dir: Path,
    cache_bytes_max: int,
    io_timeout_sec: float,
    shown: Callable[[Warmth], None],
) -> Warmth:
    """Pin and fetch every object below ``prefix``. Raises what `Warmer.warm` raises."""
    bucket.store.check()
    index, disk, reader = reading_rooms(
        bucket,
        Bridge(timeout_sec=io_timeout_sec),
        cache_dir / place_name(bucket),
        ttl_sec=LISTED_SEC,
        cache_bytes_max=cache_bytes_max,
    )

    async def run() -> Warmth:
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            warmth = await Warmer(index, reader, disk).warm(prefix, shown)
            nursery.cancel_scope.cancel()
        return warmth

    try:
        return trio.run(run)
    except BaseExceptionGroup as group:
        raise cause(group) from group
    finally:
        index.close()
        disk.close()


def unpin(bucket: Bucket, prefix: str, *, cache_dir: Path) -> bool:
    """Let what is cached below ``prefix`` be evicted again; whether it was pinned."""
    return Pins.of(cache_dir / place_name(bucket) / "blocks").unpin(prefix)
