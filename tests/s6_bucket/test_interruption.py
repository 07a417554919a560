"""Ctrl-C while a store takes bytes and never answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.syncplan import PART_BYTES
from tests.s6_bucket.stores import up, write
from tests.support import eventually


class Noted(Flight[str]):
    """One that says whether somebody has it, and did something with it."""

    is_kept = False

    def add_done_callback(self, fn: Callable[[Future[str]], object]) -> None:
        super().add_done_callback(fn)
        self.is_kept = True

    def result(self, timeout: float | None = None) -> str:
        self.is_kept = True
        return super().result(timeout)


class Hanging(MemoryStore):
    """A store that takes bytes and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: list[Noted] = []

    def _hang(self) -> Flight[str]:
        def abort() -> None:
            if not flight.done():
                flight.set_exception(Unavailable("given up"))

        flight = Noted(abort)
        self.flights.append(flight)
        return flight

    def put(self, *_: object, **__: object) -> Flight[str]:
        return self._hang()

    def upload_part(self, *_: object, **__: object) -> Flight[str]:
        return self._hang()


@pytest.mark.parametrize("size", [10, 3 * PART_BYTES])
def test_an_interruption_waits_for_nobody(tmp_path: Path, size: int) -> None:
    store = Hanging()
    root = write(tmp_path, a=bytes(size), b=bytes(size + 1))

    def interrupt() -> None:
        eventually(lambda: sum(flight.is_kept for flight in store.flights) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        up(store, root)
    thread.join()
    assert all(flight.done() for flight in store.flights)
    assert not any(worker.name.startswith("qarnotfs-bucket") for worker in threading.enumerate())
    uploads = [key for method, key in store.calls if method == "create_upload"]
    assert sorted(uploads) == sorted(key for m, key in store.calls if m == "abort_upload")
