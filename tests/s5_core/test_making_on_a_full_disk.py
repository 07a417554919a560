"""What could not be made because a disk is full is not there, now or later."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable

import pytest

from qarnotfs.errors import NoSpace
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.staging import Staged
from tests.s5_core.house import CALLER, NEVER_SEC, World, bucket, put

Play = Callable[..., None]


def full(*_: object, **__: object) -> None:
    raise NoSpace("The disk is full.")


async def symlink(world: World) -> None:
    await world.fs.names.symlink(*await world.parent("a"), b"target", CALLER)


async def mknod(world: World) -> None:
    await world.fs.names.mknod(*await world.parent("a"), stat.S_IFIFO | 0o644, CALLER)


@pytest.mark.parametrize("removed", [False, True], ids=["new", "removed"])
@pytest.mark.parametrize(
    ("make", "disk"), [(symlink, "staged files"), (symlink, "journal"), (mknod, "journal")]
)
def test_what_could_not_be_made_is_not_there(
    make: Callable[[World], Awaitable[None]],
    disk: str,
    removed: bool,
    store: MemoryStore,
    play: Play,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if removed:
        put(store, "a", b"old")

    async def scene(world: World) -> None:
        if removed:
            await world.unlink("a")
        with monkeypatch.context() as patch:
            if disk == "journal":
                patch.setattr(world.house.journal._records, "change", full)
            else:
                patch.setattr(Staged, "write", full)
            with pytest.raises(NoSpace):
                await make(world)
        assert await world.names() == []
        assert world.house.journal.count == removed
        assert not list(world.house.journal.staging.directory.iterdir())
        assert await world.drain()
        assert bucket(store) == {}
        await make(world)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert list(bucket(store)) == ["a"]


@pytest.mark.parametrize("removed", [False, True])
def test_the_end_of_a_file_that_cannot_be_recorded_leaves_nothing_open(
    removed: bool, store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        inode = await world.inode("a")
        inode.lookups += not removed  # the kernel remembers it
        await world.fs.write(handle, 0, b"bytes")
        with monkeypatch.context() as patch:
            patch.setattr(world.house.journal._records, "change", full)
            with pytest.raises(NoSpace):
                await world.close(handle)
        assert inode.staged is not None
        assert inode.staged._fd is None
        if removed:
            await world.unlink("a")
            assert inode not in world.fs.lookup.inodes.all()
        else:
            assert await world.read("a") == b"bytes"
        await world.fs.seal_all()
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == ({} if removed else {"a": b"bytes"})
