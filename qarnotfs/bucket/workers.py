"""A few threads that can be stopped: for what waits long, large files and hashing.

Used by `upward` and `downward`; `transfer` asks here whether to go on. After Ctrl-C or a
failure nothing waits for a server: requests are given up, and a thread that hangs in one
all the same is left behind and does not keep the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from qarnotfs.errors import QarnotfsError
from qarnotfs.store.base import Flight

T = TypeVar("T")

STOP_SEC_MAX = 5.0  # for threads to end, once they are told


class Stopped(QarnotfsError):
    """The work of this thread is no longer wanted."""


class Stop:
    """Told to threads: do not begin anything, and what is on its way is given up."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()  # guards the flights
        self._flights: set[Flight[Any]] = set()

    def set(self) -> None:
        """From now on everything that asks is stopped."""
        self.event.set()
        with self._lock:
            flights = list(self._flights)
        for flight in flights:
            flight.abort()

    @contextmanager
    def watching(self, flight: Flight[Any]) -> Iterator[None]:
        """While the block waits for ``flight``."""
        with self._lock:
            self._flights.add(flight)
        try:
            if self.event.is_set():
                flight.abort()
            yield
        finally:
            with self._lock:
                self._flights.discard(flight)


_NEVER = Stop()
_here = threading.local()


def stop() -> Stop:
    """What stops this thread; one that nobody sets, outside of `each`."""
    told: Stop = getattr(_here, "stop", _NEVER)
    return told


def go_on() -> None:
    """Raise `Stopped` when this thread's work is no longer wanted."""
    if stop().event.is_set():
        raise Stopped("It was given up.")


def pause(sec: float) -> None:
    """Sleep, or raise `Stopped`."""
    stop().event.wait(sec)
    go_on()


def each(step: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Do ``step`` for each item in a few threads. What one raises stops all, and is raised."""
    todo = deque(items)
    halt = Stop()
    failures: list[BaseException] = []
    ended: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        _here.stop = halt
        try:
            while not halt.event.is_set() and (item := _next(todo)):
                step(item[0])
        except BaseException as error:  # raised again below, in the thread that waits
            failures.append(error)
        finally:
            ended.put(None)

    workers = [
        threading.Thread(target=work, name=f"qarnotfs-bucket-{number}", daemon=True)
        for number in range(min(threads, len(todo)))
    ]
    try:
        for worker in workers:
            worker.start()  # in here, too, Ctrl-C finds some of them at work
        for _ in workers:
            ended.get()
            if failures:
                raise failures[0]
    finally:
        halt.set()
        deadline = time.monotonic() + STOP_SEC_MAX
        for worker in filter(threading.Thread.is_alive, workers):
            worker.join(max(0.0, deadline - time.monotonic()))


def _next(todo: deque[T]) -> tuple[T] | None:
    """The first, which no other thread then has; ``None`` at the end."""
    try:
        return (todo.popleft(),)
    except IndexError:
        return None
