"""Which inode stands for a name, and which version and attributes it shows.

Used by `namespace` and `filesystem`. A name's inode follows the bucket: when the object was
replaced, programs that read the old version keep it under a detached inode, and the name
gets a new one, so that no reader and no page of the kernel ever mixes two versions.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from qarnotfs.cache.blocks import PatternCell
from qarnotfs.core import attributes
from qarnotfs.core.attributes import Defaults, Posix
from qarnotfs.core.content import Content
from qarnotfs.core.dates import Dates
from qarnotfs.core.finder import Finder
from qarnotfs.core.inodes import ROOT_NUMBER, Inode, Inodes
from qarnotfs.core.kinds import is_certain
from qarnotfs.core.lasting import Lasting
from qarnotfs.core.tree import Node
from qarnotfs.errors import NoSuchEntry, NoSuchKey, Stale, StoreError
from qarnotfs.index.index import Index
from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.writeback.debts import Debt, Kind

# Of more listed names the kernel is told no more than their types; looking at one makes an
# inode as ever. An inode of a name that nobody looks at is worth less than of one that is known.
INODES_MAX = 100_000
GUESSED_MAX = 10_000


class Lookup:
    """Names and their inodes, for one mount."""

    def __init__(
        self,
        index: Index,
        finder: Finder,
        content: Content,
        defaults: Defaults,
        *,
        now_ns: Callable[[], int],
    ) -> None:
        self.finder = finder
        self._index, self._content = index, content
        self._defaults, self._now_ns = defaults, now_ns
        self.dates = Dates()
        root = Inode(ROOT_NUMBER, None, b"", True, "", self.marker_posix(None))
        self.inodes = Inodes(root)
        self.lasting = Lasting(index, finder, self.inodes)

    # --- names --------------------------------------------------------------------------------

    async def lookup(self, parent: Inode, name: bytes) -> Inode:
        """The inode under a name, or `NoSuchEntry`."""
        if name == b".":
            return parent
        if name == b"..":
            return parent.parent or parent
        key = parent.key
        node = await self.finder.find(key, name)
        if parent.key != key:  # the directory was renamed meanwhile
            return await self.lookup(parent, name)
        if node is None:
            raise self.gone(parent, name)
        return await self._inode(parent, node)

    async def _inode(self, parent: Inode, node: Node) -> Inode:
        if node.is_directory:
            inode = self._directory_inode(parent, node)
            await self._refresh_directory(inode)
            return inode
        debt = self.finder.debt(node.key)
        if debt is not None and debt.kind is Kind.PUT:
            return self._owed_inode(parent, node, debt)
        belief = self._index.believed(node.key)
        if belief is not None:  # it may be younger than the listing, and is what `getattr` goes by
            node = node._replace(info=belief.info)
        key = parent.key
        try:
            info = await self.finder.info(node)
        except NoSuchKey:
            raise self.gone(parent, node.name) from None
        if parent.key != key:
            return await self.lookup(parent, node.name)
        debt = self.finder.debt(node.key)
        if debt is not None and debt.kind is Kind.PUT:  # a program began to write while we asked
            return self._owed_inode(parent, node, debt)
        return self._file_inode(parent, node, info)

    def gone(self, parent: Inode, name: bytes) -> NoSuchEntry:
        """A name turned out to be gone from the bucket: the error that says so."""
        inode = parent.children.get(name)
        if inode is not None and not inode.children:
            self.replaced(inode, taken=False)
        return NoSuchEntry("There is no such file.")

    def replaced(self, inode: Inode, *, taken: bool) -> None:
        """Its name is gone, or stands for something else; programs may have it open still."""
        inode.replaced, inode.taken = True, taken
        self.inodes.detach(inode)

    def owner(self, parent: Inode, node: Node) -> Inode | None:
        """The known inode of what was found: whose bytes are owed, or who has the name rightly."""
        debt = None if node.is_directory else self.finder.debt(node.key)
        if debt is not None and debt.kind is Kind.PUT:
            return self._owed_inode(parent, node, debt)
        inode = parent.children.get(node.name)
        if inode is not None and (inode.is_directory, inode.key) != (node.is_directory, node.key):
            self.replaced(inode, taken=False)
            return None
        return inode

    def _directory_inode(self, parent: Inode, node: Node) -> Inode:
        inode = parent.children.get(node.name)
        if inode is not None and not inode.is_directory:
            self.replaced(inode, taken=False)
            inode = None
        if inode is None:
            posix = self.dates.dated(node.key, self.marker_posix(None))
            inode = self.inodes.add(parent, node.name, is_directory=True, key=node.key, posix=posix)
            inode.exact = False
        return inode

    def _owed_inode(self, parent: Inode, node: Node, debt: Debt) -> Inode:
        """The inode of a file whose newest bytes are on this machine."""
        inode = parent.children.get(node.name)
        if inode is not None and inode.debt is not debt:
            self.replaced(inode, taken=True)
            inode = None
        if inode is None and (inode := self.inodes.nameless_of(debt)):  # by what it wrote
            self.inodes.move(inode, parent, node.name)
            inode.key, inode.replaced, inode.taken = node.key, False, False
        if inode is None:
            posix = self._decoded(debt.attributes.metadata, int(self._now_ns() // 10**9))
            inode = self.inodes.add(
                parent, node.name, is_directory=False, key=node.key, posix=posix
            )
            inode.debt, inode.staged = debt, debt.staged
            inode.info = debt.staged.base if debt.staged else None
        return inode

    def _file_inode(self, parent: Inode, node: Node, info: ObjectInfo) -> Inode:
        """The inode of a version. Programs that read another one keep that, detached."""
        inode = parent.children.get(node.name)
        if inode is not None and (inode.is_directory or not self._shows(inode, info)):
            self.replaced(inode, taken=inode.key == info.key)  # else it is stored beside already
            inode = None
        if inode is None:
            posix = self._posix_of(info)
            inode = self.inodes.add(
                parent, node.name, is_directory=False, key=info.key, posix=posix
            )
            inode.info = info
        self._show(inode, info)
        return inode

    def _shows(self, inode: Inode, info: ObjectInfo) -> bool:
        """Whether an inode can show this version: it does already, or nobody reads it."""
        self._content.take_over(inode)
        if inode.staged is not None:  # its debt is gone and was not paid: another file now
            return False
        if stat.S_IFMT(inode.posix.mode) != stat.S_IFMT(self._posix_of(info).mode):
            return False
        return inode.opens == 0 or info.same_version(inode.info)

    def _show(self, inode: Inode, info: ObjectInfo) -> None:
        if inode.info is not info:
            inode.info, inode.key = info, info.key
            inode.posix = self._posix_of(info)
        inode.exact = info.metadata is not None or not self.finder.asks_attributes
        inode.guessed = False

    def known(self, parent: Inode, node: Node) -> Inode | None:
        """The inode of a listed name, as far as it can be had without asking the bucket.

        ``None`` where its type is not known, or there are very many inodes (see `kind`), or the
        name may be gone or another's by now.
        """
        inode = parent.children.get(node.name)
        if inode is None and len(self.inodes) >= INODES_MAX:
            return None
        if inode is not None and inode.is_directory is not node.is_directory:
            return None
        if node.is_directory:
            return self._directory_inode(parent, node) if inode or node.key else None
        debt = self.finder.debt(node.key)
        if debt is not None and debt.kind is Kind.DELETE:
            return None
        if debt is not None and debt.kind is Kind.PUT:
            return self._owed_inode(parent, node, debt)
        if inode is not None and node.info is None:  # it was owed when the reading began
            self._content.take_over(inode)
            info, belief = inode.info, self._index.believed(node.key)
            if inode.key == node.key and info and (not belief or info.same_version(belief.info)):
                node = node._replace(info=info)
        return self._listed_inode(parent, node, inode) if node.info else None

    def _listed_inode(self, parent: Inode, node: Node, inode: Inode | None) -> Inode | None:
        belief = self._index.believed(node.key)
        info = belief.info if belief else node.info
        if inode and not inode.is_directory and node.info and node.info.same_version(inode.info):
            if not inode.guessed or info is None or not is_certain(info):
                # The bytes are the same.
                inode.exact &= belief is not None and self._is_exact(inode, node.info, belief.info)
                return inode
        elif inode is not None and belief is None:
            return None  # what was listed may be older than what the name stands for
        if info is None:
            return None
        if is_certain(info) or not self.finder.asks_attributes:
            return self._file_inode(parent, node, info)
        if node.guessed and (inode or len(self.inodes) < GUESSED_MAX):
            inode = self._file_inode(parent, node, info)
            inode.guessed = True
            return inode
        return None

    def kind(self, node: Node) -> int:
        """The file type (of an st_mode) of a listed name without an inode; 0: nobody knows."""
        if node.is_directory:
            return stat.S_IFDIR
        belief = self._index.believed(node.key) if node.info else None
        info = belief.info if belief else node.info
        if info is None or self.finder.debt(node.key) is not None:
            return 0
        if is_certain(info):
            return stat.S_IFMT(self._posix_of(info).mode)
        return stat.S_IFREG if node.guessed or not self.finder.asks_attributes else 0

    def _is_exact(self, inode: Inode, listed: ObjectInfo, believed: ObjectInfo | None) -> bool:
        """Whether the mode and times that an inode shows are those of what was listed."""
        return (
            believed is not None
            and (believed.metadata is not None or not self.finder.asks_attributes)
            and (believed is inode.info or believed == inode.info)
            and believed.modified_sec == listed.modified_sec
        )

    def forget(self, number: int, lookups: int) -> None:
        """The kernel does not remember the inode that often any more."""
        inode = self.inodes.forget(number, lookups)
        if inode is not None:
            self._content.let_go(inode)

    async def getattr(self, inode: Inode) -> Inode:
        """The inode with attributes that are exact and no older than the TTL."""
        if inode.detached and not inode.opens and (inode.replaced or inode.has_bytes):
            # It lost its name after the kernel had found it there: now the kernel looks again.
            raise Stale("The file was deleted or replaced.")
        if inode.detached or inode is self.inodes.root:
            return inode
        if inode.is_directory:
            await self._refresh_directory(inode)
            return inode
        self._content.take_over(inode)
        if inode.debt is not None or inode.staged is not None or (inode.opens and inode.exact):
            return inode
        key, info, belief = inode.key, None, self._index.believed(inode.key)
        known = belief.info if belief else None
        node = Node(inode.name, is_directory=False, key=key, info=known)
        with suppress(NoSuchKey):
            info = await self.finder.info(node)
        if inode.key != key or inode.detached:  # it was renamed meanwhile, or removed
            return await self.getattr(inode)
        if info is None:  # the kernel looks again, and forgets that there was such a name
            raise Stale("The file was deleted from the bucket.")
        self._refresh_file(inode, info)
        return inode

    def _refresh_file(self, inode: Inode, info: ObjectInfo) -> None:
        if self._shows(inode, info):
            self._show(inode, info)
        elif inode.staged is None:  # else a program began to write while we asked
            raise Stale("The file was replaced in the bucket.")

    def check_told(self, inode: Inode) -> None:
        """`Stale` where a file is to be opened at another version than its name stands for.

        What we believe may be younger than what the kernel keeps: it would use the size of one
        version with the bytes of another, or go on with the one that others have open. Told
        that it is stale, it looks the name up again.
        """
        if inode.staged is not None or inode.info is None:
            return
        now: ObjectInfo | None = inode.info
        if inode.opens and not inode.detached:
            belief = self._index.believed(inode.key)
            now = belief.info if belief else now
        if not inode.info.same_version(now) or not inode.info.same_version(inode.told or now):
            raise Stale("The file was replaced in the bucket.")

    async def read(
        self, inode: Inode, offset: int, size: int, pattern: PatternCell | None
    ) -> bytes:
        """A file's bytes. Where its version is gone, the next look at its name says so, too."""
        key = inode.key
        try:
            return await self._content.read(inode, offset, size, pattern)
        except Stale:
            if inode.key != key:  # it was renamed meanwhile, and the old name has gone
                return await self.read(inode, offset, size, pattern)
            if inode.staged is None and inode.info is not None:
                with suppress(StoreError):
                    await self._index.recheck(inode.info)
            raise

    async def _refresh_directory(self, inode: Inode) -> None:
        before = inode.posix
        marker = await self.finder.marker(inode.key, asks=self.finder.asks_attributes)
        if marker is None or inode.posix is not before:  # changed here while we asked
            inode.exact = True
            return
        found = self.marker_posix(marker.attributes, marker.modified_sec)
        if found != inode.marker:  # else keep what changed here since
            inode.marker = found
            inode.posix = self.dates.dated(inode.key, found)
        inode.exact = True

    # --- attributes ---

    def _posix_of(self, info: ObjectInfo) -> Posix:
        debt = self.finder.debt(info.key)
        if debt is not None and debt.kind is Kind.META:
            return self._decoded(debt.attributes.metadata, info.modified_sec)
        return self._decoded(info.metadata, info.modified_sec)

    def _decoded(self, metadata: Mapping[str, str] | None, modified_sec: int) -> Posix:
        return attributes.decode(
            metadata, modified_sec=modified_sec, is_directory=False, defaults=self._defaults
        )

    def date(self, inode: Inode, *, mtime_ns: int, ctime_ns: int) -> None:
        """The times of an inode change; those of a directory, of which its marker knows nothing."""
        inode.posix = inode.posix._replace(mtime_ns=mtime_ns, ctime_ns=ctime_ns)
        if inode.is_directory:
            self.dates.keep(inode.key, inode.posix, inode.marker or self.marker_posix(None))

    def marker_posix(self, stored: Attributes | None, modified_sec: int = 0) -> Posix:
        """What a directory's marker says; ``None``: there is none."""
        return attributes.decode(
            stored.metadata if stored else None,
            modified_sec=modified_sec,
            is_directory=True,
            defaults=self._defaults,
        )
