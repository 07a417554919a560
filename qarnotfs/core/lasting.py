"""For how long the kernel need not ask again: what is left of the TTL of what it was told.

Used by `operations`, through `lookup`.
"""

from __future__ import annotations

from qarnotfs.core.finder import Finder
from qarnotfs.core.inodes import ROOT_NUMBER, Inode, Inodes
from qarnotfs.index.index import Index


class Lasting:
    """How long beliefs last, in seconds, for the inodes of one mount."""

    def __init__(self, index: Index, finder: Finder, inodes: Inodes) -> None:
        self._index, self._finder, self._inodes = index, finder, inodes

    def left_sec(self, inode: Inode) -> tuple[float, float]:
        """Of a name, and of its attributes."""
        attributes_sec = self._attributes_left_sec(inode)
        if inode.is_directory and not inode.detached and inode.number != ROOT_NUMBER:
            parent = inode.parent.key if inode.parent else ""
            listed_sec = self._index.listing_left_sec(self._finder.stored_prefix(parent))
            return max(listed_sec, attributes_sec), attributes_sec
        return attributes_sec, attributes_sec

    def _attributes_left_sec(self, inode: Inode) -> float:
        """A directory's attributes are its marker's, whoever lists its name."""
        if inode.debt is not None or inode.detached or inode.number == ROOT_NUMBER:
            return self._index.ttl_sec
        if not inode.is_directory:
            return self._index.left_sec(inode.key)
        prefix = self._finder.stored_prefix(inode.key)  # above the filter nothing has that key
        return max(self._index.left_sec(prefix), self._index.listing_left_sec(prefix))

    def absent_sec(self, parent: Inode, name: bytes) -> float:
        """Of a name that is not in a directory; 0 where a program may bring it back by writing."""
        if self._inodes.may_return(name):
            return 0
        return self._index.listing_left_sec(self._finder.stored_prefix(parent.key))
