"""A truncation that fails has not happened: nothing of it is seen, or uploaded later."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import NoSpace
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put

Play = Callable[..., None]

BYTES = b"accepted"


def full(*_: object, **__: object) -> None:
    raise NoSpace("The disk that holds the journal is full.")


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def truncate(world: World, size: int) -> None:
    await world.fs.setattr(await world.inode("a"), Changes(size=size))


@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize("what", ["object", "owed"])
def test_a_journal_on_a_full_disk(
    what: str, size: int, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        if what == "owed":
            await world.write("a", BYTES)
        else:
            put(store, "a", BYTES)
        before = (await world.inode("a")).posix
        with monkeypatch.context() as patch:
            patch.setattr(world.house.journal._records, "change", full)
            with pytest.raises(NoSpace):
                await truncate(world, size)
        assert (await world.inode("a")).posix == before
        assert await world.read("a") == BYTES
        assert world.house.journal.count == (what == "owed")
        assert await world.house.uploader.drain()
        assert bucket(store) == {"a": BYTES}
        await truncate(world, size)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": BYTES[:size].ljust(size, b"\0")}


def test_a_staged_file_that_is_open_and_cannot_be_cut(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, BYTES)
        await world.fs.flush(handle)
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", no_room)
            with pytest.raises(NoSpace):
                await truncate(world, 3)
        assert await world.fs.read(handle, 0, 100) == BYTES
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": BYTES}


def test_a_staged_file_that_cannot_be_cut_when_it_is_opened(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", BYTES)

    async def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", no_room)
            with pytest.raises(NoSpace):
                await world.open("a", os.O_WRONLY | os.O_TRUNC)
        assert await world.read("a") == BYTES
        assert not world.house.journal.count

    play(scene, upload_delay_sec=NEVER_SEC)
