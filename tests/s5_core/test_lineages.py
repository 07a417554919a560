"""Whose bytes are whose: what one program changed never passes for what another did.

Lives that end between two records, files that change places, attributes that come late, and
disks that are full when a rename has happened already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest
import trio
import trio.testing

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import NoSpace, NotUploaded, Refused
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.records import Records
from qarnotfs.writeback.uploader import Uploader
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import FullDisk, StoppedCopy, StoppedPut
from tests.s5_core.test_bases import LARGE

Play = Callable[..., None]
EDITED = {name: LARGE[:100] + name.encode() + LARGE[101:] for name in "ab"}


def full(*_: object, **__: object) -> None:
    raise NoSpace("The disk that holds the journal is full.")


def mode_of(store: MemoryStore, key: str) -> int:
    return stat.S_IMODE(int((store.head(key).result().metadata or {})["mode"]))


async def chmod(world: World, path: str, mode: int) -> None:
    await world.fs.setattr(await world.inode(path), Changes(mode=mode))


# --- our own earlier tries ---


def test_a_file_of_a_former_life_that_had_arrived_is_changed(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is tried again. What it meets in the bucket are its own older bytes."""

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        stopped.arrive_unheard()

    async def after(world: World) -> None:
        await world.write("a", b"two")
        monkeypatch.undo()
        assert await world.drain()
        assert world.house.uploader.conflicts == []

    play(before)
    monkeypatch.setattr(Uploader, "_payable", lambda *_: False)
    play(after)
    assert bucket(store) == {"a": b"two"}


def test_a_life_ends_right_after_one_of_two_uploads_is_confirmed(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored, and that younger bytes replace it, is known at once or not at all."""
    change, paid = Records.change, list[bool]()

    def once(records: Records, *args: object, **kwargs: object) -> None:
        change(records, *args, **kwargs)  # type: ignore[arg-type]  # handed on as they are
        paid.append(True)
        monkeypatch.setattr(Records, "change", full)

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        await world.write("a", b"two")
        monkeypatch.setattr(Records, "change", once)
        stopped.arrive()
        with trio.fail_after(30):
            while not paid:
                await trio.sleep(0.001)
        assert bucket(store) == {"a": b"one"}

    async def after(world: World) -> None:
        assert await world.drain()
        assert world.house.uploader.conflicts == []

    play(before)
    monkeypatch.setattr(Records, "change", change)
    play(after)
    assert bucket(store) == {"a": b"two"}


# --- others' ---


def test_a_file_that_was_replaced_is_written_after_another_was_closed(
    store: MemoryStore, play: Play
) -> None:
    """Three versions of one name: what was opened, somebody else's, and another program's."""
    put(store, "a", b"opened")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        put(store, "a", b"somebody")
        second = await world.open("a", os.O_RDWR)
        put(store, "a", b"somebody else")
        await world.read("a")
        await world.write("a", b"another's tale")
        for one, data in ((handle, b"OPENED"), (second, b"OPENED AGAIN")):
            await world.fs.write(one, 0, data)
            await world.close(one)
        await world.fs.fsync(await world.open("a"))
        assert await world.drain()
        first, other = world.house.uploader.conflicts
        assert first.startswith("a.conflict-")
        assert bucket(store) == {
            "a": b"another's tale", first: b"OPENED", other: b"OPENED AGAIN",
        }  # fmt: skip

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


# --- changing places ---


@pytest.mark.parametrize("below", ["", "/x"], ids=["files", "directories"])
def test_what_was_changed_in_part_changes_places(
    below: str, store: MemoryStore, play: Play
) -> None:
    """Two large files, or the directories they are in."""
    put(store, f"a{below}", LARGE)
    put(store, f"b{below}", LARGE[::-1])

    async def scene(world: World) -> None:
        await world.write(f"a{below}", b"a", 100)
        await world.write(f"b{below}", b"b", 100)
        await world.rename("a", "aside")
        await world.rename("b", "a")
        await world.rename("aside", "b")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    theirs = LARGE[::-1]
    assert bucket(store) == {
        f"a{below}": theirs[:100] + b"b" + theirs[101:],
        f"b{below}": EDITED["a"],
    }


def test_a_file_that_is_being_written_cannot_change_places(store: MemoryStore, play: Play) -> None:
    """It would have to be uploaded first: an error, and both keep their names and bytes."""
    put(store, "a", LARGE)
    put(store, "b", LARGE[::-1])

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 100, b"a")
        await world.write("b", b"b", 100)
        await world.rename("a", "aside")
        await world.rename("b", "a")
        with pytest.raises(NotUploaded, match="changes places"):
            await world.rename("aside", "b")
        await world.close(handle)
        await world.rename("aside", "b")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    theirs = LARGE[::-1]
    assert bucket(store) == {"a": theirs[:100] + b"b" + theirs[101:], "b": EDITED["a"]}


# --- attributes that come late ---


@pytest.mark.parametrize("directory", [True, False])
def test_a_mode_is_changed_while_the_file_is_copied(
    directory: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "d/a", b"x")

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        await world.inode("d/a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, *(("d", "e") if directory else ("d/a", "d/b")))
            await stopped.made()
            await chmod(world, "d/a", 0o600)
            stopped.go_on()
        assert await world.drain()

    play(scene)
    assert mode_of(store, "e/a" if directory else "d/b") == 0o600


def test_a_directory_is_renamed_while_its_marker_is_asked_for(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "d/sub/", b"")
    put(store, "d/sub/a", b"x")

    async def scene(world: World) -> None:
        finder, renamed = world.fs.lookup.finder, trio.Event()
        marker = finder.marker
        sub = await world.inode("d/sub")

        async def slow(directory: str, *, asks: bool = True) -> object:
            found = await marker(directory, asks=asks)
            if sub.posix.mode == stat.S_IFDIR | 0o700:  # not before it is to be stored
                monkeypatch.setattr(finder, "marker", marker)
                await renamed.wait()
            return found

        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(finder, "marker", slow)
            nursery.start_soon(world.fs.setattr, sub, Changes(mode=0o700))
            await trio.testing.wait_all_tasks_blocked()
            await world.rename("d", "e")
            renamed.set()
        assert await world.drain()

    play(scene)
    assert sorted(bucket(store)) == ["e/sub/", "e/sub/a"]
    assert mode_of(store, "e/sub/") == 0o700


def test_a_directory_is_changed_while_somebody_looks_at_it(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is of before the change: the kernel must not be told it afterwards."""
    put(store, "d/", b"")

    async def scene(world: World) -> None:
        finder, changed = world.fs.lookup.finder, trio.Event()
        marker, directory = finder.marker, await world.inode("d")

        async def slow(path: str, *, asks: bool = True) -> object:
            monkeypatch.setattr(finder, "marker", marker)
            found = await marker(path, asks=asks)
            await changed.wait()
            return found

        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(finder, "marker", slow)
            nursery.start_soon(world.fs.lookup.getattr, directory)
            await trio.testing.wait_all_tasks_blocked()
            await world.fs.setattr(directory, Changes(mtime_ns=5 * 10**9))
            changed.set()
        assert directory.posix.mtime_ns == 5 * 10**9

    play(scene)


def test_a_mode_changed_while_the_file_is_sent_survives_what_is_written_next(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        await chmod(world, "a", 0o600)
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 0, b"two")  # and is never closed
        stopped.arrive()
        with trio.fail_after(30):
            while world.house.journal.is_paying("a"):
                await trio.sleep(0.001)

    play(scene)
    play(World.drain)
    assert bucket(store) == {"a": b"one"}
    assert mode_of(store, "a") == 0o600


def test_a_mode_that_was_refused_is_tried_again_when_it_is_changed(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"x")

    def refuse(method: str, _: str) -> Refused | None:
        return Refused("Not allowed.") if method == "copy_object" else None

    async def scene(world: World) -> None:
        store.faults = refuse
        await chmod(world, "a", 0o600)
        await world.drain()
        store.faults = lambda *_: None
        await chmod(world, "a", 0o640)
        assert await world.drain()

    play(scene)
    assert mode_of(store, "a") == 0o640


# --- waiting for what gave way ---


def test_who_waits_for_a_directory_waits_for_the_younger_of_two_files(
    store: MemoryStore, play: Play
) -> None:
    """The older one fails once, and gives way."""

    async def scene(world: World) -> None:
        await world.mkdir("d")
        assert await world.drain()
        stopped = StoppedPut(store)
        await world.write("d/a", b"one")
        await stopped.sent()
        directory = world.fs.opendir(await world.inode("d"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsyncdir, directory)
            await trio.testing.wait_all_tasks_blocked()
            await world.write("d/a", b"two")
            stopped.fail()
        assert bucket(store)["d/a"] == b"two"

    play(scene)


# --- full disks ---


def test_a_full_disk_after_the_copy_does_not_undo_the_rename(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"a's")
    put(store, "b", b"b's")

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        await world.read("b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.made()
            monkeypatch.setattr(Records, "change", full)
            stopped.go_on()
        assert await world.tree() == {"b": b"a's"}
        monkeypatch.undo()
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"a's"}


def test_a_directory_is_renamed_as_a_whole_on_a_full_disk(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash would find its files under their old names."""
    contents = {f"d/{name}": name.encode() for name in "abc"}

    async def scene(world: World) -> None:
        await world.mkdir("d")
        for path, data in contents.items():
            await world.write(path, data)
        with monkeypatch.context() as patch:
            FullDisk(patch)
            await world.rename("d", "e")
        assert await world.tree() == {"e": None} | {
            path.replace("d/", "e/"): data for path, data in contents.items()
        }
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    found = {path.replace("d/", "e/"): data for path, data in contents.items()}
    assert {key: data for key, data in bucket(store).items() if data} == found
