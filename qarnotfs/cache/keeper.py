"""Puts what was fetched on disk, off the loop: small pieces together.

Used by `reader`. A thread that is woken for one small file costs more than making the file.
While one batch is stored the next one gathers; in a moment of rest a piece does not wait.
"""

from __future__ import annotations

import logging

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.cache.disk import Disk
from qarnotfs.store.base import ObjectInfo

log = logging.getLogger(__name__)

Piece = tuple[ObjectInfo, int, bytes]  # of a version, from a byte on: whole blocks

TOGETHER_BYTES_MAX = 64 << 10  # a larger piece takes longer than its thread
LARGE_AT_ONCE = 16  # while room is made all of them wait, and others need threads, too


class Keeper:
    """For the trio thread. One batch is stored at a time."""

    def __init__(self, bridge: Bridge, disk: Disk) -> None:
        self._bridge, self._disk = bridge, disk
        self._gathering: list[Piece] = []
        self._turn = trio.Lock()
        self._places = trio.CapacityLimiter(LARGE_AT_ONCE)

    async def keep(self, info: ObjectInfo, start: int, data: bytes) -> None:
        """Returns when the piece is stored, or the disk has refused it."""
        if len(data) > TOGETHER_BYTES_MAX:
            async with self._places:
                return await self._bridge.work(self._disk.store, info, start, data)
        batch = self._gathering
        batch.append((info, start, data))
        async with self._turn:
            if batch is self._gathering:  # the first of them stores them all
                self._gathering = []
                await self._bridge.work(self._store, batch)

    def _store(self, batch: list[Piece]) -> None:
        for info, start, data in batch:
            try:
                self._disk.store(info, start, data)
            except Exception:  # the others are stored; who wants this one fetches it again
                log.exception("a defect: %r is not kept", info.key)
