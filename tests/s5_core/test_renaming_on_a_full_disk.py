"""Renames on a disk that fills up, or that the mount dies upon before a file is closed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.errors import NoSpace, Unavailable
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import FullDisk, StoppedPut

Play = Callable[..., None]


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_written_after_a_rename_whose_end_a_full_disk_forgot(
    key: str, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"first")

    async def before(world: World) -> None:
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("a", "b")
        await world.write(key, b"WRITTEN")  # closed: on record, there is room again

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"first", key: b"WRITTEN"}


def test_written_after_a_rename_that_failed_on_a_full_disk(
    store: MemoryStore, play: Play, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"first")

    async def before(world: World) -> None:
        with monkeypatch.context() as patch:
            FullDisk(patch)
            store.faults = lambda m, _: Unavailable("not now") if m == "copy_object" else None
            with pytest.raises(Unavailable):
                await world.rename("a", "b")
            store.faults = lambda *_: None
        await world.write("b", b"WRITTEN")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    play(after)
    assert bucket(store) == {"a": b"first", "b": b"WRITTEN"}


async def renamed_on_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.mkdir("d")
    await world.write("d/a", b"closed")
    with monkeypatch.context() as patch:
        FullDisk(patch)
        await world.rename("d", "e")


def test_fsync_after_a_directory_was_renamed_on_a_full_disk(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        await renamed_on_a_full_disk(world, monkeypatch)
        handle = await world.open("e/a", os.O_RDWR)
        await world.fs.fsync(handle)
        assert bucket(store).get("e/a") == b"closed"

    play(scene, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_TRUNC])
def test_written_on_after_a_directory_was_renamed_on_a_full_disk(
    flags: int, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(world: World) -> None:
        await renamed_on_a_full_disk(world, monkeypatch)
        handle = await world.open("e/a", flags)
        await world.fs.write(handle, 0, b"NEW")  # and it is never closed

    async def after(world: World) -> None:
        await world.drain()
        assert world.house.journal.failed == []
        assert not list(world.house.journal.quarantine.glob("record*"))

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    found = {key: data for key, data in bucket(store).items() if data}
    assert list(found.values()) in ([b"closed"], [b"NEWsed"], [b"NEW"])


def test_fsync_of_a_directory_renamed_on_a_full_disk(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename of an object: its end of the old name is in memory alone, and nobody waits."""
    put(store, "a", b"x")

    async def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("a", "b")
        number = world.fs.opendir(await world.inode(""))
        await world.fs.fsyncdir(number)
        assert sorted(bucket(store)) == ["b"]

    play(scene, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
@pytest.mark.parametrize("end", ["dies", "closes", "is full"])
def test_a_file_that_is_written_anew_is_renamed(
    end: str, taken: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed stays, under the new name, until the new bytes are closed."""

    async def before(world: World) -> None:
        if taken:
            await world.write("b", b"replaced")
        await world.write("a", b"closed")
        handle = await world.open("a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"half")
        if end == "is full":
            with monkeypatch.context() as patch:
                FullDisk(patch)
                with pytest.raises(NoSpace):
                    await world.rename("a", "b")
            assert await world.read("a") == b"half"
            assert not taken or await world.read("b") == b"replaced"
        else:
            await world.rename("a", "b")
            assert await world.names() == ["b"]
        if end != "dies":
            await world.close(handle)
        if end == "closes":
            assert await world.drain()
            assert not list(world.house.journal.staging.directory.iterdir())

    async def after(world: World) -> None:
        assert await world.drain()
        assert not world.house.journal.findings or end == "dies"

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    if end == "is full":
        assert bucket(store) == {"a": b"half"} | ({"b": b"replaced"} if taken else {})
    else:
        assert bucket(store) == {"b": b"half" if end == "closes" else b"closed"}


def test_a_name_that_is_written_anew_after_a_full_disk_forgot_its_end(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As logs are rotated: the new file is still open when another one is closed."""
    put(store, "a", b"first")

    async def before(world: World) -> None:
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("a", "b")
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"not closed")
        await world.write("c", b"closed")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"first", "c": b"closed"}


def test_what_was_closed_is_renamed_onto_what_may_have_arrived(
    store: MemoryStore, play: Play
) -> None:
    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("b", b"older")
        handle = await world.open("b", os.O_RDWR)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            nursery.cancel_scope.cancel()
        stopped.arrive_unheard()
        stopped.fail()
        await world.close(handle)
        debt = world.house.journal.latest("b")
        while debt and not debt.attempts:
            await trio.sleep(0.001)
        await world.write("a", b"closed")
        handle = await world.open("a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"half")
        await world.rename("a", "b")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"closed"}


@pytest.mark.parametrize("closes", [False, True], ids=["dies", "closes"])
@pytest.mark.parametrize("disk", ["has room", "is full", "has room again"])
def test_a_directory_is_renamed_while_a_file_in_it_is_written_anew(
    disk: str, closes: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(world: World) -> None:
        await world.mkdir("d")
        await world.write("d/a", b"closed")
        handle = await world.open("d/a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"half")
        with monkeypatch.context() as patch:
            if disk != "has room":
                FullDisk(patch)
            await world.rename("d", "e")
        if disk == "has room again":
            await world.write("c", b"other")
        if closes:
            await world.close(handle)

    async def after(world: World) -> None:
        assert await world.drain()
        assert await world.names() == (["c", "e"] if disk == "has room again" else ["e"])
        assert await world.read("e/a") == (b"half" if closes else b"closed")

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)


@pytest.mark.parametrize("dies", [False, True])
def test_renamed_back_while_the_disk_fills_up(
    dies: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its name is not wanted any more: no later life may carry it out."""
    put(store, "a", b"first")

    async def before(world: World) -> None:
        await world.rename("a", "b")
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("b", "a")
        await world.write("c", b"there is room again")
        if not dies:
            assert await world.drain()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"a": b"first", "c": b"there is room again"}


def test_a_copy_is_renamed_over_what_was_changed_while_the_disk_fills_up(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"first")
    put(store, "a.bak", b"first")

    async def before(world: World) -> None:
        await world.write("a", b"WRONG")
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("a.bak", "a")
        assert await world.drain()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"a": b"first"}


def test_its_old_name_is_used_again_while_it_is_written_anew(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the full disk did not say of the rename is on record before that is."""

    async def before(world: World) -> None:
        await renamed_on_a_full_disk(world, monkeypatch)
        handle = await world.open("e/a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"half")
        await world.mkdir("d")
        await world.write("d/a", b"second")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"d/": b"", "d/a": b"second", "e/": b"", "e/a": b"closed"}
