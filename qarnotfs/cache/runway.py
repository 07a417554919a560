"""How much is fetched at the same time, how much of that for nobody yet, and how long it takes.

Used by `reader`.
"""

from __future__ import annotations

import math

import trio

from qarnotfs.cache.blocks import BLOCK_BYTES

FLIGHTS_KEPT_FREE = 16  # of both, a quarter is out of bounds for reading ahead,
BYTES_KEPT_FREE = 16 << 20  # so that a read never queues behind bytes nobody waits for
NEAR_SEC = 0.005  # a store that answers within it is asked block by block
GROWTH = 1.1  # with each block a round trip is believed to have become at most so much longer
ABOUT = 3  # times a round trip


class Runway:
    """How many flights, and how many of their bytes, are in the air at the same time."""

    def __init__(self, flights_max: int, bytes_max: int) -> None:
        self._flights_free = flights_max
        self._bytes_free = bytes_max
        self._queue = trio.lowlevel.ParkingLot()  # woken whenever something was given back

    async def take(self, size: int) -> None:
        while not self.take_now(size):
            await self._queue.park()

    def take_now(self, size: int) -> bool:
        """Take a place, if there is one."""
        if self._flights_free < 1 or self._bytes_free < size:
            return False
        self._flights_free -= 1
        self._bytes_free -= size
        return True

    def take_ahead(self, size: int) -> bool:
        """Take a place for reading ahead, if that leaves enough for those who cannot wait."""
        return size <= self.ahead_bytes and self.take_now(size)

    @property
    def ahead_bytes(self) -> int:
        """How much may be sent for ahead at the moment."""
        if self._flights_free <= FLIGHTS_KEPT_FREE:
            return 0
        return max(0, self._bytes_free - BYTES_KEPT_FREE)

    def give_back(self, size: int) -> None:
        self._flights_free += 1
        self._bytes_free += size
        self._queue.unpark_all()


class RoundTrip:
    """How long a block takes that is fetched alone: the shortest of late. Infinite at first."""

    def __init__(self) -> None:
        self._sec = math.inf

    def note(self, size: int, took_sec: float) -> None:
        """``size`` bytes were fetched."""
        if size == BLOCK_BYTES:
            self._sec = min(took_sec, GROWTH * self._sec)

    @property
    def is_short(self) -> bool:
        """Whether there is nothing to be gained by making fewer of them."""
        return self._sec < NEAR_SEC

    def is_about(self, took_sec: float) -> bool:
        """Whether so long is about a round trip: the way to the store is wide enough."""
        return took_sec <= ABOUT * self._sec
