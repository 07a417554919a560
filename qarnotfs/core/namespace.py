"""Names go and move: what removing and renaming mean.

Used by `operations` through `filesystem`. Each call finds out what is there, which may wait
for the bucket, and then changes inodes and debts in one synchronous stretch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

from qarnotfs.core import names
from qarnotfs.core.inodes import Inode
from qarnotfs.core.making import Making
from qarnotfs.core.renaming import Way
from qarnotfs.core.tree import Node
from qarnotfs.errors import (
    DirectoryNotEmpty,
    EntryExists,
    FileError,
    IsADirectory,
    NotADirectory,
    StoreError,
)
from qarnotfs.store.base import UNCONDITIONAL, Condition


class Namespace(Making):
    """The names of one mounted view."""

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
                there = None if target else Condition(absent=True)
                if target and target.info:
                    there = Condition(etag=target.info.etag)
                key = target.key if target else self._new_key(visible)
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
