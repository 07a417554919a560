"""A name stands for something else than before: who had it, who has it, who renames it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.errors import (
    NoSuchEntry,
)
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from tests.s5_core.house import NEVER_SEC, World, bucket, put

Play = Callable[..., None]


def looked_up(world: World, inode: Any) -> Any:
    inode.lookups += 1
    return inode


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_name_is_free_again_whose_directory_went_while_a_file_in_it_is_open(
    what: str, store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("d/x")
        store.delete(["d/x"])
        with pytest.raises(NoSuchEntry):
            await world.inode("d")
        if what == "directory":
            await world.mkdir("d")
        else:
            await world.write("d", b"new")
        await world.close(handle)

    play(scene, cache_ttl_sec=0)


@pytest.mark.parametrize("stays", [True, False])
def test_what_is_written_to_a_file_whose_name_became_a_directory_is_not_lost(
    stays: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        put(store, "a/b", b"theirs")
        if not stays:
            store.delete(["a"])
        assert (await world.inode("a")).is_directory
        await world.fs.write(handle, 0, b"ours")
        await world.fs.fsync(handle)
        await world.close(handle)
        assert await world.drain()
        assert b"ours" in bucket(store).values()

    play(scene, cache_ttl_sec=0)


@pytest.mark.parametrize("opened", [True, False])
def test_a_file_stored_beside_another_is_renamed_before_its_name_is_looked_up_again(
    opened: bool, store: MemoryStore, play: Play
) -> None:
    """The kernel keeps the name for the TTL."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        inode = looked_up(world, await world.inode("a"))
        put(store, "a", b"theirs")
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        assert await world.drain()
        if opened:
            await world.close(await world.fs.open(inode, os.O_RDONLY))
        with trio.fail_after(30):
            await world.rename("a", "b")
        assert await world.read("b") == b"theirs"
        assert await world.drain()

    play(scene)
    assert bucket(store)["b"] == b"theirs"
    assert sorted(bucket(store).values()) == [b"ours", b"theirs"]


def test_a_directory_that_became_a_file_is_renamed(store: MemoryStore, play: Play) -> None:
    put(store, "d/x", b"x")

    async def scene(world: World) -> None:
        looked_up(world, await world.inode("d"))
        store.delete(["d/x"])
        put(store, "d", b"file")
        with trio.fail_after(30):
            await world.rename("d", "e")

    play(scene, cache_ttl_sec=0)


def test_a_file_whose_name_another_key_took_is_renamed(store: MemoryStore, play: Play) -> None:
    put(store, "x", b"plain")

    async def scene(world: World) -> None:
        looked_up(world, await world.inode("x"))
        put(store, "s/x", b"stripped")
        with trio.fail_after(30):
            await world.rename("x", "y")

    play(scene, view=View(strip_prefix="s/"), cache_ttl_sec=0)


@pytest.mark.parametrize("by", ["us", "others"])
def test_a_new_file_is_not_hidden_by_one_that_lost_its_name_before(
    by: str, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        first = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        assert await world.names() == []
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        if by == "us":
            await world.write("a", b"made anew")
            assert await world.drain()
        else:
            put(store, "a", b"made anew")
        assert await world.read("a") == b"made anew"
        await world.fs.write(first, 0, b"first's")
        await world.close(first)
        assert await world.read("a") == b"made anew"
        other = await world.open("a", os.O_RDWR)  # a program that appends to the new one
        await world.fs.write(other, 9, b" and more")
        await world.close(other)
        assert await world.drain()
        assert bucket(store)["a"] == b"made anew and more"

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


def test_the_name_of_what_was_stored_beside_is_renamed(store: MemoryStore, play: Play) -> None:
    """The kernel need not look the name up again: it knows it for the TTL."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        put(store, "a", b"theirs")
        await world.fs.fsync(handle)
        with trio.fail_after(30):
            await world.rename("a", "c")
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert sorted(bucket(store).values()) == [b"one", b"theirs"]
    assert bucket(store)["c"] == b"theirs"


def test_and_what_has_the_new_name_stays(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")
    put(store, "c", b"precious")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        put(store, "a", b"theirs")
        await world.fs.fsync(handle)
        await world.rename("a", "c")
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store)["c"] == b"theirs"
    assert sorted(bucket(store).values()) == [b"one", b"theirs"]
