"""A file in the bucket is renamed: the mount dies of it, or the copy's answer is never heard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.errors import NoSpace, Unavailable
from qarnotfs.store.base import Copied, Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.records import Records
from tests.s5_core.house import NEVER_SEC, World, bucket, entered, put
from tests.s5_core.stops import StoppedCopy

Play = Callable[..., None]


async def die_renaming(world: World, store: MemoryStore) -> None:
    """The copy was made, and its answer is not heard."""
    stopped = StoppedCopy(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.rename, "a", "b")
        await stopped.made()
        nursery.cancel_scope.cancel()
        stopped.go_on()


@pytest.mark.parametrize("there", [None, b"old"], ids=["free", "taken"])
def test_the_next_life_finishes_it(there: bytes | None, store: MemoryStore, play: Play) -> None:
    put(store, "a", b"new")
    if there:
        put(store, "b", there)

    async def before(world: World) -> None:
        await die_renaming(world, store)
        store.delete(["b"])  # the server had not begun
        if there:
            put(store, "b", there)

    async def after(world: World) -> None:
        assert await world.tree() == {"b": b"new"}
        assert await world.drain()
        assert world.house.journal._records.moves() == []

    play(before)
    play(after)
    assert bucket(store) == {"b": b"new"}


@pytest.mark.parametrize("there", [None, b"old" * 100], ids=["new", "changed in part"])
def test_what_it_replaces_was_not_uploaded(
    there: bytes | None, store: MemoryStore, play: Play
) -> None:
    """The copy may have destroyed what its changes build upon."""
    put(store, "a", b"new")
    if there:
        put(store, "b", there)

    async def before(world: World) -> None:
        await world.write("b", b"changed", offset=5)
        await die_renaming(world, store)

    async def after(world: World) -> None:
        assert await world.tree() == {"b": b"new"}
        assert await world.drain()
        assert await world.tree() == {"b": b"new"}

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"new"}


def test_what_is_written_after_it_could_not_be_finished_stays(
    store: MemoryStore, play: Play, clock: MockClock
) -> None:
    """The bucket was not to be reached; then a program wrote under the new name."""
    put(store, "a", b"new")

    async def before(world: World) -> None:
        await die_renaming(world, store)
        store.delete(["b"])

    async def meanwhile(world: World) -> None:
        await world.write("b", b"written")

    async def after(world: World) -> None:
        assert await world.drain()
        assert await world.tree() == {"a": b"new", "b": b"written"}

    play(before)
    store.faults = lambda method, _: Unavailable("No answer.") if method == "head" else None
    with pytest.raises(BaseExceptionGroup):  # what a session logs, and goes on
        play(meanwhile, clock, io_timeout_sec=0.1)
    store.faults = lambda *_: None
    play(meanwhile, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"a": b"new", "b": b"written"}


@pytest.mark.parametrize("key", ["a", "b"])
def test_what_others_changed_since_stays(key: str, store: MemoryStore, play: Play) -> None:
    put(store, "a", b"new")
    put(store, "b", b"old")

    async def before(world: World) -> None:
        await die_renaming(world, store)
        put(store, "b", b"old")
        store.clock = lambda: 10.0**10  # a later second
        put(store, key, b"others'")

    async def after(world: World) -> None:
        assert await world.tree() == {"a": b"new", "b": b"old", key: b"others'"}
        assert await world.drain()

    play(before)
    play(after)
    assert bucket(store) == {"a": b"new", "b": b"old", key: b"others'"}


def unheard(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Copies are carried out when the returned function is called; their callers give up."""
    real, asked = store.copy_object, list[Callable[[], object]]()

    def copy_object(*args: object) -> Flight[Copied]:
        asked.append(lambda: real(*args))  # type: ignore[arg-type]  # handed on as they are
        return Flight.failed(Unavailable("No answer."))

    def carry_out() -> None:
        monkeypatch.undo()
        asked[-1]()

    monkeypatch.setattr(store, "copy_object", copy_object)
    return carry_out


@pytest.mark.decision(9)
@pytest.mark.parametrize("then", ["nothing", "again", "used", "used elsewhere"])
def test_a_copy_nobody_heard_of_is_taken_back(
    then: str,
    store: MemoryStore,
    play: Play,
    clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", b"new")
    wanted = {"a": b"new"}

    async def scene(world: World) -> None:
        carry_out = unheard(store, monkeypatch)
        with pytest.raises(Unavailable):
            await world.rename("a", "b")
        carry_out()
        assert sorted(await world.tree()) == ["a"]
        if then == "again":
            await world.rename("a", "b")
            wanted["b"] = wanted.pop("a")
        elif then == "used":
            await world.write("b", b"other")
            wanted["b"] = b"other"
        elif then == "used elsewhere":
            put(store, "b", b"others'")
            wanted["b"] = b"others'"
        assert await world.drain()
        assert await world.tree() == wanted
        assert world.house.journal._records.moves() == []

    play(scene, clock, io_timeout_sec=0.1)
    assert bucket(store) == wanted


def test_so_is_one_of_a_directorys(
    store: MemoryStore, play: Play, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "d/a", b"new")

    async def scene(world: World) -> None:
        carry_out = unheard(store, monkeypatch)
        with pytest.raises(Unavailable):
            await world.rename("d", "e")
        carry_out()
        assert await world.drain()
        assert await world.tree() == {"d": None, "d/a": b"new"}

    play(scene, clock, io_timeout_sec=0.1)
    assert bucket(store) == {"d/a": b"new"}


def test_a_full_disk_is_no_half_rename(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"new")

    def full(*_: object, **__: object) -> None:
        raise NoSpace("The disk that holds the journal is full.")

    async def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Records, "change", full)
            with pytest.raises(NoSpace):
                await world.rename("a", "b")
        assert bucket(store) == {"a": b"new"}
        await world.rename("a", "b")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"b": b"new"}


@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("is_first", [False, True])
def test_what_another_mount_wrote_is_not_what_it_replaces(
    key: str, is_first: bool, store: MemoryStore, tmp_path: Path
) -> None:
    """Both died; whose journal the next one has as its own does not matter."""
    put(store, "a", b"first")

    async def main() -> None:
        with trio.fail_after(20):
            async with (
                entered(store, tmp_path, upload_delay_sec=NEVER_SEC) as one,
                entered(store, tmp_path, upload_delay_sec=NEVER_SEC) as two,
            ):
                renames, writes = (one, two) if is_first else (two, one)
                await die_renaming(renames, store)
                store.delete(["b"])  # the server had not begun
                await writes.write(key, b"WRITTEN")
            async with entered(store, tmp_path) as world:
                assert await world.drain()

    trio.run(main)
    assert bucket(store) == {"a": b"first", key: b"WRITTEN"}
