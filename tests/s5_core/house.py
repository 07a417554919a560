"""A whole house without kernel and gateway: `Filesystem` over a `MemoryStore`.

Used by the tests of this storey. `World` names files by path, as a program does, and
keeps its caches and journal in a directory, so that it can be left and entered again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from qarnotfs.core.filesystem import Filesystem
from qarnotfs.core.inodes import Inode
from qarnotfs.core.making import Caller
from qarnotfs.errors import NoSuchEntry, NotADirectory
from qarnotfs.session import House, MountOptions, build
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View

CALLER = Caller(1000, 1000)
ALWAYS_NEW_SEC = 4e9  # a store's clock: what it holds may change within this second, at any time
NEVER_SEC = 1000.0  # an upload delay: nothing is sent but what somebody waits for


@dataclass
class MemoryBucket:
    """What `session.build` wants of a bucket."""

    store: MemoryStore
    view: View
    cache_ttl_sec: int | None = 60
    uuid: str = "memory"
    endpoint: str = "memory://"

    def to_json(self) -> dict[str, Any]:
        return {"bucketName": self.uuid}


def options(directory: Path, **changes: Any) -> MountOptions:
    defaults: dict[str, Any] = {
        "mountpoint": directory / "mnt",
        "cache_dir": directory / "cache",
        "cache_bytes_max": 64 << 20,
        "dirty_bytes_max": 64 << 20,
        "cache_ttl_sec": None,
        "read_only": False,
        "allow_other": False,
        "uid": 1000,
        "gid": 1000,
        "file_mode": 0o644,
        "dir_mode": 0o755,
        "close": "later",
        "fsync_timeout_sec": 0.0,
        "upload_delay_sec": 0.0,
        "io_timeout_sec": 20.0,
        "attrs": "full",
        "on_conflict": "keep-both",
    }
    return MountOptions(**defaults | changes)


class World:
    """One mount's life, seen by a program."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.fs: Filesystem = house.filesystem

    async def inode(self, path: str) -> Inode:
        inode = self.fs.lookup.inodes.root
        for name in Path(path).parts:
            if not inode.is_directory:  # the kernel's part
                raise NotADirectory("A file has no entries.")
            inode = await self.fs.lookup.lookup(inode, name.encode())
        return inode

    async def parent(self, path: str) -> tuple[Inode, bytes]:
        inode = await self.inode(str(Path(path).parent))
        if not inode.is_directory:
            raise NotADirectory("A file has no entries.")
        return inode, Path(path).name.encode()

    async def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return await self.fs.open(await self.inode(path), flags)

    async def create(self, path: str) -> int:
        parent, name = await self.parent(path)
        inode = await self.fs.names.create(parent, name, stat.S_IFREG | 0o644, CALLER)
        return self.fs.opened(inode, writable=True)

    async def close(self, handle: int) -> None:
        try:
            await self.fs.flush(handle)
        finally:
            await self.fs.release(handle)

    async def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Create the file if it is not there, write into it, close it."""
        try:
            handle = await self.open(path, os.O_WRONLY)
        except NoSuchEntry:
            handle = await self.create(path)
        try:
            await self.fs.write(handle, offset, data)
        finally:
            await self.close(handle)

    async def read(self, path: str) -> bytes:
        handle = await self.open(path)
        try:
            return await self.fs.read(handle, 0, 1 << 30)
        finally:
            await self.close(handle)

    async def mkdir(self, path: str) -> None:
        await self.fs.names.mkdir(*await self.parent(path), 0o755, CALLER)

    async def unlink(self, path: str) -> None:
        await self.fs.names.unlink(*await self.parent(path))

    async def rmdir(self, path: str) -> None:
        await self.fs.names.rmdir(*await self.parent(path))

    async def rename(self, old: str, new: str) -> None:
        await self.fs.names.rename(
            await self.parent(old), await self.parent(new), replace_target=True
        )

    async def names(self, path: str = "") -> list[str]:
        number = self.fs.opendir(await self.inode(path))
        found: list[str] = []
        while nodes := (await self.fs.entries(number, len(found)))[1]:
            found += [node.name.decode() for node in nodes]
        self.fs.releasedir(number)
        return found

    async def tree(self, path: str = "") -> dict[str, bytes | None]:
        """Everything below a directory: bytes of files, ``None`` for directories."""
        found: dict[str, bytes | None] = {}
        for name in await self.names(path):
            child = str(Path(path) / name)
            if (await self.inode(child)).is_directory:
                found[child] = None
                found |= await self.tree(child)
            else:
                found[child] = await self.read(child)
        return found

    async def drain(self) -> bool:
        await self.fs.seal_all()
        return await self.house.uploader.drain()


@asynccontextmanager
async def entered(
    store: MemoryStore, directory: Path, view: View | None = None, **changes: Any
) -> AsyncIterator[World]:
    """A running house; leaving it is like kill -9: nothing is drained or sealed."""
    house = build(MemoryBucket(store, view or View()), options(directory, **changes))  # type: ignore[arg-type]  # a bucket in all that is used of one
    house.capabilities[0] = store.capabilities
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(house.index.run)
            await nursery.start(house.reader.run)
            await nursery.start(house.uploader.run)
            await house.filesystem.names.resume()
            yield World(house)
            nursery.cancel_scope.cancel()
    finally:
        house.journal.close()
        house.lock.release()
        house.index.close()
        house.disk.close()


def put(store: MemoryStore, key: str, data: bytes = b"x", **metadata: str) -> None:
    """Store an object as somebody else would."""
    store.put(key, data, Attributes(metadata)).result()


def bucket(store: MemoryStore) -> dict[str, bytes]:
    """Everything a store holds."""
    found: dict[str, bytes] = {}
    with store._lock:  # a house may be deleting
        for info in store.list_page("").objects:
            found[info.key] = store.get(info.key, 0, info.size).result().data if info.size else b""
    return found
