"""The file system: inodes' attributes and open files; names are `namespace`'s.

Used by `operations`, which translates for the kernel, and made by `session`. Answers with
inodes, handles and bytes, and with errors of `qarnotfs.errors`; knows no FUSE.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qarnotfs.core import attributes
from qarnotfs.core.attributes import Posix
from qarnotfs.core.finder import Marker
from qarnotfs.core.handles import DirectoryHandle, FileHandle, Handles
from qarnotfs.core.inodes import Inode
from qarnotfs.core.making import Rooms
from qarnotfs.core.namespace import Namespace
from qarnotfs.core.tree import Node
from qarnotfs.errors import IsADirectory, QarnotfsError
from qarnotfs.store.base import Room
from qarnotfs.writeback.debts import Debt, Kind, State

log = logging.getLogger(__name__)

ENDLESS_BYTES, ENDLESS_FILES = 1 << 50, 1 << 32  # free, where nobody says how many may be stored


@dataclass(frozen=True, slots=True)
class Changes:
    """What ``setattr`` is to change; ``None`` leaves it. ``mode`` is permission bits."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Filesystem:
    """One mounted view of a bucket. Its names are ``names``, its inodes ``lookup``'s."""

    def __init__(self, rooms: Rooms) -> None:
        self.names = Namespace(rooms)
        self.lookup = rooms.lookup
        self._content, self._journal, self._uploader = rooms.content, rooms.journal, rooms.uploader
        self._index, self._finder = rooms.index, rooms.lookup.finder
        self._now_ns = rooms.now_ns
        self._handles = Handles()

    async def capacity(self) -> tuple[int, int, int, int]:
        """Bytes, bytes that are free, files, files that are free: by the account's limits.

        Without one, what is free is enough for every program that makes sure.
        """
        room = await self._index.room() or Room(0, None, 0, None)
        return (
            *_limited(room.bytes_used, room.bytes_max, ENDLESS_BYTES),
            *_limited(room.objects_used, room.objects_max, ENDLESS_FILES),
        )

    # --- attributes ---------------------------------------------------------------------------

    async def setattr(self, inode: Inode, changes: Changes) -> Inode:
        """Change attributes, and the size of a file."""
        self.names.check_writable()
        await self.lookup.getattr(inode)
        if changes.size is not None:
            if inode.is_directory:
                raise IsADirectory("A directory has no size to set.")
            await self._truncate(inode, changes.size)
        if changes != Changes(size=changes.size) or changes.size is None:
            await self._owe_attributes(inode, lambda posix: self._changed(posix, changes))
        return inode

    async def _truncate(self, inode: Inode, size: int) -> None:
        """Another size; or the same, which is a change of the file's times all the same."""
        if size != inode.size:
            self._heed_name(inode)
            await self._content.truncate(inode, size)
            return
        now_ns = self._now_ns()
        await self._owe_attributes(
            inode, lambda posix: posix._replace(mtime_ns=now_ns, ctime_ns=now_ns)
        )

    def _changed(self, posix: Posix, changes: Changes) -> Posix:
        if changes.mode is not None:
            posix = posix._replace(mode=stat.S_IFMT(posix.mode) | changes.mode & 0o7777)
        if changes.uid is not None:
            posix = posix._replace(uid=changes.uid)
        if changes.gid is not None:
            posix = posix._replace(gid=changes.gid)
        if changes.atime_ns is not None:
            posix = posix._replace(atime_ns=attributes.nearest_ns(changes.atime_ns))
        if changes.mtime_ns is not None:
            posix = posix._replace(mtime_ns=attributes.nearest_ns(changes.mtime_ns))
        return posix._replace(ctime_ns=self._now_ns())

    async def _owe_attributes(self, inode: Inode, change: Callable[[Posix], Posix]) -> None:
        """Changed attributes become part of a put that is owed, or a debt of their own.

        What cannot be stored or recorded is not shown, either.
        """
        has_marker = inode.is_directory and not inode.detached
        marker = await self._marker(inode) if has_marker else None
        before, inode.posix = inode.posix, change(inode.posix)
        try:
            attributes.check(inode.posix)
            self._record_attributes(inode, marker)
        except QarnotfsError:
            inode.posix = before
            raise

    def _record_attributes(self, inode: Inode, marker: Marker | None) -> None:
        self._content.take_over(inode)
        if (inode.detached and inode.debt is None) or inode is self.lookup.inodes.root:
            return
        if inode.is_directory:
            self.names.owe_marker(inode, marker)
            return
        key = inode.debt.key if inode.debt else inode.key  # of a file that is stored beside
        debt = self._journal.owe_attributes(key, self._content.attributes(inode))
        if debt.kind is Kind.META:
            self.names.soon(debt)

    async def _marker(self, inode: Inode) -> Marker | None:
        """The object that keeps a directory, which may be renamed while it is asked for."""
        while True:
            key = inode.key
            marker = await self._finder.marker(key)
            if inode.key == key:
                return marker

    async def set_xattrs(
        self, inode: Inode, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> None:
        """Change the users' extended attributes of a file or directory."""
        self.names.check_writable()
        await self.lookup.getattr(inode)
        await self._owe_attributes(
            inode,
            lambda posix: posix._replace(xattrs=change(posix.xattrs), ctime_ns=self._now_ns()),
        )

    def stored_key(self, inode: Inode) -> str:
        """The key in the bucket; of a directory, its marker's, whether there is one or not."""
        return self._finder.stored_prefix(inode.key) if inode.is_directory else inode.key

    # --- open files ---------------------------------------------------------------------------

    async def open(self, inode: Inode, flags: int, *, privileged: bool = True) -> int:
        """Open a file; it is read at the version it has now, or as it is written here.

        Emptied by somebody without privileges, it loses the bits that would give them some.
        """
        if inode.is_directory:
            raise IsADirectory("A directory is not opened as a file.")
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        emptied = flags & os.O_TRUNC  # as Linux has it, also where it is opened to read
        if writable or emptied:
            self.names.check_writable()
        await self.lookup.getattr(inode)
        self.lookup.check_told(inode)
        if inode.info is not None and inode.staged is None:
            self._finder.opened(inode.info)
        number = self.opened(inode, writable=writable)
        if emptied:
            try:
                if not privileged:
                    inode.posix = inode.posix._replace(mode=_without_set_id(inode.posix.mode))
                await self._truncate(inode, 0)
            except BaseException:
                await self.release(number)
                raise
        return number

    def opened(self, inode: Inode, *, writable: bool) -> int:
        """A handle on a file that is there."""
        inode.opens += 1
        inode.writers += writable
        return self._handles.add(FileHandle(inode, writable))

    def keeps_pages(self, inode: Inode) -> bool:
        """Whether the pages the kernel has of the file are those of the version it has now."""
        version = "staged" if inode.staged else inode.info.etag if inode.info else None
        kept = version is not None and inode.kernel_version == version
        if kept and not inode.staged and inode.info:  # it may never ask for a byte of it
            self._finder.used(inode.info, asks=False)
        inode.kernel_version = version
        return kept

    async def read(self, number: int, offset: int, size: int) -> bytes:
        handle = self._handles.file(number)
        inode = handle.inode
        if not offset and not inode.staged and inode.info:
            self._finder.used(inode.info, asks=True)
        return await self.lookup.read(inode, offset, size, handle.pattern)

    async def write(self, number: int, offset: int, data: bytes) -> None:
        inode = self._handles.file(number).inode
        self._heed_name(inode)
        await self._content.write(inode, offset, data)

    def _heed_name(self, inode: Inode) -> None:
        """Before a file is written to whose name was lost: whether another one has it by now."""
        if inode.replaced and inode.staged is None:
            belief = self._index.believed(inode.key) or self._index.heard(inode.key)
            there = belief.info if belief else None
            inode.taken |= there is not None and not there.same_version(inode.info)

    async def flush(self, number: int) -> None:
        """A descriptor of the handle is closed: what was written is recorded now."""
        handle = self._handles.file(number)
        if handle.writable:
            await self._content.close(handle.inode)

    async def fsync(self, number: int) -> None:
        await self._content.sync(self._handles.file(number).inode)

    async def release(self, number: int) -> None:
        """The last descriptor of the handle is gone."""
        handle = self._handles.remove(number)
        if not isinstance(handle, FileHandle):
            return
        inode = handle.inode
        inode.opens -= 1
        inode.writers -= handle.writable
        try:
            if handle.writable and not inode.writers:
                await self._content.release(inode)
        finally:
            if inode.detached and not inode.opens:
                self.names.let_go(inode)
            self.lookup.inodes.collect(inode)

    async def seal_all(self) -> None:
        """Record what programs wrote and did not close: the mount ends now, and asks nobody."""
        for inode in self.lookup.inodes.all():
            try:
                if inode.debt is not None:
                    await self._content.release(inode, completes=False)
            except QarnotfsError as error:  # the others are recorded all the same
                log.error("%s could not be recorded: %s", inode.key, error)

    # --- open directories ---------------------------------------------------------------------

    def opendir(self, inode: Inode) -> int:
        return self._handles.add(
            DirectoryHandle(inode, self._finder.browse(inode.key), changes=inode.changes)
        )

    def rewinddir(self, number: int) -> None:
        """The directory is read from its start: as it is now."""
        handle = self._handles.directory(number)
        handle.rewind(self._finder.browse(handle.inode.key))

    async def entries(self, number: int, start: int) -> tuple[Inode, list[Node]]:
        """The directory, and entries from number ``start`` on: some of them, or none at its end."""
        handle = self._handles.directory(number)
        inode = handle.inode
        while (nodes := handle.at(start)) is None:
            if handle.browse.directory != inode.key:
                handle.follow(self._finder.browse(inode.key))
            if handle.browse.again is None:  # else it is what was shown before
                handle.changes = inode.changes
            handle.add(await self._finder.page(handle.browse))
        return inode, nodes

    def releasedir(self, number: int) -> None:
        self._handles.remove(number)

    async def fsyncdir(self, number: int) -> None:
        """Return when the names of a directory are in the bucket as they are here."""
        prefix = self._finder.stored_prefix(self._handles.directory(number).inode.key)
        for debt in self._journal.all():
            at: Debt | None = debt
            while at and at.promised and _is_directly_in(prefix, at.key):
                await self._uploader.settle(at)  # or a younger one that took its place
                at = None if at.paid or at.state is State.OPEN else self._journal.latest(at.key)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel does not remember the inode that often any more."""
        inode = self.lookup.inodes.forget(number, lookups)
        if inode is not None:
            self._content.let_go(inode)


def _is_directly_in(prefix: str, key: str) -> bool:
    """Whether a key is a name in a directory, of a file or of a directory, or its marker's."""
    return key.startswith(prefix) and "/" not in key[len(prefix) : -1]


def _limited(used: int, limit: int | None, endless: int) -> tuple[int, int]:
    """How much there is, and how much of it is free."""
    total = used + endless if limit is None else limit
    return total, max(0, total - used)


def _without_set_id(mode: int) -> int:
    """Where a group may not execute the file, setgid has another meaning, and stays."""
    set_gid = stat.S_ISGID if mode & stat.S_IXGRP else 0
    return mode & ~(stat.S_ISUID | set_gid)
