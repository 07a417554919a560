"""Somebody else's object has the name of ours: neither takes the other's place, or goes for it.

The other machine stores it while a program has the file open, while ours is sent, between two
lives, or while nobody can ask.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.errors import NoSuchEntry, Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import sending, uploader
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut
from tests.s5_core.test_bases import LARGE

Play = Callable[..., None]


def offline(*_: object) -> Exception:
    return Unavailable("not now")


# --- while programs have it open ---


@pytest.mark.parametrize("is_looked_at", [False, True])
@pytest.mark.parametrize("is_closed", [False, True])
def test_two_programs_write_to_two_versions_of_one_name(
    is_closed: bool, is_looked_at: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        first = await world.open("a", os.O_RDWR)
        put(store, "a", b"new")
        second = await world.open("a", os.O_RDWR)
        await world.fs.write(first, 0, b"first's")
        if is_closed:
            await world.close(first)
        if is_looked_at:
            await world.inode("a")
        await world.fs.write(second, 3, b"est")
        await world.close(second)
        if not is_closed:
            await world.close(first)
        assert await world.read("a") == b"newest"
        assert await world.drain()
        (beside,) = world.house.uploader.conflicts
        assert bucket(store) == {"a": b"newest", beside: b"first's"}

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_stored_beside_another_goes_on_there(
    is_there: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        put(store, "a", b"new")
        assert await world.read("a") == b"new"
        await world.fs.write(handle, 0, b"one....")
        if is_there:
            await world.fs.fsync(handle)
        stopped = StoppedPut(store)
        await world.fs.write(handle, 0, b"two")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            await world.fs.write(handle, 3, b"three")
            stopped.arrive()
        await world.close(handle)
        assert await world.drain()
        (beside,) = world.house.uploader.conflicts
        assert bucket(store) == {"a": b"new", beside: b"twothree"}

    play(scene, cache_ttl_sec=0)


def test_a_file_whose_name_another_file_of_ours_got_is_kept(store: MemoryStore, play: Play) -> None:
    """It was deleted elsewhere while two programs had it open; the first one makes it anew."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        first = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        assert await world.names() == []
        await world.write("a", b"made anew")
        await world.fs.write(first, 0, b"first's")
        await world.close(first)
        assert await world.drain()
        (beside,) = world.house.uploader.conflicts
        assert bucket(store) == {"a": b"made anew", beside: b"first's"}

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("is_looked_at", [False, True])
def test_neither_of_two_that_write_after_it_was_deleted_and_made_again_is_lost(
    is_looked_at: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        first = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        put(store, "a", b"new")
        second = await world.open("a", os.O_RDWR)
        await world.fs.write(first, 0, b"first's")
        await world.close(first)
        if is_looked_at:
            await world.inode("a")
        await world.fs.write(second, 3, b"est")
        await world.close(second)
        assert await world.drain()

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)
    assert sorted(bucket(store).values()) == [b"first's", b"newest"]


# --- while ours is sent ---


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_ours_is_not_wanted_there_any_more_when_the_conflict_is_found(
    how: str, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"ours")
        await stopped.sent()
        put(store, "a", b"theirs")
        if how == "renamed":
            await world.rename("a", "b")
        else:
            await world.unlink("a")
        stopped.arrive()
        assert await world.drain()
        assert await world.read("a") == b"theirs"

    play(scene, cache_ttl_sec=0)
    assert bucket(store) == {"a": b"theirs"} | ({"b": b"ours"} if how == "renamed" else {})


def test_it_is_renamed_while_it_is_stored_beside(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_WRONLY)
        put(store, "a", b"theirs")
        real = store.put

        def put_beside(key: str, *args: Any) -> Flight[str]:
            if key == "a":
                store.put = real  # type: ignore[method-assign]  # the next one stops
                beside.append(StoppedPut(store))
            return real(key, *args)

        beside: list[StoppedPut] = []
        store.put = put_beside  # type: ignore[method-assign, assignment]  # the network's part
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        with trio.fail_after(30):
            while not beside:
                await trio.sleep(0.001)
            await beside[0].sent()
        await world.rename("a", "b")
        beside[0].arrive()
        assert await world.drain()

    play(scene)
    assert bucket(store)["a"] == b"theirs"
    assert bucket(store)["b"] == b"ours"


def test_a_conflict_that_nobody_hears_of_is_stored_once(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives, and the mount dies before it is told; the next life begins seconds later."""
    put(store, "a", b"base")
    real = store.put

    def unheard(key: str, *args: Any) -> Flight[str]:
        flight = real(key, *args)
        return Flight() if "conflict" in key else flight

    async def before(world: World) -> None:
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 0, b"ours")
        put(store, "a", b"theirs")
        store.put = unheard  # type: ignore[method-assign, assignment]  # the network's part
        await world.close(handle)
        with trio.fail_after(30):
            while len(bucket(store)) < 2:
                await trio.sleep(0.001)

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    store.put = real  # type: ignore[method-assign]  # the network answers again
    monkeypatch.setattr(sending, "conflict_key", lambda key, now_sec, n: f"{key}.{now_sec}.{n}")
    (beside,) = set(bucket(store)) - {"a"}
    play(after)
    assert bucket(store) == {"a": b"theirs", beside: b"ours"}


# --- between two lives ---


@pytest.mark.parametrize("how", ["renamed", "removed"])
@pytest.mark.parametrize("ours", [b"ours", LARGE], ids=["small", "large"])
def test_what_the_next_life_deletes_late_is_looked_at(
    ours: bytes, how: str, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours has arrived: what is there by now is another's."""
    monkeypatch.setattr(uploader, "LATE_SEC", -NEVER_SEC)  # it is always late

    async def before(world: World) -> None:
        await world.write("a", ours)

    async def after(world: World) -> None:
        if how == "renamed":
            await world.rename("a", "b")
        else:
            await world.unlink("a")
        store.faults = lambda *_: None
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    put(store, "a", b"theirs")
    store.faults = offline
    play(after)
    assert bucket(store) == {"a": b"theirs"} | ({"b": ours} if how == "renamed" else {})


def test_what_arrived_unheard_of_a_file_changed_in_part_is_what_it_is(
    store: MemoryStore, play: Play, clock: MockClock
) -> None:
    """A small file, of which the rest could not be fetched when it was closed."""
    put(store, "a", b"base" * 100_000)

    async def before(world: World) -> None:
        handle = await world.open("a", os.O_WRONLY)
        store.faults = offline
        await world.fs.write(handle, 0, b"BASE")
        await world.close(handle)
        store.faults = lambda *_: None
        stopped = StoppedPut(store)
        await stopped.sent()
        stopped.arrive_unheard()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, clock, cache_bytes_max=0)
    play(after, cache_bytes_max=0)
    assert bucket(store) == {"a": b"BASE" + b"base" * 99_999}


# --- after a base was lost ---


def test_a_log_is_rotated_after_one_that_can_never_be_uploaded(
    store: MemoryStore, play: Play
) -> None:
    put(store, "log", LARGE)

    async def scene(world: World) -> None:
        await world.write("log", b"appended", len(LARGE))
        store.delete(["log"])
        await world.rename("log", "log.1")
        with trio.fail_after(30):
            while not world.house.journal.failed:
                await trio.sleep(0.001)
        stopped = StoppedPut(store)
        await world.write("log", b"day two")
        await stopped.sent()
        await world.rename("log", "log.2")
        stopped.arrive()
        await world.drain()
        assert [debt.key for debt in world.house.journal.all()] == ["log.1"]

    play(scene)
    assert bucket(store) == {"log.2": b"day two"}
