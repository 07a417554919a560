"""Files changed in part and renamed: what they build upon is still under their old name.

Each scene gives the old name to something else before the changed file is in the bucket.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.errors import Refused, Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put

LARGE = random.Random(1).randbytes(20 << 20)
EDITED = LARGE[:100] + b"EDIT" + LARGE[104:]
SLOW_SEC = 0.3  # so that what could overtake a copy does


def copying_slowly(store: MemoryStore) -> None:
    real, never = store.copy_part, threading.Event()

    def copy_part(*args: Any) -> str:
        never.wait(SLOW_SEC)
        return real(*args)

    store.copy_part = copy_part  # type: ignore[assignment, method-assign]  # the network's part


@pytest.mark.decision(9)
def test_another_object_takes_the_old_name(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "big", LARGE)
    put(store, "new", b"new")

    async def scene(world: World) -> None:
        await world.write("big", b"EDIT", 100)
        await world.rename("big", "big.bak")
        await world.rename("new", "big")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"big": b"new", "big.bak": EDITED}


def test_another_object_takes_the_old_name_while_parts_are_copied(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "big", LARGE)
    put(store, "new", b"new")

    async def scene(world: World) -> None:
        copying_slowly(store)
        await world.write("big", b"EDIT", 100)
        with trio.fail_after(5):
            while not store._uploads:
                await trio.sleep(0.001)
        await world.rename("big", "big.bak")
        await world.rename("new", "big")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"big": b"new", "big.bak": EDITED}


def test_logs_are_rotated_twice(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "log", LARGE)

    async def scene(world: World) -> None:
        await world.write("log", b"appended", len(LARGE))
        await world.rename("log", "log.1")
        await world.write("log", b"day two")
        await world.rename("log.1", "log.2")
        await world.rename("log", "log.1")
        copying_slowly(store)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"log.1": b"day two", "log.2": LARGE + b"appended"}


def test_the_number_of_a_paid_debt_is_waited_for_by_nobody(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """A deletion that waited for it must not wait for what gets the number next."""
    put(store, "x", b"xxxx")

    async def before(world: World) -> None:
        await world.write("x", b"X")
        await world.rename("x", "t")
        handle = await world.open("t", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"anew")
        await world.fs.flush(handle)
        await world.fs.fsync(handle)
        await world.close(handle)

    async def after(world: World) -> None:
        store.faults = lambda method, _: Unavailable("not now") if method == "delete" else None
        with trio.fail_after(5):
            while "delete" not in dict(store.calls):
                await trio.sleep(0.001)
        await world.write("x", b"made again")
        store.faults = lambda *_: None
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"t": b"anew", "x": b"made again"}


def test_a_refused_file_that_is_renamed_says_why(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    def refuse(*_: object, **__: object) -> Flight[str]:
        return Flight.failed(Refused("Not allowed."))

    async def scene(world: World) -> None:
        store.put = refuse  # type: ignore[method-assign]  # the server's part
        await world.write("f", b"x")
        assert not await world.drain()
        await world.rename("f", "g")
        debt = world.house.journal.latest("g")
        assert debt is not None
        assert debt.error == "Not allowed."

    play(scene)


@pytest.mark.parametrize("renamed", [False, True])
def test_what_was_changed_on_top_of_what_nobody_heard_of(
    renamed: bool, store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload is completed and the mount dies; meanwhile the file was changed once more."""
    put(store, "big", LARGE)
    real, is_there, may_answer = store.complete_upload, threading.Event(), threading.Event()

    def complete_upload(*args: Any) -> None:
        real(*args)
        is_there.set()
        may_answer.wait(10)
        raise Unavailable("nobody waits any more")

    async def before(world: World) -> None:
        await world.write("big", b"EDIT", 100)
        with trio.fail_after(5):
            while not is_there.is_set():
                await trio.sleep(0.001)
        await world.write("big", b"MORE", 200)
        if renamed:
            await world.rename("big", "other")

    async def after(world: World) -> None:
        assert await world.drain()

    with monkeypatch.context() as patch:
        patch.setattr(store, "complete_upload", complete_upload)
        play(before, io_timeout_sec=20.0)
    may_answer.set()
    play(after)
    changed = EDITED[:200] + b"MORE" + EDITED[204:]
    assert bucket(store) == {"other" if renamed else "big": changed}


@pytest.mark.parametrize("first", ["changed", "anew"])
def test_a_file_changed_in_part_and_one_written_anew_change_places(
    first: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    """The one needs what the other is to replace, and not the other way round."""
    put(store, "changed", LARGE)
    put(store, "anew", LARGE[::-1])
    second = "anew" if first == "changed" else "changed"

    async def scene(world: World) -> None:
        copying_slowly(store)
        await world.write("changed", b"EDIT", 100)
        handle = await world.open("anew", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, LARGE[1:])
        await world.close(handle)
        await world.rename(first, "t")
        await world.rename(second, first)
        await world.rename("t", second)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"changed": LARGE[1:], "anew": EDITED}
