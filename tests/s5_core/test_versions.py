"""Which version a name shows, an open file reads, and the kernel was told of."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import pytest

from qarnotfs.errors import NoSuchEntry, Stale
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, put


@pytest.mark.decision(2)
@pytest.mark.parametrize("is_open", [False, True])
def test_what_the_kernel_was_not_told_is_not_opened(
    store: MemoryStore, play: Callable[..., None], is_open: bool
) -> None:
    """A younger listing tells of another version than the one whose size the kernel has."""
    put(store, "a", b"first")

    async def scene(world: World) -> None:
        told = await world.inode("a")
        told.told = told.info  # as the kernel's door does
        if is_open:
            world.fs.opened(told, writable=False)
        put(store, "a", b"The second version")
        await world.house.index.survey("")
        for flags in (os.O_RDONLY, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(Stale):
                await world.fs.open(told, flags)
        assert told.staged is None
        again = await world.inode("a")
        assert (again is told) == (not is_open)
        again.told = again.info
        handle = await world.fs.open(again, os.O_RDONLY)
        assert await world.fs.read(handle, 0, 100) == b"The second version"

    play(scene)


def test_the_kernel_knows_the_size_of_what_it_wrote(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        inode = await world.inode("a")
        inode.lookups += 1
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        assert await world.drain()
        await world.close(await world.fs.open(inode, os.O_RDONLY))
        put(store, "a", b"The second version")
        await world.house.index.survey("")
        with pytest.raises(Stale):
            await world.fs.open(inode, os.O_RDONLY)

    play(scene)


def test_a_name_stands_for_what_was_heard_last(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """Else `open` and the lookup after it would name two versions, for as long as the TTL."""
    put(store, "a", b"first")

    async def scene(world: World) -> None:
        index = world.house.index
        inode = await world.inode("a")
        listing = index.fresh_listing("")
        assert listing is not None
        assert inode.info is not None
        listing.enrich(inode.info)
        put(store, "a", b"The second version")
        await index._head("a")
        assert (await world.inode("a")).size == 18

    play(scene)


@pytest.mark.parametrize("theirs", [b"new", None])
def test_a_version_that_is_gone_is_not_believed_any_longer(
    store: MemoryStore, play: Callable[..., None], theirs: bytes | None
) -> None:
    put(store, "a", b"old" * 500_000, mode="33188")
    put(store, "b")

    async def scene(world: World) -> None:
        assert await world.names() == ["a", "b"]
        handle = await world.open("a")
        if theirs is None:
            store.delete(["a"])
        else:
            put(store, "a", theirs)
        for _ in range(2):
            with pytest.raises(Stale):
                await world.fs.read(handle, 0, 100)
        assert [call for call in store.calls if call == ("head", "a")] == [("head", "a")] * 2
        if theirs is None:
            with pytest.raises(NoSuchEntry):
                await world.read("a")
            assert await world.names() == ["b"]
            await world.write("a", b"here again")
        else:
            assert await world.read("a") == theirs

    play(scene, cache_ttl_sec=1_000_000)


def test_attributes_of_a_directory_are_no_older_than_the_ttl(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "marked/", mode=str(0o40755))
    put(store, "bare/file")

    async def scene(world: World) -> None:
        index, now_sec = world.house.index, [1e9]
        index._now = lambda: now_sec[0]
        inodes = [await world.inode(name) for name in ("marked", "bare")]
        now_sec[0] += 40
        index._listings.pop("")
        index._disk.drop_listing("")
        await world.names()
        assert [world.fs.lookup.lasting.left_sec(inode) for inode in inodes] == [(60, 20), (60, 20)]
        store.calls.clear()
        for inode in inodes:
            await world.fs.lookup.getattr(inode)
        assert store.calls == []
        now_sec[0] += 30
        for inode in inodes:
            await world.fs.lookup.getattr(inode)
            assert world.fs.lookup.lasting.left_sec(inode)[1] == 60
        assert ("list_page", "bare/") in store.calls

    play(scene, cache_ttl_sec=60)


@pytest.mark.parametrize("below", ["", "/x"], ids=["file", "directory"])
def test_who_reads_a_version_keeps_it_when_another_is_renamed(
    below: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, f"a{below}", b"1" * (2 << 20))

    async def scene(world: World) -> None:
        handle = await world.open(f"a{below}")
        assert await world.fs.read(handle, 0, 10) == b"1" * 10
        put(store, f"a{below}", b"2" * (2 << 20))
        await world.rename("a", "b")
        with suppress(Stale):  # if it was not read ahead
            assert await world.fs.read(handle, 1 << 20, 10) == b"1" * 10
        assert (await world.read(f"b{below}"))[:10] == b"2" * 10

    play(scene, cache_bytes_max=0)


def test_who_reads_what_was_uploaded_keeps_it_when_it_is_renamed(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """Nobody has looked at the file since its upload ended."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a")
        inode = await world.inode("a")
        await world.write("a", b"newer")
        assert await world.drain()
        await world.rename("a", "b")
        assert inode.size == len(b"newer")
        assert await world.fs.read(handle, 0, 100) == b"newer"

    play(scene)


@pytest.mark.decision(3)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_a_name_that_a_program_may_bring_back_is_not_kept_as_absent(
    store: MemoryStore, play: Callable[..., None], flags: int
) -> None:
    put(store, "a")

    async def scene(world: World) -> None:
        root, lasting = world.fs.lookup.inodes.root, world.fs.lookup.lasting
        handle = await world.open("a", flags)
        store.delete(["a"])
        await world.house.index.survey("")
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        assert lasting.absent_sec(root, b"b") > 0
        assert bool(lasting.absent_sec(root, b"a")) == (flags == os.O_RDONLY)
        if flags == os.O_RDWR:
            await world.fs.write(handle, 0, b"anew")
            assert await world.read("a") == b"anew"
        await world.close(handle)
        assert lasting.absent_sec(root, b"a") > 0

    play(scene)
