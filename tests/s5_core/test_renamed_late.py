"""Answers that come late, or never, while something is renamed or removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.errors import (
    Unavailable,
)
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut, failing_to_resume
from tests.s5_core.test_bases import LARGE
from tests.s5_core.test_renamed_objects import unheard

Play = Callable[..., None]


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("there", [None, b"old"], ids=["free", "taken"])
def test_a_file_is_written_while_it_is_copied_and_the_mount_dies(
    there: bytes | None, carried_out: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"first")
    if there:
        put(store, "b", there)

    async def before(world: World) -> None:
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.made()
            await world.write("a", b"WRITTEN")
            nursery.cancel_scope.cancel()
            stopped.go_on()
        if not carried_out:
            store.delete(["b"])
            if there:
                put(store, "b", there)

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"WRITTEN"}


def test_so_is_one_of_a_directory(store: MemoryStore, play: Play) -> None:
    put(store, "d/a", b"first")

    async def before(world: World) -> None:
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "d", "e")
            await stopped.made()
            await world.write("d/a", b"WRITTEN")
            nursery.cancel_scope.cancel()
            stopped.go_on()

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"e/a": b"WRITTEN"}


def test_written_in_a_life_that_could_not_finish_the_directory(
    store: MemoryStore, play: Play, clock: MockClock
) -> None:
    put(store, "d/a", b"first")

    async def before(world: World) -> None:
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "d", "e")
            await stopped.made()
            nursery.cancel_scope.cancel()
            stopped.go_on()

    async def meanwhile(world: World) -> None:
        await world.write("d/a", b"WRITTEN")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    with failing_to_resume(store):
        play(meanwhile, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    play(after)
    assert not [key for key in bucket(store) if "conflict" in key], bucket(store)


def test_what_a_file_is_renamed_over_arrives_while_its_name_is_looked_up(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"newer")
        handle = await world.create("b")
        await world.fs.write(handle, 0, b"older")
        stopped, journal, index = StoppedPut(store), world.house.journal, world.house.index
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            real = index.entry

            async def entry(key: str) -> Any:
                if key == "b":
                    index.entry = real  # type: ignore[method-assign]  # for one call
                    stopped.arrive()
                    while journal.latest("b"):
                        await trio.sleep(0.001)
                return await real(key)

            index.entry = entry  # type: ignore[method-assign]  # for one call
            await world.rename("a", "b")
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC, cache_ttl_sec=0)
    assert bucket(store) == {"b": b"newer"}


@pytest.mark.parametrize("there", [None, b"old"], ids=["free", "taken"])
def test_a_copy_nobody_heard_of_onto_what_is_owed(
    there: bytes | None,
    store: MemoryStore,
    play: Play,
    clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", b"first")
    if there:
        put(store, "b", there)

    async def scene(world: World) -> None:
        await world.write("b", b"closed")
        carry_out = unheard(store, monkeypatch)
        with pytest.raises(Unavailable):
            await world.rename("a", "b")
        carry_out()
        assert await world.drain()

    play(scene, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    assert bucket(store) == {"a": b"first", "b": b"closed"}


def test_a_copy_nobody_heard_of_onto_what_is_owed_in_part(
    store: MemoryStore, play: Play, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"first")
    put(store, "b", LARGE)

    async def scene(world: World) -> None:
        await world.write("b", b"changed", offset=10)
        carry_out = unheard(store, monkeypatch)
        with pytest.raises(Unavailable):
            await world.rename("a", "b")
        carry_out()
        assert await world.drain()
        assert not world.house.uploader.conflicts

    play(scene, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    assert bucket(store)["a"] == b"first"


def test_what_is_removed_arrives_while_its_name_is_looked_up(
    store: MemoryStore, play: Play
) -> None:
    """Then an outage, in which somebody else stores another object there."""

    async def scene(world: World) -> None:
        handle = await world.create("b")
        await world.fs.write(handle, 0, b"ours")
        stopped, journal, index = StoppedPut(store), world.house.journal, world.house.index
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            real = index.entry

            async def entry(key: str) -> Any:
                if key == "b":
                    index.entry = real  # type: ignore[method-assign]  # for one call
                    stopped.arrive()
                    while journal.latest("b"):
                        await trio.sleep(0.001)
                    store.faults = lambda method, _: (
                        Unavailable("not now") if method == "delete" else None
                    )
                return await real(key)

            index.entry = entry  # type: ignore[method-assign]  # for one call
            await world.unlink("b")
        await world.close(handle)
        with trio.fail_after(30):
            while "delete" not in dict(store.calls):
                await trio.sleep(0.001)
        await trio.sleep(0.05)
        put(store, "b", b"theirs")
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene, upload_delay_sec=0.0, cache_ttl_sec=0)
    assert bucket(store) == {"b": b"theirs"}


def test_a_copy_nobody_heard_of_onto_what_has_just_arrived(
    store: MemoryStore, play: Play, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename fails; what had the new name was being sent when it began."""
    put(store, "a", b"first")

    async def scene(world: World) -> None:
        handle = await world.create("b")
        await world.fs.write(handle, 0, b"second")
        stopped = StoppedPut(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            carry_out = unheard(store, monkeypatch)

            async def rename() -> None:
                with pytest.raises(Unavailable):
                    await world.rename("a", "b")
                carry_out()

            nursery.start_soon(rename)
            await trio.sleep(0.02)
            stopped.arrive()
        await world.close(handle)
        assert await world.drain()

    play(scene, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.2)
    assert "b" in bucket(store), bucket(store)
