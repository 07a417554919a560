"""Files that are renamed while they are written anew: what was closed before moves with them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio

from qarnotfs.errors import NotUploaded
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut

Play = Callable[..., None]


async def after(world: World) -> None:
    assert await world.drain()
    assert world.house.journal.failed == []


async def being_sent(world: World, store: MemoryStore, path: str, data: bytes) -> StoppedPut:
    """Closed, and on its way."""
    stopped = StoppedPut(store)
    await world.write(path, data)
    latest = world.house.journal.latest(path)
    assert latest
    world.house.journal.urge(latest)
    world.house.uploader.progressed()
    await stopped.sent()
    return stopped


async def half_written(world: World, path: str) -> None:
    """Its old bytes are cut off, and it is never closed."""
    handle = await world.open(path, os.O_WRONLY | os.O_TRUNC)
    await world.fs.write(handle, 0, b"half")


@pytest.mark.parametrize("arrived", [False, True])
def test_over_what_is_being_sent(arrived: bool, store: MemoryStore, play: Play) -> None:
    """That is younger than what was closed, and older than the rename."""

    async def before(world: World) -> None:
        await world.write("a", b"closed")
        stopped = await being_sent(world, store, "b", b"older")
        await half_written(world, "a")
        await world.rename("a", "b")
        if arrived:
            stopped.arrive_unheard()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"closed"}


def test_with_its_directory_over_what_was_removed_while_it_was_sent(
    store: MemoryStore, play: Play
) -> None:
    async def before(world: World) -> None:
        await world.mkdir("d")
        await world.write("d/a", b"closed")
        await world.mkdir("e")
        await being_sent(world, store, "e/a", b"removed")
        await world.unlink("e/a")
        await world.rmdir("e")
        await half_written(world, "d/a")
        await world.rename("d", "e")

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"e/": b"", "e/a": b"closed"}


def test_after_an_older_version_was_sent_in_vain(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        stopped = await being_sent(world, store, "a", b"one")
        sent = world.house.journal.latest("a")
        assert sent
        await world.write("a", b"closed")
        await half_written(world, "a")
        stopped.fail()
        with trio.fail_after(30):
            while world.house.journal.has(sent.id):
                await trio.sleep(0.001)
        await world.rename("a", "b")

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"closed"}


def test_what_it_was_changed_in_is_not_replaced(store: MemoryStore, play: Play) -> None:
    """What was closed is a change of the object that has its old name."""
    data = bytes(PART_BYTES) + b"tail"
    put(store, "a", data)
    put(store, "z", b"other")

    async def before(world: World) -> None:
        await world.write("a", b"!")
        await half_written(world, "a")
        await world.rename("a", "b")
        with pytest.raises(NotUploaded, match="still being written"):
            await world.rename("z", "a")

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"!" + data[1:], "z": b"other"}
