"""Renames that were cut off, in lives that cannot finish them; and the life after those."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from qarnotfs.errors import NotUploaded
from qarnotfs.store.memory import MemoryStore
from tests.s4_cache.timeless import timeless
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, failing_to_resume

Play = Callable[..., None]


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in bucket(store).items() if not key.endswith("/")}


async def drained(world: World) -> None:
    assert await world.drain()


def renaming_dies(store: MemoryStore, play: Play, *, removed: str = "") -> None:
    """It dies when a file was ``removed`` meanwhile."""
    put(store, "d/a", b"a")
    put(store, "d/b", b"b")

    async def before(world: World) -> None:
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "d", "e")
            await stopped.made()
            while not {"e/a", "e/b"} <= bucket(store).keys():
                await trio.sleep(0.001)
            if removed:
                await world.unlink(removed)
            nursery.cancel_scope.cancel()
            stopped.go_on()

    play(before, upload_delay_sec=NEVER_SEC)


@pytest.fixture
def cut_off(store: MemoryStore, play: Play) -> None:
    """``d`` is renamed to ``e``, and the mount dies when all is copied."""
    renaming_dies(store, play)


def left(store: MemoryStore, play: Play, scene: Callable[[World], object]) -> None:
    """Play a life that cannot finish it, and the next."""
    with timeless() as clock, failing_to_resume(store):
        play(scene, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    play(drained)


@pytest.mark.usefixtures("cut_off")
def test_its_old_name_is_removed(store: MemoryStore, play: Play) -> None:
    async def meanwhile(world: World) -> None:
        await world.unlink("d/a")
        await world.unlink("d/b")

    left(store, play, meanwhile)
    assert files(store) == {"e/a": b"a", "e/b": b"b"}


@pytest.mark.usefixtures("cut_off")
def test_a_copy_is_written(store: MemoryStore, play: Play) -> None:
    async def meanwhile(world: World) -> None:
        await world.write("e/a", b"NEW")
        await world.unlink("d/a")

    left(store, play, meanwhile)
    assert files(store) == {"e/a": b"NEW", "e/b": b"b"}


@pytest.mark.usefixtures("cut_off")
def test_both_names_are_removed(store: MemoryStore, play: Play) -> None:
    async def meanwhile(world: World) -> None:
        await world.unlink("d/a")
        assert await world.drain()
        await world.unlink("e/a")

    left(store, play, meanwhile)
    assert files(store) == {"e/b": b"b"}


@pytest.mark.usefixtures("cut_off")
def test_nothing_happens_in_between(store: MemoryStore, play: Play) -> None:
    left(store, play, drained)
    assert files(store) == {"e/a": b"a", "e/b": b"b"}


def test_what_was_removed_in_between_is_half_gone(store: MemoryStore, play: Play) -> None:
    """The next life knows, goes on, fails, and dies when only its old name is gone."""
    renaming_dies(store, play, removed="d/a")
    store.delete(["e/b"])  # as if it had not been copied yet

    async def meanwhile(world: World) -> None:
        while world.house.journal.latest("d/a"):
            await trio.sleep(0.001)
        assert bucket(store) == {"d/b": b"b", "e/a": b"a"}

    with timeless() as clock, failing_to_resume(store, by="copy_object"):
        play(meanwhile, clock, upload_delay_sec=NEVER_SEC, io_timeout_sec=0.1)
    play(drained)
    assert files(store) == {"e/b": b"b"}


def cut_off_over(store: MemoryStore, play: Play) -> None:
    """``a`` is renamed to a name that was removed, and the mount dies before it is copied."""
    put(store, "a", b"new")
    put(store, "b", b"removed")

    async def before(world: World) -> None:
        await world.unlink("b")
        stopped = StoppedCopy(store, before=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.made()
            nursery.cancel_scope.cancel()

    play(before, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"new", "b": b"removed"}


def test_what_was_removed_does_not_come_back(store: MemoryStore, play: Play) -> None:
    """Nobody has looked whether its end is still wanted: it waits, and nobody sees it."""
    cut_off_over(store, play)

    async def meanwhile(world: World) -> None:
        assert await world.names() == ["a"]
        assert not await world.drain()

    left(store, play, meanwhile)
    assert bucket(store) == {"b": b"new"}


def test_a_name_is_used_again_of_which_the_end_waits(store: MemoryStore, play: Play) -> None:
    cut_off_over(store, play)

    async def meanwhile(world: World) -> None:
        handle = await world.create("b")
        await world.fs.write(handle, 0, b"written")
        with pytest.raises(NotUploaded, match="next mount"):
            await world.fs.fsync(handle)
        await world.close(handle)
        assert not await world.drain()

    left(store, play, meanwhile)
    assert bucket(store) == {"a": b"new", "b": b"written"}


def test_a_mount_that_may_not_write_ends(store: MemoryStore, play: Play) -> None:
    cut_off_over(store, play)

    async def meanwhile(world: World) -> None:
        assert not await world.drain()

    play(meanwhile, read_only=True)
    assert bucket(store) == {"a": b"new", "b": b"removed"}
    play(drained)
    assert bucket(store) == {"b": b"new"}
