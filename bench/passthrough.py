"""The least a file system in Python can do: a directory of local files, through pyfuse3.

    python -m bench.passthrough DIRECTORY MOUNTPOINT     # serves until it is unmounted

The limit that `bench.run` measures against: nobody who answers the kernel through pyfuse3
reads, writes, lists or makes files faster. It keeps nothing in mind but where they are.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, RequestContext

READ_AHEAD_KB = 1024  # as our mount asks for
BELIEVE_SEC = 60.0
COPIED = ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink")
COPIED_NS = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")


class PassThrough(pyfuse3.Operations):
    """The files of one directory."""

    def __init__(self, top: Path) -> None:
        super().__init__()
        self._paths = {pyfuse3.ROOT_INODE: top}
        self._listed: dict[int, tuple[Path, list[tuple[str, int, bool]]]] = {}
        self._opened = 0
        self._templates = {kind: EntryAttributes() for kind in (False, True)}
        for is_directory, told in self._templates.items():
            told.st_mode = 0o40755 if is_directory else 0o100644
            told.entry_timeout, told.attr_timeout = BELIEVE_SEC, 0  # the size is asked for

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: RequestContext | None = None
    ) -> EntryAttributes:
        path = self._paths[parent_inode] / os.fsdecode(name)
        try:
            number = path.stat().st_ino
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or 0) from error
        self._paths[number] = path
        return await self.getattr(number)

    async def getattr(self, inode: int, ctx: RequestContext | None = None) -> EntryAttributes:
        found, told = self._paths[inode].stat(), EntryAttributes()
        for name in COPIED + COPIED_NS:
            setattr(told, name, getattr(found, name))
        told.st_ino = inode
        told.attr_timeout = told.entry_timeout = BELIEVE_SEC
        return told

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        (self._paths[parent_inode] / os.fsdecode(name)).mkdir(mode)
        return await self.lookup(parent_inode, name)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        (self._paths[parent_inode] / os.fsdecode(name)).unlink()

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        (self._paths[parent_inode] / os.fsdecode(name)).rmdir()

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        with os.scandir(self._paths[inode]) as entries:
            found = [(entry.name, entry.inode(), entry.is_dir()) for entry in entries]
        self._opened += 1
        self._listed[self._opened] = self._paths[inode], found
        return self._opened

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        top, entries = self._listed[fh]
        for at in range(start_id, len(entries)):
            name, number, is_directory = entries[at]
            told = self._templates[is_directory]
            told.st_ino = number
            if not pyfuse3.readdir_reply(token, os.fsencode(name), told, at + 1):
                return
            self._paths[number] = top / name

    async def releasedir(self, fh: int) -> None:
        del self._listed[fh]

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=os.open(self._paths[inode], flags), keep_cache=True)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        path = self._paths[parent_inode] / os.fsdecode(name)
        descriptor = os.open(path, flags | os.O_CREAT, mode)
        return FileInfo(fh=descriptor), await self.lookup(parent_inode, name)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def release(self, fh: int) -> None:
        os.close(fh)


async def serve(mountpoint: str) -> None:
    """Answer the kernel until it is unmounted."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        found = await trio.to_thread.run_sync(os.stat, mountpoint)
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        with suppress(OSError):  # only root may
            Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))


def main() -> None:
    top, mountpoint = sys.argv[1:]
    pyfuse3.init(PassThrough(Path(top)), mountpoint, {"fsname=passthrough", "default_permissions"})
    try:
        trio.run(serve, mountpoint)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
