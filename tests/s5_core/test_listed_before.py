"""What a directory showed before its names changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.index.listing import PAGE_NAMES
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put

Play = Callable[..., None]


def looked_up(world: World, inode: Any) -> Any:
    inode.lookups += 1
    return inode


@pytest.mark.parametrize("what", ["file", "directory", "renamed"])
@pytest.mark.parametrize("paid", [False, True])
def test_what_is_removed_between_two_reads_of_a_directory_does_not_come_back(
    paid: bool, what: str, store: MemoryStore, play: Play
) -> None:
    put(store, "b", b"b")
    put(store, "a" if what != "directory" else "a/", b"a" if what != "directory" else b"")

    async def scene(world: World) -> None:
        root = world.fs.lookup.inodes.root
        number = world.fs.opendir(root)
        assert await world.fs.entries(number, 0)
        if what == "file":
            await world.unlink("a")
        elif what == "renamed":
            await world.rename("a", "z")
        else:
            await world.rmdir("a")
        if paid:
            assert await world.drain()
        parent, nodes = await world.fs.entries(number, 0)  # what the next getdents shows
        for node in nodes:
            if node.name == b"a":
                assert world.fs.lookup.known(parent, node) is None

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_directory_made_while_its_parent_is_read_is_not_taken_for_the_file_it_replaced(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"a", mode=str(stat.S_IFREG | 0o644))
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        await world.inode("a")
        root = world.fs.lookup.inodes.root
        number = world.fs.opendir(root)
        assert await world.fs.entries(number, 0)
        await world.unlink("a")
        await world.mkdir("a")
        made = looked_up(world, await world.inode("a"))
        parent, nodes = await world.fs.entries(number, 0)
        for node in nodes:
            world.fs.lookup.known(parent, node)
        assert root.children[b"a"] is made
        assert not made.detached

    play(scene, upload_delay_sec=NEVER_SEC)


def test_what_is_written_to_a_file_made_while_its_parent_is_read_is_not_lost(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a/", b"")
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        root = world.fs.lookup.inodes.root
        number = world.fs.opendir(root)
        assert await world.fs.entries(number, 0)
        await world.rmdir("a")
        handle = await world.create("a")
        looked_up(world, root.children[b"a"])
        await world.fs.write(handle, 0, b"one")
        await world.fs.fsync(handle)
        parent, nodes = await world.fs.entries(number, 0)  # the next getdents
        for node in nodes:
            inode = world.fs.lookup.known(parent, node)
            if inode is not None:
                looked_up(world, inode)
        await world.fs.write(handle, 3, b"two")
        await world.fs.fsync(handle)
        assert bucket(store)["a"] == b"onetwo"

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_directory_is_renamed_while_it_is_being_read(store: MemoryStore, play: Play) -> None:
    put(store, "old/sub/x", b"x")
    put(store, "old/file", b"f")

    async def scene(world: World) -> None:
        old = looked_up(world, await world.inode("old"))
        number = world.fs.opendir(old)
        assert len((await world.fs.entries(number, 0))[1]) == 2
        await world.rename("old", "new")
        parent, nodes = await world.fs.entries(number, 0)  # the next getdents
        for node in nodes:
            inode = world.fs.lookup.known(parent, node)
            if inode is not None:
                looked_up(world, inode)
        assert await world.drain()
        directories = {"new": None, "new/sub": None}
        assert await world.tree() == {**directories, "new/sub/x": b"x", "new/file": b"f"}

    play(scene)


def test_what_is_created_in_it_then_goes_where_it_belongs(store: MemoryStore, play: Play) -> None:
    put(store, "old/sub/x", b"x")
    put(store, "old/file", b"f")

    async def scene(world: World) -> None:
        old = looked_up(world, await world.inode("old"))
        number = world.fs.opendir(old)
        assert len((await world.fs.entries(number, 0))[1]) == 2
        await world.rename("old", "new")
        parent, nodes = await world.fs.entries(number, 0)  # the next getdents
        for node in nodes:
            inode = world.fs.lookup.known(parent, node)
            if inode is not None:
                looked_up(world, inode)
        await world.write("new/sub/y", b"y")
        assert await world.drain()
        files = {key for key in bucket(store) if not key.endswith("/")}
        assert files == {"new/sub/x", "new/file", "new/sub/y"}

    play(scene)


def test_rmdir_of_a_directory_that_was_listed_while_the_one_it_is_in_was_renamed(
    store: MemoryStore, play: Play
) -> None:
    put(store, "old/sub/", b"")
    put(store, "old/file", b"f")

    async def scene(world: World) -> None:
        old = looked_up(world, await world.inode("old"))
        number = world.fs.opendir(old)
        assert len((await world.fs.entries(number, 0))[1]) == 2
        await world.rename("old", "new")
        parent, nodes = await world.fs.entries(number, 0)  # the next getdents
        for node in nodes:
            inode = world.fs.lookup.known(parent, node)
            if inode is not None:
                looked_up(world, inode)
        with trio.fail_after(30):
            await world.rmdir("new/sub")

    play(scene)


def test_a_long_directory_that_is_renamed_while_it_is_read_shows_each_name_once(
    store: MemoryStore, play: Play
) -> None:
    names = [f"{number:04}" for number in range(2 * PAGE_NAMES + 10)]
    for name in names:
        put(store, f"old/{name}", b"x")

    async def scene(world: World) -> None:
        inode = looked_up(world, await world.inode("old"))
        number = world.fs.opendir(inode)
        found = [node.name for node in (await world.fs.entries(number, 0))[1]]
        assert len(found) < len(names)
        await world.rename("old", "new")
        await world.write("new/0000.new", b"x")
        assert await world.drain()
        while nodes := (await world.fs.entries(number, len(found)))[1]:
            found += [node.name for node in nodes]
        assert sorted({b"0000.new", *found}) == sorted({b"0000.new", *map(str.encode, names)})
        assert len(set(found)) == len(found)

    play(scene)


def test_a_directory_that_others_made_a_file_of_while_its_parent_is_read(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a/b", b"b")

    async def scene(world: World) -> None:
        root = world.fs.lookup.inodes.root
        number = world.fs.opendir(root)
        assert await world.fs.entries(number, 0)
        store.delete(["a/b"])
        put(store, "a", b"file")
        handle = await world.open("a", os.O_RDWR)
        parent, nodes = await world.fs.entries(number, 0)
        assert [world.fs.lookup.known(parent, node) for node in nodes] == [None]
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert bucket(store) == {"a": b"ours"}


@pytest.mark.decision(17)
@pytest.mark.parametrize("cache_ttl_sec", [0, 60])
def test_what_is_uploaded_while_its_directory_is_read_keeps_its_number(
    cache_ttl_sec: int, play: Play
) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"a")
        await world.rename("a", "b")
        known = looked_up(world, await world.inode("b"))
        number = world.fs.opendir(world.fs.lookup.inodes.root)
        assert await world.fs.entries(number, 0)  # here it is owed
        assert await world.drain()
        parent, nodes = await world.fs.entries(number, 0)
        assert [world.fs.lookup.known(parent, node) for node in nodes] == [known]
        assert known.info is not None

    play(scene, upload_delay_sec=NEVER_SEC, cache_ttl_sec=cache_ttl_sec)


def test_what_was_uploaded_meanwhile_and_deleted_by_others_is_not_shown_as_ours(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"a")
        looked_up(world, await world.inode("a"))
        number = world.fs.opendir(world.fs.lookup.inodes.root)
        assert await world.fs.entries(number, 0)
        assert await world.drain()
        store.delete(["a"])
        belief = world.house.index.believed("a")
        assert belief is not None
        assert belief.info is not None
        await world.house.index.recheck(belief.info)  # as a read does that finds it gone
        parent, nodes = await world.fs.entries(number, 0)
        assert [world.fs.lookup.known(parent, node) for node in nodes] == [None]

    play(scene, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("on_conflict", ["keep-both", "overwrite"])
def test_a_name_that_others_took_while_its_directory_was_read_is_theirs(
    on_conflict: str, store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"ours")
        ours = looked_up(world, await world.inode("a"))
        number = world.fs.opendir(world.fs.lookup.inodes.root)
        assert await world.fs.entries(number, 0)
        put(store, "a", b"theirs")
        await world.drain()
        parent, nodes = await world.fs.entries(number, 0)
        [inode] = [world.fs.lookup.known(parent, node) for node in nodes]
        is_ours = bucket(store)["a"] == b"ours" or world.house.journal.latest("a") is not None
        assert (inode is ours) is is_ours

    play(scene, upload_delay_sec=NEVER_SEC, on_conflict=on_conflict)
