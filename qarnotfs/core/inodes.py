"""The kernel's view: numbered inodes, where they hang, and how often they are looked up.

Used by `filesystem` and `content`. Pure bookkeeping; dies with the mount. A path belongs
to at most one inode; one that lost its path (deleted, replaced) lives on, *detached*,
for as long as a program has it open or the kernel remembers it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from qarnotfs.core.attributes import Posix
from qarnotfs.store.base import ObjectInfo

if TYPE_CHECKING:
    from qarnotfs.writeback.debts import Debt
    from qarnotfs.writeback.staging import Staged

ROOT_NUMBER = 1  # the kernel's number for the root of a mount


@dataclass(eq=False, slots=True)
class Inode:
    """One file or directory the kernel knows.

    A directory has its visible ``prefix`` (``""`` or ``a/b/``), a file its stored ``key``.
    Invariant: ``parent.children[name] is self``, or ``parent is None`` (root, detached).
    """

    number: int
    parent: Inode | None
    name: bytes
    is_directory: bool
    key: str  # of a file; the visible prefix of a directory
    posix: Posix
    info: ObjectInfo | None = None  # the version in the bucket that readers see
    # Newer bytes, which build upon ``info``; kept on disk by their debt or, detached, by a pin.
    staged: Staged | None = None
    debt: Debt | None = None  # what is owed for ``staged``; None when detached
    removal: Debt | None = None  # the object's, which waits until nobody has the file open
    lookups: int = 0
    opens: int = 0
    writers: int = 0
    exact: bool = True  # whether ``posix`` is what the bucket says, or a guess from a listing
    guessed: bool = False  # taken for a regular file: nobody looked at it yet
    replaced: bool = False  # lost its name without our doing: what is written is owed
    taken: bool = False  # and somebody else's object has that name
    marker: Posix | None = None  # what is stored of a directory; ``posix`` may be newer
    told: ObjectInfo | None = None  # whose size the kernel knows; None: that of staged bytes
    kernel_version: str | None = None  # whose pages the kernel may hold: an etag or "staged"
    children: dict[bytes, Inode] = field(default_factory=dict)
    changes: int = 0  # how often names of a directory were made here, removed, or moved

    @property
    def detached(self) -> bool:
        return self.parent is None and self.number != ROOT_NUMBER

    @property
    def has_bytes(self) -> bool:
        """Else a program may hold it of which only the kernel knows: a directory, a FIFO."""
        return stat.S_ISREG(self.posix.mode) or stat.S_ISLNK(self.posix.mode)

    @property
    def size(self) -> int:
        if self.staged is not None:
            return self.staged.size
        return self.info.size if self.info else 0


class Inodes:
    """All inodes of a mount, by number and by place."""

    def __init__(self, root: Inode) -> None:
        self.root = root
        self._by_number = {root.number: root}
        self._nameless: set[Inode] = set()  # detached, and still known
        self._next_number = ROOT_NUMBER + 1

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Inode:
        """The inode the kernel means; it never names one it was not given (`KeyError`)."""
        return self._by_number[number]

    def add(
        self, parent: Inode, name: bytes, *, is_directory: bool, key: str, posix: Posix
    ) -> Inode:
        """A new inode at a place that has none."""
        assert name not in parent.children
        inode = Inode(self._next_number, parent, name, is_directory, key, posix)
        self._next_number += 1
        self._by_number[inode.number] = inode
        parent.children[name] = inode
        return inode

    def detach(self, inode: Inode) -> None:
        """The inode loses its path."""
        if inode.parent is not None:
            del inode.parent.children[inode.name]
            inode.parent = None
        self._nameless.add(inode)
        self._collect(inode)

    def nameless_of(self, debt: Debt) -> Inode | None:
        """The detached inode whose bytes are owed by this debt."""
        return next((inode for inode in self._nameless if inode.debt is debt), None)

    def nameless(self) -> list[Inode]:
        """Detached inodes of files that lost their name without our doing."""
        return [inode for inode in self._nameless if inode.replaced]

    def may_return(self, name: bytes) -> bool:
        """Whether a program has a file open for writing that lost such a name to another machine.

        Once it writes, the name is there again.
        """
        return any(one.name == name and one.writers and one.replaced for one in self._nameless)

    def move(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Another place, which must be free; a detached inode has a name again."""
        assert name not in parent.children
        self._nameless.discard(inode)
        if inode.parent is not None:
            del inode.parent.children[inode.name]
        inode.parent, inode.name = parent, name
        parent.children[name] = inode

    def forget(self, number: int, lookups: int) -> Inode | None:
        """The kernel gives back lookups; the inode, if it is gone now."""
        inode = self._by_number.get(number)
        if inode is None:
            return None
        inode.lookups -= lookups
        return inode if self._collect(inode) else None

    def collect(self, inode: Inode) -> bool:
        """Drop an inode nobody needs any more; whether it is gone."""
        return self._collect(inode)

    def _collect(self, inode: Inode) -> bool:
        if inode.lookups > 0 or inode.opens > 0 or inode.children or inode is self.root:
            return False
        if self._by_number.pop(inode.number, None) is None:
            return False
        self._nameless.discard(inode)
        parent = inode.parent
        if parent is not None:
            del parent.children[inode.name]
            inode.parent = None
            self._collect(parent)  # it was kept only for its children
        return True

    def surplus(self, keep: int) -> list[Inode]:
        """Files that the kernel might forget, so that ``keep`` inodes are left: the oldest ones.

        A directory may be where a program is: it would seem to be deleted.
        """
        idle = (
            inode
            for inode in self._by_number.values()
            if inode.parent is not None and not (inode.is_directory or inode.opens)
        )
        return list(islice(idle, max(0, len(self) - keep)))

    def all(self) -> list[Inode]:
        return list(self._by_number.values())


def descendants(inode: Inode) -> list[Inode]:
    """The inode and everything below it that the kernel knows."""
    found = [inode]
    for child in inode.children.values():
        found += descendants(child)
    return found
