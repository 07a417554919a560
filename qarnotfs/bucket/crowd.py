"""Many small requests at the same time, started and repeated by one thread.

Used by `upward` and `downward`. awscrt carries them: a thread for each would cost more than
the request. Bounded in number and in bytes; it knows nothing of files.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from qarnotfs.bucket.transfer import BYTES_PER_SEC_MIN, CALL_SEC, TRIES
from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.writeback.plan import backoff_sec

T = TypeVar("T")

IN_FLIGHT_MAX = 48  # awscrt has about 50 connections
IN_FLIGHT_BYTES_MAX = 64 << 20
OUTAGE_FAILURES = 3  # one or two files may have their own reasons


@dataclass(eq=False, slots=True)
class Errand(Generic[T]):
    """One request: ``bytes`` it keeps in memory, and what to do when it is answered or fails."""

    bytes: int
    send: Callable[[], Flight[T]]
    landed: Callable[[T], object]
    failed: Callable[[Exception], object]
    tries: int = 0
    begun_sec: float = 0.0  # monotonic, of the first try


class Outage:
    """Whether the store is gone: a few files failed for good, and nothing else succeeded.

    Then what is left fails with the same ``error`` without being sent, or thousands of files
    would each wait for their own time-outs.
    """

    def __init__(self) -> None:
        self.error: Unavailable | None = None
        self._success_sec = float("-inf")  # monotonic
        self._failures = 0  # since then

    def over(self) -> None:
        """Something succeeded."""
        self._success_sec = time.monotonic()
        self._failures = 0

    def feared(self, error: Exception, begun_sec: float) -> None:
        """What was begun then (monotonic) has failed for good."""
        if isinstance(error, Unavailable) and self._success_sec < begun_sec:
            self._failures += 1
            if self._failures >= OUTAGE_FAILURES:
                self.error = error


def run(errands: Iterable[Errand[Any]], outage: Outage) -> None:
    """Carry out ``errands``, which are made only when there is room for one more.

    `Unavailable` is repeated a few times.
    """
    _Crowd(iter(errands), outage).run()


class _Crowd:
    def __init__(self, errands: Iterator[Errand[Any]], outage: Outage) -> None:
        self._errands = errands
        self._outage = outage
        self._answers: SimpleQueue[tuple[Errand[Any], Flight[Any]]] = SimpleQueue()
        self._flying: dict[Errand[Any], tuple[Flight[Any], float]] = {}  # and its deadline
        self._waiting: list[tuple[float, int, Errand[Any]]] = []  # a heap, by when to repeat
        self._numbers = count()
        self._bytes = 0

    def run(self) -> None:
        try:
            while self._fill():
                self._answer()
        finally:
            for flight, _ in self._flying.values():
                flight.abort()

    def _fill(self) -> bool:
        """Start what there is room for; whether anything is under way."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._send(heapq.heappop(self._waiting)[2])
        while self._count < IN_FLIGHT_MAX and self._bytes < IN_FLIGHT_BYTES_MAX:
            errand = next(self._errands, None)
            if errand is None:
                break
            if self._outage.error is not None:
                errand.failed(self._outage.error)
                continue
            self._bytes += errand.bytes
            errand.begun_sec = time.monotonic()
            self._send(errand)
        return self._count > 0

    @property
    def _count(self) -> int:
        return len(self._flying) + len(self._waiting)

    def _send(self, errand: Errand[Any]) -> None:
        flight = errand.send()
        limit_sec = CALL_SEC + self._bytes / BYTES_PER_SEC_MIN  # all share the line
        self._flying[errand] = flight, time.monotonic() + limit_sec
        flight.add_done_callback(partial(self._note, errand))

    def _note(self, errand: Errand[Any], flight: Any) -> None:
        self._answers.put((errand, flight))

    def _answer(self) -> None:
        """Wait for one answer, or until something is due."""
        due = [deadline for _, deadline in self._flying.values()]
        due += [at for at, _, _ in self._waiting[:1]]
        try:
            errand, flight = self._answers.get(timeout=max(0.0, min(due) - time.monotonic()))
        except Empty:
            self._abort_late()
            return
        del self._flying[errand]
        try:
            value = flight.result()
        except Unavailable as error:
            self._repeat(errand, error)
        except Exception as error:  # a store error, or a defect: the file's, not everyone's
            self._end(errand, partial(errand.failed, error))
        else:
            self._outage.over()
            self._end(errand, partial(errand.landed, value))

    def _abort_late(self) -> None:
        """What took too long ends at once with `Unavailable`, and is answered that way."""
        for flight, deadline in list(self._flying.values()):
            if deadline <= time.monotonic():
                flight.abort()

    def _repeat(self, errand: Errand[Any], error: Unavailable) -> None:
        errand.tries += 1
        if errand.tries < TRIES and self._outage.error is None:
            at = time.monotonic() + backoff_sec(errand.tries - 1, random.random())
            heapq.heappush(self._waiting, (at, next(self._numbers), errand))
            return
        self._outage.feared(error, errand.begun_sec)
        self._end(errand, partial(errand.failed, error))

    def _end(self, errand: Errand[Any], tell: Callable[[], object]) -> None:
        self._bytes -= errand.bytes
        tell()
