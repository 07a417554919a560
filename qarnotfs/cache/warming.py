"""Fetching ahead everything below a prefix, and keeping it: ``warm`` and ``mount --pin``.

Used by `session`, and by `core` for files that will surely be read. What is cached already is
not fetched again, so a warming that was interrupted goes on where it was. It never waits for
anybody: reads of programs go first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import trio

from qarnotfs.cache.blocks import SMALL_BYTES_MAX
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from qarnotfs.errors import FileError, QarnotfsError, Unavailable, UsageError
from qarnotfs.figures import bytes_text
from qarnotfs.index.index import Index
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo

log = logging.getLogger(__name__)

NO_ROOM = "It was fetched, but the disk has no room to keep it: make some, or unpin something."
FETCHERS = 32  # of the reader's 64 flights: the others are for programs, and so are
LARGE_FETCHERS = 4  # half of the bytes: each of these has a part of 8 MiB under way


@dataclass(slots=True)
class Warmth:
    """How far the warming of one prefix is.

    ``files`` are those that were tried, ``bytes`` those that are there; ``failed``: key -> why.
    """

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
        entries = list(self._disk.entries(info for _, info in every if info))
        self._check_room(prefix, sum(size for _, size in entries))
        self._disk.pins.pin(prefix, entries)
        await self._fetch_all(every, warmth, shown)
        warmth.done = True
        shown(warmth)
        return warmth

    def _check_room(self, prefix: str, size: int) -> None:
        others, limit = self._disk.pins.bytes_besides(prefix), self._disk.cache_bytes_max
        if size + others > limit:
            pinned = f", and {bytes_text(others)} are pinned already" if others else ""
            raise UsageError(
                f"{prefix!r} takes {bytes_text(size)} on disk{pinned}, but the cache"
                f" may take {bytes_text(limit)}: give a larger --cache-size, or unpin something."
            )

    async def _fetch_all(
        self, every: Listing, warmth: Warmth, shown: Callable[[Warmth], None]
    ) -> None:
        give, take = trio.open_memory_channel[ObjectInfo](0)
        large = trio.CapacityLimiter(LARGE_FETCHERS)

        async def fetcher() -> None:
            async for info in take.clone():
                try:
                    async with large if info.size > SMALL_BYTES_MAX else nullcontext():
                        await self._fetch(info)
                    warmth.bytes += info.size
                except QarnotfsError as error:
                    warmth.failed[info.key] = str(error)
                warmth.files += 1
                shown(warmth)

        async with trio.open_nursery() as nursery:
            for _ in range(FETCHERS):
                nursery.start_soon(fetcher)
            async with give:
                for _, info in every:
                    if info is not None:
                        await give.send(info)

    async def _fetch(self, info: ObjectInfo) -> None:
        if not await self._reader.keep(info):
            raise FileError(NO_ROOM)
        await self._index.info(info.key)  # attributes, where they did not come with the bytes


async def fetch_whole(reader: Reader, infos: Iterable[ObjectInfo]) -> bool:
    """Fetch small files that will surely be read: their attributes come with their bytes.

    Whether anybody answers. What else is the matter with one, a HEAD will say.
    """
    silent: list[Unavailable] = []

    async def fetch(info: ObjectInfo) -> None:
        try:
            await reader.read(info, 0, 1)
        except Unavailable as error:
            silent.append(error)
        except QarnotfsError as error:
            log.debug("%r was not fetched ahead: %s", info.key, error)

    async with trio.open_nursery() as nursery:
        for info in infos:
            nursery.start_soon(fetch, info)
    return not silent
