"""Renames on a disk that fills up and stays full, until the mount dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio

from qarnotfs.errors import NoSpace, NoSuchEntry
from qarnotfs.store.memory import MemoryStore
from tests.s4_cache.timeless import timeless
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import FullDisk, failing_to_resume, until_deletions_hang

Play = Callable[..., None]


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("since", ["", "others", "outage"])
def test_renamed_back_while_the_disk_fills_up_and_stays_full(
    kind: str, since: str, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end under the name that it has again is on disk, and that of the other is paid."""
    first, second = ("a", "b") if kind == "file" else ("d/a", "e/a")
    put(store, first, b"first")

    async def before(world: World) -> None:
        deleting = await until_deletions_hang(world, store)
        await world.rename(first[0], second[0])
        FullDisk(patch)
        await world.rename(second[0], first[0])
        debt = world.house.journal.latest(second)
        assert debt
        assert not debt.recorded
        world.house.journal.urge(debt)
        deleting.arrive()
        while second in bucket(store):
            await trio.sleep(0.001)

    async def after(world: World) -> None:
        assert await world.drain()
        assert await world.read(first) == b"first"

    async def meanwhile(world: World) -> None:
        assert not await world.drain()

    with monkeypatch.context() as patch:
        play(before, upload_delay_sec=NEVER_SEC)
    if since == "others":
        store.clock = lambda: 4_000_000_000.0
        put(store, second, b"theirs")
    elif since == "outage":
        with timeless() as clock, failing_to_resume(store):
            play(meanwhile, clock, io_timeout_sec=0.1)
    play(after)
    assert bucket(store) == {first: b"first"} | ({second: b"theirs"} if since == "others" else {})


@pytest.mark.parametrize("outage", [False, True])
@pytest.mark.parametrize("on_conflict", ["keep-both", "overwrite"])
def test_an_object_is_renamed_over_what_was_closed_while_the_disk_fills_up_and_stays_full(
    on_conflict: str, outage: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed is on disk, and not that it was replaced: it replaces nothing."""
    put(store, "a", b"renamed")

    async def before(world: World) -> None:
        await world.write("b", b"closed")
        FullDisk(patch)
        await world.rename("a", "b")
        debt = world.house.journal.latest("a")
        assert debt
        world.house.journal.urge(debt)
        while "a" in bucket(store):
            await trio.sleep(0.001)

    async def after(world: World) -> None:
        assert await world.drain()

    with monkeypatch.context() as patch:
        play(before, upload_delay_sec=NEVER_SEC, on_conflict=on_conflict)
    if outage:
        with timeless() as clock, failing_to_resume(store):
            play(after, clock, io_timeout_sec=0.1, on_conflict=on_conflict)
    play(after, on_conflict=on_conflict)
    assert bucket(store).pop("b") == b"renamed"
    assert sorted(bucket(store).values()) == [b"closed", b"renamed"]


def test_an_older_rename_is_on_record_until_its_end_is(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed back, and the name given to another, on a disk where a line still fits."""
    put(store, "a", b"first")
    put(store, "k", b"second")

    async def before(world: World) -> None:
        await world.rename("a", "b")
        FullDisk(patch)
        await world.rename("b", "a")
        for key, new_key in (("k", "b"), ("b", "y")):
            with suppress(NoSpace, NoSuchEntry):
                await world.rename(key, new_key)

    async def after(world: World) -> None:
        assert await world.drain()

    with monkeypatch.context() as patch:
        play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert sorted(bucket(store).values()) == [b"first", b"second"]
