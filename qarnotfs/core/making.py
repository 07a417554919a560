"""Names come: what making a file, a directory, or another kind of node means.

Used by `namespace`, which is this and removes and renames, too. Each call finds out what is
there, which may wait for the bucket, and then changes inodes and debts in one synchronous
stretch.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qarnotfs.core import attributes, names
from qarnotfs.core.attributes import Posix
from qarnotfs.core.content import Content
from qarnotfs.core.finder import Finder, Marker
from qarnotfs.core.inodes import Inode
from qarnotfs.core.kinds import LINK_BYTES_MAX
from qarnotfs.core.lookup import Lookup
from qarnotfs.core.moving import Mover
from qarnotfs.core.names import Segment
from qarnotfs.errors import (
    EntryExists,
    InvalidArgument,
    InvalidName,
    ReadOnly,
)
from qarnotfs.index.index import Index
from qarnotfs.store.base import Attributes, Condition
from qarnotfs.views import View
from qarnotfs.writeback.debts import Debt
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.uploader import Uploader


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: owner of what is created."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms below that the file system is built on, put together by `session`."""

    index: Index
    journal: Journal
    uploader: Uploader
    content: Content
    mover: Mover
    lookup: Lookup
    view: View
    read_only: bool
    now_ns: Callable[[], int]


class Making:
    """Makes the names of one mounted view, and what is owed for them."""

    def __init__(self, rooms: Rooms) -> None:
        self._index, self._journal, self._uploader = rooms.index, rooms.journal, rooms.uploader
        self._content, self._mover, self._lookup = rooms.content, rooms.mover, rooms.lookup
        self._view, self._read_only, self._now_ns = rooms.view, rooms.read_only, rooms.now_ns
        self._finder: Finder = rooms.lookup.finder
        self._inodes = rooms.lookup.inodes

    # --- creating -----------------------------------------------------------------------------

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Inode:
        """A new directory: a marker is owed."""
        segment = await self._free(parent, name)
        prefix = f"{parent.key}{segment.text}/"
        key = self._new_key(prefix)
        posix = self._new_posix(parent, stat.S_IFDIR | mode & 0o7777, caller)
        inode = self._inodes.add(parent, name, is_directory=True, key=prefix, posix=posix)
        was_removed = self._journal.latest(key) is not None
        self.owe_marker(inode, yields=True)
        if not was_removed:  # else there may be deletions under way below it
            self._index.remember_empty(key)
        self._entries_changed(parent)
        return inode

    async def create(
        self, parent: Inode, name: bytes, mode: int, caller: Caller, rdev: int = 0
    ) -> Inode:
        """A new empty file, owed once it is closed. ``mode`` with the file type."""
        segment = await self._free(parent, name)
        key = self._new_key(parent.key + segment.text)
        posix = self._new_posix(parent, mode, caller)._replace(rdev=rdev)
        inode = self._inodes.add(parent, name, is_directory=False, key=key, posix=posix)
        await self._content.create(inode)
        self._entries_changed(parent)
        return inode

    async def mknod(
        self, parent: Inode, name: bytes, mode: int, caller: Caller, rdev: int = 0
    ) -> Inode:
        """A new file that nobody has open, or a node of another kind."""
        inode = await self.create(parent, name, mode, caller, rdev)
        with self._made(inode):
            await self._content.release(inode)
        return inode

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Inode:
        """A symbolic link: an object whose bytes are the target, as s3fs stores it."""
        inode = await self.create(parent, name, stat.S_IFLNK | 0o777, caller)
        with self._made(inode):
            await self._content.write(inode, 0, target)
            await self._content.release(inode)
        return inode

    @contextmanager
    def _made(self, inode: Inode) -> Iterator[None]:
        """At the end of a block it is on record; or else it was never there."""
        try:
            yield
        except BaseException:
            debt = inode.debt
            if debt is not None and not debt.recorded:
                self._displace(inode)
                self._journal.undo(debt)
            raise

    async def readlink(self, inode: Inode) -> bytes:
        if not stat.S_ISLNK(inode.posix.mode):
            raise InvalidArgument("Not a symbolic link.")
        return await self._lookup.read(inode, 0, LINK_BYTES_MAX, None)

    async def _free(self, parent: Inode, name: bytes) -> Segment:
        """The segment of a new name, which must be free and possible."""
        self.check_writable()
        segment = names.decode(name)
        if await self._finder.find(parent.key, name) is not None:
            raise EntryExists("The name is taken.")
        await self._check_clash(parent, segment)
        if left := parent.children.get(name):
            self._lookup.replaced(left, taken=False)
        return segment

    async def _check_clash(
        self, parent: Inode, segment: Segment, *, directory: bool = False
    ) -> None:
        """`InvalidName` for a name of an object beside a directory where there is none."""
        if segment.clash:
            beside = await self._finder.find(parent.key, names.encode(segment.text))
            if directory or beside is None or not beside.is_directory:
                raise InvalidName("Names that end in %FILE stand for an object beside a directory.")

    def _new_key(self, visible: str) -> str:
        return names.checked(self._view.stored(visible))

    # --- debts --------------------------------------------------------------------------------

    def owe_marker(
        self, inode: Inode, marker: Marker | None = None, *, yields: bool = False
    ) -> None:
        """The object that keeps a directory, with its attributes; ``marker``: that there is one.

        Where others stored one meanwhile, its bytes stay, and if ours ``yields`` its attributes.
        """
        key = marker.key if marker else self._view.stored(inode.key)
        stored = Attributes(
            attributes.encode(inode.posix), attributes.content_type(key, inode.posix.mode)
        )
        pending = self._journal.latest(key)
        if marker or (pending is not None and pending.present):
            debt = self._journal.owe_attributes(key, stored)
            debt.yields &= yields
        else:
            debt = self._journal.owe_empty(key, stored, Condition(absent=True))
            debt.yields = yields
        inode.marker = self._lookup.marker_posix(stored)
        self.soon(debt)

    def soon(self, debt: Debt | None) -> None:
        if debt is not None:
            debt.not_before_sec = self._uploader.due_sec()
            self._uploader.wake()

    # --- helpers ------------------------------------------------------------------------------

    def check_writable(self) -> None:
        if self._read_only:
            raise ReadOnly("The bucket is mounted read-only.")

    def _entries_changed(self, directory: Inode) -> None:
        now_ns = self._now_ns()
        directory.changes += 1
        self._lookup.date(directory, mtime_ns=now_ns, ctime_ns=now_ns)

    def _new_posix(self, parent: Inode, mode: int, caller: Caller) -> Posix:
        """The caller owns it; in a directory with the setgid bit the group is the directory's."""
        now_ns, gid = self._now_ns(), caller.gid
        if parent.posix.mode & stat.S_ISGID:
            gid = parent.posix.gid
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        return Posix(mode, caller.uid, gid, now_ns, now_ns, now_ns)

    def _displace(self, inode: Inode | None) -> None:
        """The inode loses its name; what is owed for the name is no concern of it now."""
        if inode is not None:
            self._content.displace(inode)
            self._inodes.detach(inode)
