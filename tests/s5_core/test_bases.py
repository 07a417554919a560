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
import trio.testing

from qarnotfs.errors import NotUploaded, Refused, Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import budget
from qarnotfs.writeback.staging import Staging
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCall, StoppedPut

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
        with trio.fail_after(30):
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
        with trio.fail_after(30):
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
        may_answer.wait(40)
        raise Unavailable("nobody waits any more")

    async def before(world: World) -> None:
        await world.write("big", b"EDIT", 100)
        with trio.fail_after(30):
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


def test_what_another_program_changed_in_a_later_version_is_no_base(
    store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has the file open since before somebody replaced it; nobody hears of the other's upload.

    What the first one changed cannot be put together any more: it is kept, and not mixed.
    """
    put(store, "big", LARGE)
    real, is_there, may_answer = store.complete_upload, threading.Event(), threading.Event()

    def complete_upload(*args: Any) -> None:
        real(*args)
        is_there.set()
        may_answer.wait(40)

    async def scene(world: World) -> None:
        handle = await world.open("big", os.O_RDWR)
        put(store, "big", LARGE[::-1])
        assert await world.read("big") == LARGE[::-1]
        monkeypatch.setattr(store, "complete_upload", complete_upload)
        await world.write("big", b"EDIT", 100)
        with trio.fail_after(30):
            while not is_there.is_set():
                await trio.sleep(0.001)
        await world.fs.write(handle, 300, b"MINE")
        await world.close(handle)
        with trio.fail_after(30):
            while not world.house.journal.failed:
                await trio.sleep(0.001)
        may_answer.set()
        assert not await world.drain()
        (kept,) = world.house.journal.failed
        assert kept.error is not None
        assert "replaced elsewhere" in kept.error

    play(scene, cache_ttl_sec=0, io_timeout_sec=20.0)
    assert bucket(store) == {"big": LARGE[::-1][:100] + b"EDIT" + LARGE[::-1][104:]}


def test_who_waits_for_a_file_that_must_come_after_an_open_one_is_told(
    store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log is rotated while it is written to; the new one is synced."""
    put(store, "log", LARGE)
    monkeypatch.setattr(budget, "WRITER_SEC", 0.05)

    async def scene(world: World) -> None:
        writer = await world.open("log", os.O_WRONLY)
        await world.fs.write(writer, len(LARGE), b"appended")
        await world.rename("log", "log.1")
        handle = await world.create("log")
        await world.fs.write(handle, 0, b"day two")
        with pytest.raises(NotUploaded, match=r"'log\.1' must be uploaded first, and is still"):
            await world.fs.fsync(handle)
        await world.close(writer)
        await world.fs.fsync(handle)
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"log.1": LARGE + b"appended", "log": b"day two"}


def test_who_waits_for_a_file_that_must_come_after_a_refused_one_is_told(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "log", LARGE)

    def refuse(*_: object, **__: object) -> str:
        raise Refused("Not allowed.")

    async def scene(world: World) -> None:
        store.create_upload = refuse  # type: ignore[method-assign]  # the server's part
        await world.write("log", b"appended", len(LARGE))
        await world.rename("log", "log.1")
        handle = await world.create("log")
        await world.fs.write(handle, 0, b"day two")
        with pytest.raises(NotUploaded, match=r"'log\.1' must be uploaded first, and cannot be"):
            await world.fs.fsync(handle)
        await world.close(handle)

    play(scene)
    assert bucket(store) == {"log": LARGE}


def test_a_name_is_free_again_when_what_builds_upon_it_can_never_be_uploaded(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "log", LARGE)

    async def scene(world: World) -> None:
        await world.write("log", b"appended", len(LARGE))
        put(store, "log", b"somebody else's")
        await world.rename("log", "log.1")
        with trio.fail_after(30):
            while not world.house.journal.failed:
                await trio.sleep(0.001)
        await world.write("log", b"day two")
        await world.drain()
        assert [debt.key for debt in world.house.journal.all()] == ["log.1"]

    play(scene)
    assert sorted(bucket(store).values()) == [b"day two", b"somebody else's"]


@pytest.mark.parametrize(
    ("renamed_during", "is_sent_again"),
    [("upload_part", False), ("complete_upload", False), ("complete_upload", True)],
)
def test_what_is_written_to_a_renamed_file_while_it_is_copied_here(
    renamed_during: str,
    is_sent_again: bool,
    store: MemoryStore,
    play: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its upload ends under the old name meanwhile, and is what it builds upon from then on."""
    put(store, "big", LARGE)
    clone, goes_on = Staging.clone, threading.Event()

    def cloning_slowly(*args: Any) -> Any:
        twin = clone(*args)
        goes_on.wait(40)
        return twin

    async def scene(world: World) -> None:
        monkeypatch.setattr(Staging, "clone", cloning_slowly)
        is_part = renamed_during == "upload_part"
        stopped = (StoppedPut if is_part else StoppedCall)(store, renamed_during)
        await world.write("big", b"E" * (9 << 20))
        await stopped.sent()
        handle = await world.open("big", os.O_WRONLY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.write, handle, 100, b"MORE")
            await trio.testing.wait_all_tasks_blocked()
            await world.rename("big", "other")
            stopped.arrive()
            with trio.fail_after(30):
                while world.house.journal.is_paying("big") or (
                    is_sent_again and world.house.journal.latest("other")
                ):
                    await trio.sleep(0.001)
            goes_on.set()
        await world.close(handle)
        assert await world.drain()

    play(scene)
    changed = b"E" * 100 + b"MORE" + b"E" * ((9 << 20) - 104) + LARGE[9 << 20 :]
    assert bucket(store) == {"other": changed}


def test_an_object_is_renamed_over_what_a_file_needs_whose_upload_fails(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The next try has younger bytes, and needs it as much."""
    put(store, "big", LARGE)
    put(store, "new", b"new")

    async def scene(world: World) -> None:
        await world.write("big", b"EDIT", 100)
        await world.rename("big", "other")
        completed = StoppedCall(store, "complete_upload", fails=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "new", "big")
            await completed.sent()
            await world.write("other", b"MORE", 200)
            copying_slowly(store)
            completed.arrive()
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    changed = EDITED[:200] + b"MORE" + EDITED[204:]
    assert bucket(store) == {"big": b"new", "other": changed}
