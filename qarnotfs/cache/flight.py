"""Blocks of one version on their way from the store, and those who wait for them.

Used by `reader`, which lets them fly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from qarnotfs.cache.blocks import BLOCK_BYTES, Span
from qarnotfs.errors import QarnotfsError, Stale, Unavailable
from qarnotfs.store.base import Fetched, ObjectInfo, Store
from qarnotfs.store.base import Flight as Request

CLOSING = "The mount is being closed."
OFFLINE = "The object store does not answer, and this is not cached."


@dataclass(eq=False, slots=True)
class Flight:
    """Whole blocks of one version on their way from the store.

    ``landed`` is set once, by the task that fetches, after ``outcome`` is what it will be.
    ``deadline`` (trio time) is how long the fetch is repeated; each reader who joins moves
    it on, and minus infinity says that nobody has joined. ``over``: nothing more is done with
    its bytes.
    """

    info: ObjectInfo
    span: Span
    deadline: float = -math.inf
    request: Request[Fetched] | None = None  # made before its task began
    asked_sec: float = 0.0  # trio time of the last request
    took_sec: float = 0.0  # from the last request to its answer
    outcome: bytes | QarnotfsError = field(default_factory=lambda: Unavailable(CLOSING))
    landed: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)

    def asked(self, store: Store) -> Flight:
        """Ask for its bytes now, before those of whoever comes later: tasks begin in any order."""
        self.asked_sec = trio.current_time()
        self.request = store.get(
            self.info.key, self.span.start, self.span.size, etag=self.info.etag
        )
        return self

    def take_request(self, store: Store) -> Request[Fetched]:
        """The request that was made already, or else a new one."""
        request = self.request or self.asked(store).request
        assert request is not None  # that is what `asked` makes
        self.request = None
        return request

    async def block(self, number: int) -> memoryview:
        """One block, as soon as it has landed; raises what the fetch ended with."""
        await self.landed.wait()
        if isinstance(self.outcome, QarnotfsError):
            raise type(self.outcome)(*self.outcome.args) from self.outcome
        start = number * BLOCK_BYTES - self.span.start
        return memoryview(self.outcome)[start : start + BLOCK_BYTES]

    def failed(self, error: QarnotfsError) -> None:
        """It ended so; not for those who wait, when its bytes have landed and cannot be kept."""
        if not self.landed.is_set():
            self.outcome = error

    def checked(self, fetched: Fetched) -> bytes:
        """The bytes, if they are the ones asked for, whatever the server made of the condition."""
        if not fetched.info.same_version(self.info):
            raise stale(self.info)
        if len(fetched.data) != self.span.size:
            raise Unavailable(f"The object store sent {self.info.key!r} only in part.")
        return fetched.data


class Flights:
    """Who is fetching a block of a version.

    A flight is added when it starts, and removed when its bytes are where `disk` finds them,
    so that between the two nobody asks again. Of two with the same block the first has it.
    """

    def __init__(self) -> None:
        self._of_block: dict[tuple[str, str, int, int], Flight] = {}

    def __len__(self) -> int:
        """How many blocks are under way."""
        return len(self._of_block)

    def under_way(self, info: ObjectInfo, numbers: Iterable[int]) -> dict[int, Flight]:
        """Those of some blocks of a version that are under way."""
        if not self._of_block:
            return {}
        key, etag, size, find = info.key, info.etag, info.size, self._of_block.get
        return {n: flight for n in numbers if (flight := find((key, etag, size, n)))}

    def add(self, flight: Flight) -> None:
        for number in flight.span.blocks:
            self._of_block.setdefault(_key(flight.info, number), flight)

    def remove(self, flight: Flight) -> None:
        for number in flight.span.blocks:
            if self._of_block.get(key := _key(flight.info, number)) is flight:
                del self._of_block[key]


def _key(info: ObjectInfo, number: int) -> tuple[str, str, int, int]:
    return (info.key, info.etag, info.size, number)


def stale(info: ObjectInfo) -> Stale:
    """What became of a version that the bucket does not have any more."""
    return Stale(f"{info.key!r} was replaced or deleted while it was being read.")
