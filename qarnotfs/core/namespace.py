"""Names come, go and move: what creating, removing and renaming mean.

Used by `operations` through `filesystem`. Each call finds out what is there, which may wait
for the bucket, and then changes inodes and debts in one synchronous stretch.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
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
from qarnotfs.core.renaming import Way
from qarnotfs.core.tree import Node
from qarnotfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    FileError,
    InvalidArgument,
    InvalidName,
    IsADirectory,
    NotADirectory,
    ReadOnly,
    StoreError,
)
from qarnotfs.index.index import Index
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition
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


class Namespace:
    """The names of one mounted view."""

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

    # --- removing -----------------------------------------------------------------------------

    async def unlink(self, parent: Inode, name: bytes) -> None:
        """Remove a file. Whoever has it open keeps its bytes."""
        node = await self._existing(parent, name)
        if node.is_directory:
            raise IsADirectory("It is a directory.")
        inode = self._lookup.owner(parent, node)
        info = node.info
        if info is None and self._finder.debt(node.key) is None:  # it has arrived since
            heard = self._index.heard(node.key)
            info = heard.info if heard else None
        expected = Condition(etag=info.etag) if info else UNCONDITIONAL
        with self._kept(inode):
            debt = self._journal.owe_delete(node.key, expected)
            self.soon(debt)
            self._displace(inode)
            if debt and inode and inode.opens and self._content.needs_object(inode):
                self._journal.linger(debt)
                inode.removal = debt
        self._uploader.progressed()
        self._entries_changed(parent)
        await self._keep_directory(parent)

    async def rmdir(self, parent: Inode, name: bytes) -> None:
        """Remove an empty directory."""
        node = await self._existing(parent, name)
        if not node.is_directory:
            raise NotADirectory("It is not a directory.")
        inode = self._lookup.owner(parent, node)
        if await self._finder.children(node.key):
            raise DirectoryNotEmpty("The directory is not empty.")
        if inode and inode.key != node.key:  # renamed meanwhile
            return await self.rmdir(parent, name)
        for scope in self._view.scopes(node.key):
            self.soon(self._journal.owe_delete(scope.prefix, UNCONDITIONAL))
        self._displace(parent.children.get(name))
        self._entries_changed(parent)
        await self._keep_directory(parent)

    def let_go(self, inode: Inode) -> None:
        """Nobody has a nameless file open any more: its bytes go, the bucket's too."""
        self._content.let_go(inode)
        if inode.removal is not None:
            self._journal.release(inode.removal, inode.removal.not_before_sec)
            self._uploader.wake()

    def _displace(self, inode: Inode | None) -> None:
        """The inode loses its name; what is owed for the name is no concern of it now."""
        if inode is not None:
            self._content.displace(inode)
            self._inodes.detach(inode)

    async def _keep_directory(self, inode: Inode) -> None:
        """A directory that lost its last entry stays: by a marker, if it has none.

        It lost it, whatever goes wrong here.
        """
        if inode is self._inodes.root:
            return
        try:
            stays = await self._finder.has_children(inode.key)
            stays = stays or await self._finder.marker(inode.key) is not None
        except StoreError:
            stays = False  # as far as is known: a marker that is there is left as it is
        if not stays and not inode.detached:
            with suppress(FileError):  # a full disk
                self.owe_marker(inode, yields=True)

    async def _existing(self, parent: Inode, name: bytes) -> Node:
        self.check_writable()
        key = parent.key
        node = await self._finder.find(key, name)
        if parent.key != key:  # it was renamed meanwhile
            return await self._existing(parent, name)
        if node is None:
            raise self._lookup.gone(parent, name)
        return node

    # --- renaming -----------------------------------------------------------------------------

    async def resume(self) -> None:
        """Finish the renames of directories that former mounts began; before anybody asks."""
        if not self._read_only:
            await self._mover.resume()

    async def rename(
        self, old: tuple[Inode, bytes], new: tuple[Inode, bytes], *, replace_target: bool
    ) -> None:
        """Give a file or directory another name, in place of what has it."""
        (parent, name), (new_parent, new_name) = old, new
        directories = parent.key, new_parent.key
        node = await self._existing(parent, name)
        segment = names.decode(new_name)
        target = await self._finder.find(new_parent.key, new_name)
        if target is not None:
            if not replace_target:
                raise EntryExists("The name is taken.")
            if target.key == node.key and target.is_directory == node.is_directory:
                return
            await self._check_replaceable(node, target)
        else:
            await self._check_clash(new_parent, segment, directory=node.is_directory)
        visible = new_parent.key + segment.text
        waited = node.is_directory and await self._mover.others_end(node.key, visible + "/")
        if waited or (parent.key, new_parent.key) != directories:  # they were renamed meanwhile
            return await self.rename(old, new, replace_target=replace_target)
        inode = self._lookup.owner(parent, node)

        def moved() -> bool:
            """Whether one of the directories was renamed meanwhile, or the file lost its name."""
            has_gone = inode is not None and inode.key != node.key
            return has_gone or (parent.key, new_parent.key) != directories

        with ExitStack() as kept:

            def keep() -> None:
                late = new_parent.children.get(new_name)
                if target is not None:
                    late = self._lookup.owner(new_parent, target._replace(name=new_name))
                if late and late.staged:
                    kept.enter_context(late.staged.pinned())

            keep()
            if node.is_directory:
                self._new_key(visible + "/")
                lost = self._inodes.nameless()
                replaces = target is not None
                await self._mover.directory(node.key, visible + "/", inode, lost, replaces=replaces)
                self._lookup.dates.move(node.key, visible + "/")
            else:
                known = Condition(etag=target.info.etag) if target and target.info else None
                key = target.key if target else self._new_key(visible)
                there = known or Condition(absent=True)
                way = Way(moved, keep, replace_target)
                if not await self._mover.files.file(node, key, there, inode, way):
                    return await self.rename(old, new, replace_target=replace_target)
            self._displace(new_parent.children.get(new_name))
        if inode is not None and not inode.detached:
            self._inodes.move(inode, new_parent, new_name)
            self._lookup.date(inode, mtime_ns=inode.posix.mtime_ns, ctime_ns=self._now_ns())
        self._entries_changed(parent)
        self._entries_changed(new_parent)
        await self._keep_directory(parent)

    def _kept(self, inode: Inode | None) -> AbstractContextManager[object]:
        """The staged bytes of an inode stay, though their debt may go."""
        return inode.staged.pinned() if inode is not None and inode.staged else nullcontext()

    async def _check_replaceable(self, node: Node, target: Node) -> None:
        if target.is_directory and not node.is_directory:
            raise IsADirectory("A file cannot replace a directory.")
        if node.is_directory and not target.is_directory:
            raise NotADirectory("A directory cannot replace a file.")
        if target.is_directory and await self._finder.children(target.key):
            raise DirectoryNotEmpty("The directory is not empty.")

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
