"""One flight per question: who comes while it is being asked shares the answer.

Used by `index`. An answer is given to those who waited for it, and kept for nobody. A question
that was sent too long ago answers nobody who comes now: he waits for the next one, which is
sent when it has ended, and shared by all who wait.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from qarnotfs.errors import StoreError

T = TypeVar("T")


class Once:
    """Questions that are being asked, by their names."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._flights: dict[object, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def __call__(
        self, name: object, ask: Callable[[], Awaitable[T]], age_sec_max: float = math.inf
    ) -> T:
        """What ``ask()`` returns or raises, to everybody who wants to know it now.

        ``age_sec_max``: how long before this call it may have been sent.
        """
        came_sec = self._now()
        while (flight := self._flights.get(name)) is not None:
            await flight.landed.wait()
            if flight.sent_sec < came_sec - age_sec_max:
                continue
            if flight.error is not None:
                raise flight.error
            if flight.answered:
                return flight.answer  # type: ignore[return-value]  # the name fixes the type
        flight = self._flights[name] = _Flight(self._now())
        try:
            answer = await ask()
            flight.answer, flight.answered = answer, True
            return answer
        except StoreError as error:
            flight.error = error
            raise
        finally:  # also when cancelled: then the next one who waits asks
            del self._flights[name]
            flight.landed.set()

    def __contains__(self, name: object) -> bool:
        return name in self._flights

    @contextmanager
    def several(self, names: Iterable[object]) -> Iterator[dict[object, object]]:
        """Questions that are asked together, none of them under way; the body puts answers in.

        What is without one is asked by whoever waits for it.
        """
        flights = {name: _Flight(self._now()) for name in names}
        self._flights |= flights
        answers: dict[object, object] = {}
        try:
            yield answers
        finally:
            for name, flight in flights.items():
                if name in answers:
                    flight.answer, flight.answered = answers[name], True
                del self._flights[name]
                flight.landed.set()


class _Flight:
    """One question that is being asked. ``landed`` is set by the one who asks, once."""

    def __init__(self, sent_sec: float) -> None:
        self.sent_sec = sent_sec
        self.landed = trio.Event()
        self.answered = False
        self.answer: object = None
        self.error: StoreError | None = None
