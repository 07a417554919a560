"""How many bytes may be on their way to the bucket at once, over the whole mount.

Used by `sending` and `multipart`, which wait for their share in order, and by `streaming`,
which takes what nobody waits for. Also the event that tells of each step forward, and what
`uploader` goes by when it lets programs wait for one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from qarnotfs.errors import NotUploaded
from qarnotfs.writeback.owed import Owed

FEW = 32  # debts that may never be paid; where there are more, something will be


class Budget:
    """Bytes in flight. One taker always goes, also when it wants more than there is."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken_bytes = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes for the length of a block; waits for its turn."""
        await self.take(size)
        try:
            yield
        finally:
            self.give(size)

    async def take(self, size: int) -> None:
        """Wait for ``size`` bytes, to be given back with `give`."""
        if self.try_take(size):
            return
        turn = size, trio.Event()
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self.give(size)
            raise

    def try_take(self, size: int) -> bool:
        """Take ``size`` bytes at once, or nothing where others wait or it is too much."""
        if self._waiting or not self._fits(size):
            return False
        self._taken_bytes += size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken; those who wait go in their order."""
        self._taken_bytes -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            next_size, turn = self._waiting.popleft()
            self._taken_bytes += next_size
            turn.set()

    def _fits(self, size: int) -> bool:
        return not self._taken_bytes or self._taken_bytes + size <= self._bytes_max


WRITER_SEC = 30.0  # for which a program waits for another one's file to be closed


class Progress:
    """An event that happens again and again: whoever waits looks again after each."""

    def __init__(self) -> None:
        self.taken_sec = -math.inf  # when the bucket last took something
        self._event = trio.Event()

    def took(self) -> None:
        """The bucket has taken a part, or a whole debt; `tell` follows."""
        self.taken_sec = trio.current_time()

    async def wait(self) -> None:
        """Return when it happens the next time."""
        await self._event.wait()

    def tell(self) -> None:
        """It happens."""
        self._event.set()
        self._event = trio.Event()


class Patience:
    """For how long a program that waits for the bucket is left waiting while nothing is taken.

    A large file, or a long queue before it, may take as long as it needs; an outage may not.
    """

    def __init__(self, progress: Progress, limit_sec: float) -> None:
        self._progress, self._limit_sec = progress, limit_sec
        self._began_sec = trio.current_time()
        self._writer_end_sec = math.inf

    async def wait(self, written: str | None = None) -> None:
        """`Progress.wait`, or `NotUploaded` when the bucket took nothing for too long.

        ``written``: a key that must go first, and waits itself for a program that has it open.
        """
        if not written:
            self._writer_end_sec = math.inf
        elif self._writer_end_sec == math.inf:
            self._writer_end_sec = trio.current_time() + WRITER_SEC
        with trio.move_on_at(min(self._end_sec(), self._writer_end_sec)):
            await self._progress.wait()
        if trio.current_time() >= self._writer_end_sec:
            raise NotUploaded(f"{written!r} must be uploaded first, and is still being written.")
        if trio.current_time() >= self._end_sec():
            raise NotUploaded(
                f"The bucket has taken nothing for {self._limit_sec:g} s. The file is kept, and"
                " uploaded when the bucket answers again."
            )

    def _end_sec(self) -> float:
        return max(self._began_sec, self._progress.taken_sec) + self._limit_sec


def may_get_room(owed: Owed) -> bool:
    """Whether less is dirty when all was paid that can be; the server may never take some of it.

    So a few files that failed are not waited for when they are the smaller part.
    """
    count, payable_bytes = 0, 0
    for debt in owed.payable(lingering=False):
        count, payable_bytes = count + 1, payable_bytes + debt.counted_bytes
        is_much = count > FEW or 2 * payable_bytes >= owed.bytes_dirty
        if is_much or (debt.counted_bytes and not debt.attempts):
            return True
    return False
