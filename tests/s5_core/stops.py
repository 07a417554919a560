"""Calls of a `MemoryStore` that stop in the middle, until a test lets them go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio

from qarnotfs.core.namespace import Namespace
from qarnotfs.errors import NoSpace, Unavailable
from qarnotfs.store.base import Copied, Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.records import Records
from tests.s5_core.house import World


class StoppedPut:
    """The next PUT (or part, of ``key``) is carried out only when told to; later ones at once."""

    def __init__(self, store: MemoryStore, method: str = "put", key: str = "") -> None:
        self._store, self._method, self._key = store, method, key
        self._real: Callable[..., Flight[str]] = getattr(store, method)
        self._call: Callable[[], Any] | None = None
        self._flight: Flight[str] = Flight()
        setattr(store, method, self._put)

    def _put(self, *args: Any, **kwargs: Any) -> Flight[str]:
        if self._key not in ("", args[0]):
            return self._real(*args, **kwargs)
        setattr(self._store, self._method, self._real)
        self._call = lambda: self._real(*args, **kwargs)
        return self._flight

    async def sent(self) -> None:
        while self._call is None:
            await trio.sleep(0.001)

    def arrive_unheard(self) -> None:
        """It is carried out, and nobody learns of it."""
        assert self._call is not None
        self._call()

    def fail(self) -> None:
        """It never arrives, and its sender is told to try again."""
        self._flight.set_exception(Unavailable("not now"))

    def arrive(self) -> None:
        assert self._call is not None
        done = self._call()
        if error := done.exception():
            self._flight.set_exception(error)
        else:
            self._flight.set_result(done.result())


class StoppedCopy:
    """The next copy of a small object is made, and nobody hears of it before `go_on`.

    ``before``: it never arrives.
    """

    def __init__(self, store: MemoryStore, *, before: bool = False) -> None:
        self._store, self._real, self._before = store, store.copy_object, before
        self._flight: Flight[Copied] = Flight()
        self._made: Flight[Copied] | None = None
        store.copy_object = self._copy  # type: ignore[assignment, method-assign]  # the network's part

    def _copy(self, *args: Any) -> Flight[Copied]:
        self._store.copy_object = self._real  # type: ignore[method-assign]  # as it was
        self._made = self._flight if self._before else self._real(*args)
        return self._flight

    async def made(self) -> None:
        while self._made is None:
            await trio.sleep(0.001)

    def go_on(self) -> None:
        """If anybody still waits for it."""
        assert self._made is not None
        if not self._flight.cancelled():
            self._flight.set_result(self._made.result())


class StoppedCall:
    """The next blocking call of a method stops before it is carried out, or fails then."""

    def __init__(self, store: MemoryStore, method: str, *, fails: bool = False) -> None:
        self._go_on, self._begun = threading.Event(), threading.Event()
        real = getattr(store, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            setattr(store, method, real)
            self._begun.set()
            self._go_on.wait(10)
            if fails:
                raise Unavailable("not now")
            return real(*args, **kwargs)

        setattr(store, method, call)

    async def sent(self) -> None:
        while not self._begun.is_set():
            await trio.sleep(0.001)

    def arrive(self) -> None:
        self._go_on.set()


class FullDisk:
    """Only what was begun is on disk: from the copy on it is full, for the length of a rename."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        change = Records.change

        def only_begun(records: Records, written: Any, removed: Any, **more: Any) -> None:
            if written or removed or more.get("moved"):
                raise NoSpace("The disk that holds the journal is full.")
            change(records, written, removed, **more)

        patch.setattr(Records, "change", only_begun)


async def until_deletions_hang(world: World, store: MemoryStore) -> StoppedCall:
    """Of whatever is deleted from now on, none begins to go before this one arrives."""
    deleting = StoppedCall(store, "delete")
    await world.write("z", b"")
    assert await world.drain()
    await world.unlink("z")
    debt = world.house.journal.latest("z")
    assert debt
    world.house.journal.urge(debt)
    world.house.uploader.progressed()
    await deleting.sent()
    return deleting


@contextmanager
def failing_to_resume(store: MemoryStore, *, by: str = "head") -> Iterator[None]:
    """Lives that begin meanwhile cannot finish what was being renamed; their sessions go on.

    ``by``: the method that fails.
    """
    resume = Namespace.resume

    async def failing(self: Namespace) -> None:
        store.faults = lambda method, _: Unavailable("not now") if method == by else None
        with suppress(Unavailable):
            await resume(self)
        store.faults = lambda *_: None

    Namespace.resume = failing  # type: ignore[method-assign]  # for these lives
    try:
        yield
    finally:
        Namespace.resume = resume  # type: ignore[method-assign]  # as it was
