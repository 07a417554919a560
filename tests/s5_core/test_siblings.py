"""Two debts of one key: an earlier one that is being sent, or failed, and what came after it.

Each scene stops or breaks the first upload of a file, changes the file meanwhile, and looks at
what is left under which name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import Unavailable
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, bucket, put
from tests.s5_core.stops import StoppedPut


async def older_bytes_failed(world: World, store: MemoryStore) -> None:
    """``one`` was being sent under ``a`` when ``two`` was written, and did not arrive."""
    stopped = StoppedPut(store)
    await world.write("a", b"one")
    await stopped.sent()
    await world.write("a", b"two")
    stopped.fail()
    await trio.testing.wait_all_tasks_blocked()


def test_bytes_that_were_replaced_by_a_rename_are_not_tried_again(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """Older bytes failed, younger ones waited behind them, and then another file took the name."""
    put(store, "x", b"another file")

    async def scene(world: World) -> None:
        await older_bytes_failed(world, store)
        await world.rename("x", "a")
        assert await world.drain()
        assert await world.tree() == {"a": b"another file"}

    play(scene)
    assert bucket(store) == {"a": b"another file"}


def test_younger_bytes_renamed_after_older_ones_failed_leave_nothing_behind(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        await older_bytes_failed(world, store)
        await world.rename("a", "b")
        assert await world.drain()
        assert await world.tree() == {"b": b"two"}

    play(scene)
    assert bucket(store) == {"b": b"two"}


def test_older_bytes_that_failed_survive_while_younger_ones_are_written(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 0, b"two")
        stopped.fail()
        await trio.testing.wait_all_tasks_blocked()

    async def after(world: World) -> None:
        assert await world.tree() == {"a": b"one"}
        assert await world.drain()

    play(before)
    play(after)
    assert bucket(store) == {"a": b"one"}


@pytest.mark.parametrize("name", ["a", "b"], ids=["stays", "renamed"])
def test_a_file_changes_its_mode_while_it_is_sent(
    name: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"bytes")
        await stopped.sent()
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
        assert await world.read("a") == b"bytes"
        if name != "a":
            await world.rename("a", name)
        stopped.arrive()
        assert await world.drain()
        assert await world.tree() == {name: b"bytes"}

    play(scene, cache_ttl_sec=0)
    assert bucket(store) == {name: b"bytes"}
    assert mode_of(store, name) == str(stat.S_IFREG | 0o600)


def test_a_directory_changes_its_mode_while_its_marker_is_sent(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.mkdir("d")
        await stopped.sent()
        await world.fs.setattr(await world.inode("d"), Changes(mode=0o700))
        stopped.arrive()
        assert await world.drain()

    play(scene)
    assert mode_of(store, "d/") == str(stat.S_IFDIR | 0o700)


@pytest.mark.parametrize("flags", [0, os.O_TRUNC], ids=["written on", "begun anew"])
def test_what_was_closed_survives_the_rename_of_the_open_file(
    flags: int, store: MemoryStore, play: Callable[..., None]
) -> None:
    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("log", b"one")
        await stopped.sent()
        handle = await world.open("log", os.O_WRONLY | flags)
        await world.fs.write(handle, 0, b"ONE")
        await world.rename("log", "log.1")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    play(after)
    assert bucket(store) == {"log.1": b"ONE"}


def test_bytes_that_failed_before_their_name_was_given_away_twice_leave_nothing_behind(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        await world.rename("a", "b")
        stopped.fail()
        await trio.testing.wait_all_tasks_blocked(0.02)
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"two")
        await world.rename("a", "c")
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"one", "c": b"two"}


@pytest.mark.parametrize("new_name", ["", "c"], ids=["deleted", "renamed"])
def test_bytes_that_arrived_unheard_do_not_come_back(
    new_name: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        stopped.arrive_unheard()
        stopped.fail()
        await trio.testing.wait_all_tasks_blocked(0.02)
        await world.rename("a", "b")
        await world.write("a", b"two")
        if new_name:
            await world.rename("a", new_name)
        else:
            await world.unlink("a")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"one"} | ({new_name: b"two"} if new_name else {})


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "fails"])
def test_a_part_changed_renamed_after_its_bytes_arrived_unheard(
    dies: bool, store: MemoryStore, play: Callable[..., None], clock: MockClock
) -> None:
    """What the file builds upon was replaced by an earlier try of ours, under its old name."""
    put(store, "a", b"0123456789")

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 0, b"X")
        store.faults = lambda method, _: Unavailable("not now") if method == "get" else None
        await world.close(handle)  # cannot fetch the rest now
        store.faults = lambda *_: None
        world.house.uploader.progressed()
        await stopped.sent()
        stopped.arrive_unheard()
        if dies:
            return await world.rename("a", "b")
        stopped.fail()
        await trio.testing.wait_all_tasks_blocked()
        await world.rename("a", "b")
        await after(world)

    async def after(world: World) -> None:
        assert await world.tree() == {"b": b"X123456789"}
        assert await world.drain()
        assert await world.tree() == {"b": b"X123456789"}

    play(before, clock, cache_bytes_max=0)
    if dies:
        play(after, cache_bytes_max=0)
    assert bucket(store) == {"b": b"X123456789"}


def mode_of(store: MemoryStore, key: str) -> str | None:
    return (store.head(key).result().metadata or {}).get("mode")
