"""Fetching ahead everything below a prefix, and keeping it: ``warm`` and ``mount --pin``.

Used by `session`. What is cached already is not fetched again, so a warming that was
interrupted goes on where it was. It never waits for anybody: reads of programs go first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from qarnotfs.cache.blocks import PART_BYTES_MAX
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from qarnotfs.errors import QarnotfsError, UsageError
from qarnotfs.figures import bytes_text
from qarnotfs.index.index import Index
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo

FETCHERS = 12  # of the reader's 16 flights: the others are for programs


@dataclass(slots=True)
class Warmth:
    """How far the warming of one prefix is. ``failed``: key -> why."""

    prefix: str
    files_total: int = 0
    bytes_total: int = 0
    files: int = 0
    bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    done: bool = False
    message: str = ""  # why there is nothing to be done


class Warmer:
    """Warms prefixes of stored keys for one cache."""

    def __init__(self, index: Index, reader: Reader, disk: Disk) -> None:
        self._index, self._reader, self._disk = index, reader, disk

    async def warm(self, prefix: str, shown: Callable[[Warmth], None] = lambda _: None) -> Warmth:
        """Pin and fetch every object below ``prefix``; ``shown`` is called as it goes on.

        `UsageError` when the cache is too small for what is to be pinned; then nothing is.
        """
        warmth = Warmth(prefix)
        shown(warmth)
        every = await self._index.survey(prefix)
        warmth.files_total = every.count
        warmth.bytes_total = sum(info.size for _, info in every if info)
        self._check_room(warmth)
        self._disk.pins.pin(prefix, self._disk.entries(info for _, info in every if info))
        await self._fetch_all(every, warmth, shown)
        warmth.done = True
        shown(warmth)
        return warmth

    def _check_room(self, warmth: Warmth) -> None:
        others = self._disk.pins.bytes_besides(warmth.prefix)
        wanted, limit = warmth.bytes_total + others, self._disk.cache_bytes_max
        if wanted > limit:
            pinned = f", and {bytes_text(others)} are pinned already" if others else ""
            raise UsageError(
                f"{warmth.prefix!r} takes {bytes_text(warmth.bytes_total)}{pinned}, but the cache"
                f" may take {bytes_text(limit)}: give a larger --cache-size, or unpin something."
            )

    async def _fetch_all(
        self, every: Listing, warmth: Warmth, shown: Callable[[Warmth], None]
    ) -> None:
        give, take = trio.open_memory_channel[ObjectInfo](0)

        async def fetcher() -> None:
            async for info in take.clone():
                try:
                    await self._fetch(info)
                except QarnotfsError as error:
                    warmth.failed[info.key] = str(error)
                warmth.files += 1
                warmth.bytes += info.size
                shown(warmth)

        async with trio.open_nursery() as nursery:
            for _ in range(FETCHERS):
                nursery.start_soon(fetcher)
            async with give:
                for _, info in every:
                    if info is not None:
                        await give.send(info)

    async def _fetch(self, info: ObjectInfo) -> None:
        if self._disk.bytes_cached(info) < info.size:
            for start in range(0, info.size, PART_BYTES_MAX):
                await self._reader.read(info, start, PART_BYTES_MAX)
        await self._index.info(info.key)  # attributes, where they did not come with the bytes
