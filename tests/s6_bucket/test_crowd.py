"""Many requests at once: bounded in number, bytes and time; and threads that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from qarnotfs.bucket import crowd, transfer, workers
from qarnotfs.errors import Refused, Unavailable
from qarnotfs.store.base import Flight


def silent() -> Flight[int]:
    """A request that nobody answers."""

    def abort() -> None:
        if not flight.done():
            flight.set_exception(Unavailable("given up"))

    flight: Flight[int] = Flight(abort)
    return flight


class Answers:
    """Requests that are answered by a thread, ``together`` at a time, or not at all.

    ``together`` of 0: each is answered when it is sent, whatever the clock says.
    """

    def __init__(self, count: int, size: int = 0, silent: int = 0, together: int = 1) -> None:
        self.count = count
        self.size = size
        self.silent = silent  # so many are not answered at all
        self.flying = self.most = self.sent = 0
        self.together, self.held = together, list[tuple[Flight[int], int]]()
        self.landed: list[int] = []
        self.failed: list[Exception] = []

    def errands(self) -> Iterator[crowd.Errand[int]]:
        for number in range(self.count):
            yield crowd.Errand(
                self.size,
                partial(self._send, number),
                self.landed.append,
                self.failed.append,
            )

    def _send(self, number: int) -> Flight[int]:
        self.sent += 1
        self.flying += 1
        self.most = max(self.most, self.flying)

        flight = silent()
        flight.add_done_callback(lambda _: self._ended())
        if self.silent:
            self.silent -= 1
            return flight
        if not self.together:
            flight.set_result(number)
            return flight
        self.held.append((flight, number))
        if len(self.held) == self.together:
            threading.Timer(0.001, self._answer, [self.held]).start()
            self.held = []
        return flight

    def _answer(self, held: list[tuple[Flight[int], int]]) -> None:
        for flight, number in held:
            flight.set_result(number)

    def _ended(self) -> None:
        self.flying -= 1


def test_it_is_bounded_in_number() -> None:
    answers = Answers(300)
    crowd.run(answers.errands(), crowd.Outage())
    assert sorted(answers.landed) == list(range(300))
    assert 1 < answers.most <= crowd.IN_FLIGHT_MAX


def test_it_is_bounded_in_bytes() -> None:
    answers = Answers(20, size=crowd.IN_FLIGHT_BYTES_MAX // 4, together=4)
    crowd.run(answers.errands(), crowd.Outage())
    assert len(answers.landed) == 20
    assert answers.most == 4


def test_what_is_not_answered_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "CALL_SEC", 0.1)
    answers = Answers(10, silent=3, together=0)
    crowd.run(answers.errands(), crowd.Outage())
    assert sorted(answers.landed) == list(range(10))
    assert (answers.sent, answers.flying) == (13, 0)


def test_a_defect_is_raised_and_what_flies_is_given_up() -> None:
    answers = Answers(30, silent=29)

    def broken(value: int) -> None:
        raise ZeroDivisionError

    def errands() -> Iterator[crowd.Errand[int]]:
        for errand in answers.errands():
            errand.landed = broken
            yield errand

    with pytest.raises(ZeroDivisionError):
        crowd.run(errands(), crowd.Outage())
    assert answers.flying == 0


# --- threads ------------------------------------------------------------------------------


def test_each_item_is_done_once_by_a_few_threads() -> None:
    done: list[int] = []
    names = set()

    def step(item: int) -> None:
        names.add(threading.current_thread().name)
        done.append(item)

    workers.each(step, range(100), 3)
    assert sorted(done) == list(range(100))
    assert len(names) <= 3
    workers.each(step, [], 3)


def test_what_one_raises_stops_the_others_where_they_wait() -> None:
    waiting = threading.Event()
    stopped: list[Exception] = []

    def step(item: int) -> None:
        if item == 0:
            waiting.wait(10)
            raise Refused("no")
        flight = silent()
        try:
            waiting.set()
            transfer.patiently(lambda: flight)
        except Exception as error:
            stopped.append(error)

    with pytest.raises(Refused, match="no"):
        workers.each(step, range(100), 2)
    assert [type(error) for error in stopped] == [workers.Stopped]


def test_a_stopped_thread_does_not_sleep_or_hash_on() -> None:
    def step(item: int) -> None:
        if item == 0:
            raise Refused("no")
        workers.pause(60)

    with pytest.raises(Refused):
        workers.each(step, range(2), 2)
    assert not any(thread.name.startswith("qarnotfs-bucket") for thread in threading.enumerate())
