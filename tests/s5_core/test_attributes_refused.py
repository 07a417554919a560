"""Attributes that cannot be stored or recorded: the change fails, and is not shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from qarnotfs.core.filesystem import Changes
from qarnotfs.core.inodes import Inode
from qarnotfs.errors import NoSpace
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, put

Play = Callable[..., None]
Change = Callable[[World, Inode], Awaitable[object]]


async def chmod(world: World, inode: Inode) -> None:
    await world.fs.setattr(inode, Changes(mode=0o600))


async def truncate_to_its_size(world: World, inode: Inode) -> None:
    await world.fs.setattr(inode, Changes(size=inode.size))


async def set_xattr(world: World, inode: Inode) -> None:
    await world.fs.set_xattrs(inode, lambda xattrs: {**xattrs, "user.x": b"1"})


@pytest.mark.parametrize(
    ("path", "change"),
    [(p, c) for p in ("a", "d", "owed") for c in (chmod, set_xattr)]
    + [(p, truncate_to_its_size) for p in ("a", "owed")],
)
def test_what_could_not_be_recorded_is_not_shown(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch, path: str, change: Change
) -> None:
    put(store, "a")
    put(store, "d/x")

    async def scene(world: World) -> None:
        def full(*_: object, **__: object) -> None:
            raise NoSpace("The disk that holds the journal is full.")

        await world.write("owed", b"1")
        inode = await world.inode(path)
        before = inode.posix
        with monkeypatch.context() as patch:
            patch.setattr(world.house.journal._records, "change", full)
            with pytest.raises(NoSpace):
                await change(world, inode)
        assert (await world.inode(path)).posix == before
        if not inode.is_directory:
            await world.write(path, b"2")
        assert await world.drain()
        kept = (await world.inode(path)).posix
        assert (kept.mode, kept.xattrs) == (before.mode, before.xattrs)

    play(scene, upload_delay_sec=NEVER_SEC)
