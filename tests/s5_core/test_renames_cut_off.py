"""A directory is renamed, and the mount dies at an awkward moment: the next life finishes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.errors import Refused
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.records import Records
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut, until_deletions_hang

Play = Callable[..., None]


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in bucket(store).items() if not key.endswith("/")}


async def drained(world: World) -> None:
    assert await world.drain()


def test_a_file_is_written_after_what_was_being_sent_of_it_was_copied(
    store: MemoryStore, play: Play
) -> None:
    """When the rename began its older bytes were on their way: they arrived, and were copied."""
    put(store, "d/a", b"a")
    put(store, "d/b", b"b")

    async def before(world: World) -> None:
        sending = StoppedPut(store)
        await world.write("d/a", b"older")
        await sending.sent()
        async with trio.open_nursery() as nursery:
            first = StoppedCopy(store)
            nursery.start_soon(world.rename, "d", "e")
            await first.made()
            sending.arrive()
            while world.house.journal.latest("d/a"):
                await trio.sleep(0.001)
            second = StoppedCopy(store)
            first.go_on()
            await second.made()
            assert bucket(store)["e/a"] == b"older"
            await world.write("d/a", b"newer")
            nursery.cancel_scope.cancel()
            second.go_on()

    play(before)
    play(drained)
    assert files(store) == {"e/a": b"newer", "e/b": b"b"}


@pytest.mark.parametrize("marker", [False, True], ids=["", "marker"])
@pytest.mark.parametrize("others", [False, True], ids=["copy", "theirs"])
def test_a_file_is_removed_while_its_directory_is_renamed(
    others: bool, marker: bool, store: MemoryStore, play: Play
) -> None:
    """It has been copied, and is not to come back; what others have stored there stays."""
    for name in ("a", "b", *(["sub/"] if marker else []), "sub/c"):
        put(store, f"d/{name}", b"" if name.endswith("/") else b"x")

    async def before(world: World) -> None:
        async with trio.open_nursery() as nursery:
            stopped = StoppedCopy(store)
            nursery.start_soon(world.rename, "d", "e")
            await stopped.made()
            while not {"e/b", "e/sub/c"} <= bucket(store).keys():
                await trio.sleep(0.001)
            await world.unlink("d/a")
            await world.unlink("d/sub/c")
            await world.rmdir("d/sub")
            nursery.cancel_scope.cancel()
            stopped.go_on()
        if others:
            put(store, "e/a", b"theirs")

    async def after(world: World) -> None:
        assert await world.drain()
        assert await world.tree("e") == ({"e/a": b"theirs"} if others else {}) | {"e/b": b"x"}

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert files(store) == ({"e/a": b"theirs"} if others else {}) | {"e/b": b"x"}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("fails", [False, True], ids=["done", "taken back"])
def test_the_mount_dies_when_the_end_of_a_rename_is_on_record(
    fails: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that failed, not everything was tried: all of it stays, or all of it moves."""
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        put(store, f"d/{name}", name.encode())
    real = Records.change

    def change(records: Records, *args: Any, **more: Any) -> None:
        real(records, *args, **more)
        if not more.get("begun"):
            raise Killed

    async def before(world: World) -> None:
        if fails:
            store.faults = lambda method, key: (
                Refused("Not allowed.") if method == "copy_object" and key == "d/05" else None
            )
        with monkeypatch.context() as patch:
            patch.setattr(Records, "change", change)
            with pytest.raises(Killed):
                await world.rename("d", "e")
        store.faults = lambda *_: None
        assert world.house.journal._records.moves() == []

    play(before, upload_delay_sec=NEVER_SEC)
    play(drained)
    assert files(store) == {f"{'d' if fails else 'e'}/{name}": name.encode() for name in names}


@pytest.mark.parametrize("marker", [False, True], ids=["", "marker"])
@pytest.mark.parametrize("is_owed", [False, True], ids=["stored", "owed"])
def test_the_mount_dies_renaming_a_directory_back(
    is_owed: bool, marker: bool, store: MemoryStore, play: Play
) -> None:
    """Deletions of the names it had before, and is to have again, are still owed.

    Some of them wait for what is owed under the names it has, and that for the rename.
    """
    put(store, "d/a", b"a")
    put(store, "d/b", b"b")
    if marker:
        put(store, "d/", b"")

    async def before(world: World) -> None:
        deleting = await until_deletions_hang(world, store)
        if is_owed:
            await world.write("d/a", b"A")
        await world.rename("d", "e")
        await world.write("e/new", b"new")
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "e", "d")
            await stopped.made()
            nursery.cancel_scope.cancel()
            stopped.go_on()
        deleting.arrive()

    async def after(world: World) -> None:
        assert await world.drain()
        assert await world.names("d") == ["a", "b", "new"]

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert files(store) == {"d/a": b"A" if is_owed else b"a", "d/b": b"b", "d/new": b"new"}


def test_a_directory_renamed_back_is_seen(store: MemoryStore, play: Play) -> None:
    """It has no object of its own, and the end of its name is still owed."""
    put(store, "d/sub/a", b"a")

    async def scene(world: World) -> None:
        deleting = await until_deletions_hang(world, store)
        await world.rename("d", "e")
        await world.rename("e", "d")
        assert await world.tree() == {"d": None, "d/sub": None, "d/sub/a": b"a"}
        deleting.arrive()
        assert await world.drain()
        assert await world.tree() == {"d": None, "d/sub": None, "d/sub/a": b"a"}

    play(scene, upload_delay_sec=NEVER_SEC)
    assert files(store) == {"d/sub/a": b"a"}
