"""A rename, and one of a directory above it, or of one that others have made."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qarnotfs.errors import DirectoryNotEmpty, EntryExists, InvalidName, NoSuchEntry
from qarnotfs.store.base import ListPage
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut

Play = Callable[..., None]


def looked_up(world: World, inode: Any) -> Any:
    inode.lookups += 1
    return inode


async def meet(
    world: World, stopped: StoppedCopy, first: tuple[str, str], second: tuple[str, str]
) -> None:
    """A rename begins while another one copies."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.rename, *first)
        await stopped.made()
        nursery.start_soon(world.rename, *second)
        await wait_all_tasks_blocked()
        stopped.go_on()


async def files(world: World) -> dict[str, bytes | None]:
    return {path: data for path, data in (await world.tree()).items() if data is not None}


def test_a_directory_is_renamed_while_the_one_it_is_in_is_renamed(
    store: MemoryStore, play: Play
) -> None:
    put(store, "p/q/x", b"x")
    put(store, "p/y", b"y")

    async def scene(world: World) -> None:
        looked_up(world, await world.inode("p"))
        looked_up(world, await world.inode("p/q"))
        looked_up(world, await world.inode("p/q/x"))
        p = await world.inode("p")
        stopped = StoppedCopy(store)
        await meet(world, stopped, ("p/q", "p/s"), ("p", "z"))
        assert p.name == b"z"
        assert await world.drain()
        assert await files(world) == {"z/s/x": b"x", "z/y": b"y"}

    play(scene)


def test_a_file_is_moved_to_a_directory_while_the_one_that_is_in_is_renamed(
    store: MemoryStore, play: Play
) -> None:
    put(store, "p/a", b"a")
    put(store, "s/t/other", b"o")

    async def scene(world: World) -> None:
        for path in ("p", "p/a", "s", "s/t"):
            looked_up(world, await world.inode(path))
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "p/a", "s/t/b")
            await stopped.made()
            await world.rename("s", "w")
            stopped.go_on()
        assert await world.drain()
        assert await files(world) == {
            "w/t/b": b"a",
            "w/t/other": b"o",
        }

    play(scene)


def test_a_directory_is_moved_to_one_while_the_one_that_is_in_is_renamed(
    store: MemoryStore, play: Play
) -> None:
    put(store, "p/a/x", b"a")
    put(store, "s/t/other", b"o")

    async def scene(world: World) -> None:
        for path in ("p", "p/a", "s", "s/t"):
            looked_up(world, await world.inode(path))
        stopped = StoppedCopy(store)
        await meet(world, stopped, ("p/a", "s/t/b"), ("s", "w"))
        assert await world.drain()
        assert await files(world) == {
            "w/t/b/x": b"a",
            "w/t/other": b"o",
        }

    play(scene)


class LateCopy(StoppedCopy):
    """The next copy is carried out only when told to."""

    def _copy(self, *args: Any) -> Any:
        self._store.copy_object = self._real  # type: ignore[method-assign]  # for one call
        self._made, self._args = self._flight, args
        return self._flight

    def go_on(self) -> None:
        done = self._real(*self._args)
        if error := done.exception():
            self._flight.set_exception(error)
        else:
            self._flight.set_result(done.result())


@pytest.mark.parametrize("what", ["file", "directory"])
def test_it_is_moved_late_to_a_directory_while_the_one_that_is_in_is_renamed(
    what: str, store: MemoryStore, play: Play
) -> None:
    put(store, "p/a" if what == "file" else "p/a/x", b"a")
    put(store, "s/t/other", b"o")

    async def scene(world: World) -> None:
        for path in ("p", "p/a", "s", "s/t"):
            looked_up(world, await world.inode(path))
        stopped = LateCopy(store)
        await meet(world, stopped, ("p/a", "s/t/b"), ("s", "w"))
        assert await world.drain()
        assert await files(world) == {
            "w/t/b" if what == "file" else "w/t/b/x": b"a",
            "w/t/other": b"o",
        }

    play(scene)


def test_a_rename_whose_directory_has_moved_meanwhile_leaves_usable_directories(
    store: MemoryStore, play: Play
) -> None:
    put(store, "p/q/x", b"x")

    async def scene(world: World) -> None:
        for path in ("p", "p/q", "p/q/x"):
            looked_up(world, await world.inode(path))
        stopped = LateCopy(store)
        await meet(world, stopped, ("p/q", "p/s"), ("p", "z"))
        await world.write("z/s/new", b"new")
        assert await world.drain()
        assert {k for k in bucket(store) if not k.endswith("/")} == {"z/s/x", "z/s/new"}

    play(scene)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_nameless_file_below_a_directory_that_is_renamed_is_synced(
    how: str, store: MemoryStore, play: Play
) -> None:
    put(store, "old/log", b"base")
    put(store, "old/other", b"other")

    async def scene2(world: World) -> None:
        handle = await world.open("old/log", os.O_RDWR)
        looked_up(world, await world.inode("old"))
        if how == "deleted":
            store.delete(["old/log"])
            with pytest.raises(NoSuchEntry):
                await world.inode("old/log")
        else:
            put(store, "old/log", b"theirs")
            await world.inode("old/log")
        await world.fs.write(handle, 0, b"ours")
        await world.rename("old", "new")
        await world.fs.write(handle, 4, b"more")
        await world.fs.fsync(handle)
        assert b"oursmore" in bucket(store).values()
        await world.close(handle)
        assert await world.drain()

    play(scene2, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


def test_a_clean_nameless_file_below_a_renamed_directory_is_written_to(
    store: MemoryStore, play: Play
) -> None:
    put(store, "old/log", b"base")
    put(store, "old/other", b"other")

    async def scene(world: World) -> None:
        handle = await world.open("old/log", os.O_RDWR)
        looked_up(world, await world.inode("old"))
        store.delete(["old/log"])
        with pytest.raises(NoSuchEntry):
            await world.inode("old/log")
        await world.rename("old", "new")
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        assert await world.drain()
        assert await world.names() == ["new"]

    play(scene, cache_ttl_sec=0)


def test_a_directory_renamed_to_the_name_of_an_object_beside_one_is_not_merged_into_that(
    store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"d's")
    put(store, "y/x", b"y's")

    async def scene(world: World) -> None:
        with pytest.raises(InvalidName):
            await world.rename("d", "y%FILE")
        assert await world.drain()
        assert bucket(store)["y/x"] == b"y's"

    play(scene)


def test_a_file_renamed_to_the_name_of_an_object_beside_a_directory_that_is_not_there(
    store: MemoryStore, play: Play
) -> None:
    put(store, "x", b"x")
    put(store, "y", b"y")

    async def scene(world: World) -> None:
        with pytest.raises(InvalidName):
            await world.rename("x", "z%FILE")
        assert await world.names() == ["x", "y"]

    play(scene)


def test_a_directory_is_not_renamed_onto_one_that_others_made_within_the_ttl(
    store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"ours")

    async def scene(world: World) -> None:
        await world.names()
        put(store, "y/x", b"theirs")
        with pytest.raises(DirectoryNotEmpty):
            await world.rename("d", "y")
        assert await world.names("y") == ["x"]
        assert await world.drain()
        assert b"theirs" in bucket(store).values()

    play(scene)


@pytest.mark.parametrize("is_owed", [False, True])
def test_rename_without_replacing_meets_what_others_stored(
    is_owed: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"ours")

    async def scene(world: World) -> None:
        await world.names()
        if is_owed:
            await world.write("a", b"OURS")
        put(store, "b", b"theirs")
        with suppress(EntryExists):
            await world.fs.names.rename(
                await world.parent("a"), await world.parent("b"), replace_target=False
            )
        assert await world.drain()

    play(scene)
    assert sorted(bucket(store).values()) == [b"OURS" if is_owed else b"ours", b"theirs"]


def test_what_is_stored_beside_below_a_renamed_directory_is_stored_once(
    store: MemoryStore, play: Play
) -> None:
    put(store, "old/log", b"log")

    async def scene(world: World) -> None:
        looked_up(world, await world.inode("old"))
        handle = await world.open("old/log", os.O_RDWR)
        put(store, "old/log", b"theirs")
        await world.inode("old/log")
        await world.fs.write(handle, 0, b"one")
        await world.rename("old", "new")
        await world.fs.flush(handle)
        stopped = StoppedPut(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            await world.fs.write(handle, 0, b"two")
            stopped.arrive()
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert sorted(bucket(store).values()) == [b"theirs", b"two"]


@pytest.mark.parametrize("held", [False, True])
def test_rename_without_replacing_takes_a_name_that_was_removed_here(
    held: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"ours")
    put(store, "b", b"removed")

    async def scene(world: World) -> None:
        handle = await world.open("b") if held else None
        await world.unlink("b")
        await world.fs.names.rename(
            await world.parent("a"), await world.parent("b"), replace_target=False
        )
        assert await world.read("b") == b"ours"
        if handle is not None:
            await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"b": b"ours"}


def test_a_directory_takes_a_name_whose_files_go_while_the_server_lists(
    store: MemoryStore, play: Play
) -> None:
    put(store, "app/x", b"old")
    put(store, "new/x", b"new")

    async def scene(world: World) -> None:
        await world.unlink("app/x")
        await world.rmdir("app")
        real = store.list_page

        def list_page(prefix: str, **options: Any) -> ListPage:
            page = real(prefix, **options)
            if prefix == "app/":
                store.list_page = real  # type: ignore[method-assign]  # for one call
                journal = world.house.journal
                trio.from_thread.run(world.drain)
                assert journal.latest("app/x") is None
            return page

        store.list_page = list_page  # type: ignore[method-assign]  # the server's part
        await world.rename("new", "app")
        assert await world.tree() == {"app": None, "app/x": b"new"}
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert {key: data for key, data in bucket(store).items() if data} == {"app/x": b"new"}


def test_what_others_stored_and_a_listing_has_shown_is_renamed_over(
    store: MemoryStore, play: Play
) -> None:
    """What was heard of the name before is older."""
    put(store, "b", b"first")

    async def scene(world: World) -> None:
        await world.read("b")
        put(store, "b", b"second")
        world.house.index._listings.clear()
        world.house.index._disk.drop_listing("")
        assert await world.names() == ["b"]
        await world.write("tmp", b"third")
        await world.rename("tmp", "b")
        assert await world.drain()

    play(scene, attrs="listing")
    assert bucket(store) == {"b": b"third"}


@pytest.mark.parametrize("first", ["d", "tmp"])
def test_a_file_is_replaced_by_an_object_after_it_was_copied(
    first: str, store: MemoryStore, play: Play
) -> None:
    for key in ("d/a", "tmp", "else/x"):
        put(store, key, key.encode())
    renames = {"d": "e", "tmp": "d/a"}

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, first, renames.pop(first))
            await stopped.made()
            await world.rename(*renames.popitem())
            await world.rename("else/x", "else/y")
            stopped.go_on()
        assert await world.drain()

    play(scene)
    assert {k: v for k, v in bucket(store).items() if v} == {"e/a": b"tmp", "else/y": b"else/x"}
