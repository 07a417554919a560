"""How much is fetched at the same time, and how much of that for nobody yet.

Used by `reader`.
"""

from __future__ import annotations

import trio

FLIGHTS_KEPT_FREE = 4  # of both, a quarter is out of bounds for reading ahead,
BYTES_KEPT_FREE = 16 << 20  # so that a read never queues behind bytes nobody waits for


class Runway:
    """How many flights, and how many of their bytes, are in the air at the same time."""

    def __init__(self, flights_max: int, bytes_max: int) -> None:
        self._flights_free = flights_max
        self._bytes_free = bytes_max
        self._queue = trio.lowlevel.ParkingLot()  # woken whenever something was given back

    async def take(self, size: int) -> None:
        while self._flights_free < 1 or self._bytes_free < size:
            await self._queue.park()
        self._flights_free -= 1
        self._bytes_free -= size

    def try_take(self, size: int) -> bool:
        """Take a place for reading ahead, if that leaves enough for those who cannot wait."""
        if self._flights_free <= FLIGHTS_KEPT_FREE or self._bytes_free < size + BYTES_KEPT_FREE:
            return False
        self._flights_free -= 1
        self._bytes_free -= size
        return True

    def give_back(self, size: int) -> None:
        self._flights_free += 1
        self._bytes_free += size
        self._queue.unpark_all()
