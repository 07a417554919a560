"""A directory is renamed, and something comes in between: a death, a failure, somebody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from qarnotfs.core.moving import COPIES_MAX
from qarnotfs.errors import NoSpace, Refused
from qarnotfs.store.base import ListPage
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.adoption import claim
from qarnotfs.writeback.records import Records
from tests.s5_core.house import CALLER, NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut
from tests.support import eventually

Play = Callable[..., None]
NAMES = ("a", "b", "sub/c")
MOVED = {f"e/{name}": name.encode() for name in NAMES}


def fill(store: MemoryStore) -> None:
    for name in NAMES:
        put(store, f"d/{name}", name.encode())


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in bucket(store).items() if not key.endswith("/")}


async def die_renaming(world: World, store: MemoryStore) -> None:
    """Some objects have been copied, and the call has not returned."""
    stopped = StoppedCopy(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.rename, "d", "e")
        await stopped.made()
        with trio.fail_after(30):
            while not {"e/a", "e/b"} <= set(bucket(store)):
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        stopped.go_on()


@pytest.mark.decision(9)
def test_the_next_life_finishes_it(store: MemoryStore, play: Play) -> None:
    fill(store)
    put(store, "d/", b"")

    async def before(world: World) -> None:
        await die_renaming(world, store)
        store.delete(["e/sub/c"])  # which was not copied yet

    async def after(world: World) -> None:
        assert [name for name in await world.tree() if "/" not in name] == ["e"]
        assert {p: d for p, d in (await world.tree()).items() if d is not None} == MOVED
        assert await world.drain()
        assert world.house.journal._records.moves() == []

    play(before)
    play(after)
    assert files(store) == MOVED


def test_what_is_owed_moves_along(store: MemoryStore, play: Play) -> None:
    fill(store)

    async def before(world: World) -> None:
        await world.write("d/new", b"new")
        await die_renaming(world, store)

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert files(store) == MOVED | {"e/new": b"new"}


def test_what_was_being_sent_moves_along(store: MemoryStore, play: Play) -> None:
    """A newer version than the one that was listed arrives, and is copied."""
    fill(store)

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("d/a", b"A")
        await stopped.sent()
        store.clock = lambda: 10.0**10  # a later second
        async with trio.open_nursery() as nursery:
            copying = StoppedCopy(store)
            nursery.start_soon(world.rename, "d", "e")
            await copying.made()
            stopped.arrive()
            with trio.fail_after(30):
                while "e/a" not in bucket(store) and "e/b" not in bucket(store):
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
            copying.go_on()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    play(after)
    assert files(store) == MOVED | {"e/a": b"A"}


@pytest.mark.decision(9)
def test_what_others_changed_since_stays_where_it_is(store: MemoryStore, play: Play) -> None:
    fill(store)

    async def before(world: World) -> None:
        await die_renaming(world, store)

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    put(store, "e/a", b"theirs")
    store.clock = lambda: 10.0**10  # a later second
    put(store, "d/b", b"b")
    play(after)
    assert files(store) == {
        "d/a": b"a", "e/a": b"theirs", "d/b": b"b", "e/b": b"b", "e/sub/c": b"sub/c",
    }  # fmt: skip


def test_another_mount_finishes_what_a_dead_one_began(
    store: MemoryStore, play: Play, tmp_path: Path
) -> None:
    fill(store)
    (journals,) = {journal.parent for journal in _journals(play, tmp_path)}
    living = claim(journals)

    async def before(world: World) -> None:
        assert world.house.journal.directory != living[0].directory
        await die_renaming(world, store)

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    living[0].close()
    living[1].release()
    play(after)
    assert files(store) == MOVED


def _journals(play: Play, directory: Path) -> list[Path]:
    async def nothing(_: World) -> None:
        """The journal is made."""

    play(nothing)
    return list(directory.glob("cache/*/journals/*"))


@pytest.mark.decision(9)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_failure_takes_the_copies_back(at_once: bool, store: MemoryStore, play: Play) -> None:
    """So that it can be tried again, also before they are gone from the bucket."""
    fill(store)

    def refuse(method: str, key: str) -> Refused | None:
        return Refused("Not allowed.") if method == "copy_object" and key == "d/b" else None

    async def scene(world: World) -> None:
        store.faults = refuse
        with pytest.raises(Refused):
            await world.rename("d", "e")
        store.faults = lambda *_: None
        assert "e/sub/c" in bucket(store)
        if not at_once:
            assert await world.drain()
            assert sorted(bucket(store)) == [f"d/{name}" for name in NAMES]
        assert sorted(await world.tree()) == ["d", "d/a", "d/b", "d/sub", "d/sub/c"]
        await world.rename("d", "e")
        assert await world.drain()
        assert world.house.journal._records.moves() == []

    play(scene, upload_delay_sec=NEVER_SEC)
    assert files(store) == MOVED


def test_the_old_names_go_at_once(store: MemoryStore, play: Play) -> None:
    """Of a whole directory no program is about to use the names again, as of a single file."""
    put(store, "d/a", b"x")

    async def scene(world: World) -> None:
        await world.rename("d", "e")
        with trio.fail_after(30):
            while files(store) != {"e/a": b"x"}:
                await trio.sleep(0.001)

    play(scene, upload_delay_sec=NEVER_SEC)


def test_what_was_removed_before_goes_with_its_directory(store: MemoryStore, play: Play) -> None:
    """Else the directory would be seen again until that is deleted, too."""
    put(store, "d/a", b"x")
    put(store, "d/b", b"x")

    async def scene(world: World) -> None:
        await world.unlink("d/a")
        await world.rename("d", "e")
        with trio.fail_after(30):
            while "d/" in bucket(store) or "d/b" in bucket(store):
                await trio.sleep(0.001)
        assert await world.names() == ["e"]
        assert files(store) == {"e/b": b"x"}

    play(scene, upload_delay_sec=NEVER_SEC)


@pytest.mark.decision(10)
def test_a_removed_directory_stays_hidden_while_what_was_in_it_is_open(
    store: MemoryStore, play: Play
) -> None:
    put(store, "d/a", b"x")

    async def scene(world: World) -> None:
        handle = await world.open("d/a")
        await world.unlink("d/a")
        await world.rmdir("d")
        await world.write("later", b"x")
        with trio.fail_after(30):
            while "later" not in bucket(store):
                await trio.sleep(0.001)
        assert await world.names() == ["later"]
        assert await world.fs.read(handle, 0, 10) == b"x"
        await world.close(handle)
        with trio.fail_after(30):
            while "d/a" in bucket(store):
                await trio.sleep(0.001)
        assert await world.names() == ["later"]
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"later": b"x"}


@pytest.mark.decision(10)
def test_a_directory_is_renamed_while_what_was_removed_from_it_is_open(
    store: MemoryStore, play: Play
) -> None:
    put(store, "d/a", b"x")
    put(store, "d/b", b"x")

    async def scene(world: World) -> None:
        handle = await world.open("d/a")
        await world.unlink("d/a")
        await world.rename("d", "e")
        with trio.fail_after(30):
            while "d/b" in bucket(store):
                await trio.sleep(0.001)
        assert await world.names() == ["e"]
        assert await world.fs.read(handle, 0, 10) == b"x"
        await world.close(handle)
        assert await world.drain()
        assert await world.names() == ["e"]

    play(scene, upload_delay_sec=NEVER_SEC)
    assert files(store) == {"e/b": b"x"}


@pytest.mark.parametrize("directory", [False, True])
def test_a_link_stays_one_where_nobody_asks_for_attributes(
    directory: bool, store: MemoryStore, play: Play
) -> None:
    """What was known of a file is known of it under its new name."""

    async def scene(world: World) -> None:
        await world.mkdir("d")
        parent, name = await world.parent("d/link")
        await world.fs.names.symlink(parent, name, b"target", CALLER)
        assert await world.drain()
        await world.rename(*(("d", "e") if directory else ("d/link", "d/other")))
        inode = await world.inode("e/link" if directory else "d/other")
        assert await world.fs.names.readlink(inode) == b"target"
        assert await world.drain()
        await world.fs.lookup.getattr(inode)
        assert await world.fs.names.readlink(inode) == b"target"

    play(scene, attrs="listing")


def test_after_a_failure_no_copy_is_begun(store: MemoryStore, play: Play) -> None:
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        put(store, f"d/{name}", b"x")

    def refuse(method: str, key: str) -> Refused | None:
        return Refused("Not allowed.") if method == "copy_object" and key == "d/000" else None

    async def scene(world: World) -> None:
        store.faults = refuse
        with pytest.raises(Refused):
            await world.rename("d", "e")
        assert sum(method == "copy_object" for method, _ in store.calls) < 2 * COPIES_MAX
        store.faults = lambda *_: None
        assert await world.drain()
        assert await world.names("d") == names

    play(scene)
    assert sorted(bucket(store)) == [f"d/{name}" for name in names]


def test_a_full_disk_is_no_half_rename(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)

    def full(*_: object, **__: object) -> None:
        raise NoSpace("The disk that holds the journal is full.")

    async def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Records, "change", full)
            with pytest.raises(NoSpace):
                await world.rename("d", "e")
        assert sorted(bucket(store)) == [f"d/{name}" for name in NAMES]
        await world.rename("d", "e")
        assert await world.drain()

    play(scene)
    assert files(store) == MOVED


def test_a_rename_that_a_full_disk_remembers_is_not_done_again(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end could not be recorded. A file that then gets the old name is another one."""
    fill(store)
    change = Records.change

    def only_debts(records: Records, written: Any, removed: Any, **more: Any) -> None:
        more["moved"] = ()
        change(records, written, removed, **more)

    async def before(world: World) -> None:
        monkeypatch.setattr(Records, "change", only_debts)
        await world.rename("d", "e")
        assert await world.drain()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    monkeypatch.undo()
    store.clock = lambda: 10.0**10  # a later second
    put(store, "d/a", b"a")
    play(after)
    assert files(store) == MOVED | {"d/a": b"a"}


def test_a_directory_that_is_stored_while_it_is_listed_moves_along(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the list has its marker, nor is that owed any more when the list is there."""
    put(store, "d/", b"")

    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.mkdir("d/open")
        await stopped.sent()
        real, journal = store.list_page, world.house.journal

        def list_page(*args: Any, **kwargs: Any) -> ListPage:
            page = real(*args, **kwargs)
            monkeypatch.undo()
            stopped.arrive()
            eventually(lambda: journal.latest("d/open/") is None)
            return page

        monkeypatch.setattr(store, "list_page", list_page)
        await world.rename("d", "e")
        assert sorted(await world.tree()) == ["e", "e/open"]
        assert await world.drain()

    play(scene)
    assert set(bucket(store)) == {"e/", "e/open/"}
