"""Open files and directories: what a program holds between open and close. Pure.

Used by `filesystem`. A file handle's reads see one version (its inode's); a directory
handle's entries keep their numbers until it is read from the start again.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qarnotfs.cache.blocks import PatternCell
from qarnotfs.core.inodes import Inode
from qarnotfs.core.tree import Node
from qarnotfs.errors import BadHandle

if TYPE_CHECKING:
    from qarnotfs.core.browse import Browse

NAME_END = b"\0"  # what no name has in it
SHOWN_MAX = 1000  # nodes at once
LAST = b"\xff"  # behind every name: they are UTF-8


@dataclass(eq=False, slots=True)
class FileHandle:
    """One open file."""

    inode: Inode
    writable: bool
    pattern: PatternCell = field(default_factory=PatternCell)


@dataclass(eq=False, slots=True)
class DirectoryHandle:
    """One open directory; its entries are numbered from 0 in the order they were read.

    Of a page that was read before the last one only the names are kept: a program may go
    back (``seekdir``), and finds what it found then.
    """

    inode: Inode
    browse: Browse
    start: int = 0  # the number of the first node of ``page``
    page: list[Node] = field(default_factory=list)
    changes: int = 0  # of the directory, when the page was asked for, or put together before
    ended: bool = False
    _key: str = ""  # of the directory, when the page was read
    _earlier: list[tuple[int, bytes]] = field(default_factory=list)
    _given: frozenset[bytes] = frozenset()  # before the directory was renamed

    def rewind(self, browse: Browse) -> None:
        """From the start again, and as of now."""
        self.browse, self._given, self.changes = browse, frozenset(), self.inode.changes
        self.start, self.page, self.ended, self._earlier = 0, [], False, []

    def follow(self, browse: Browse) -> None:
        """The directory was renamed: what was not given yet is read there."""
        pages = [names.split(NAME_END) for _, names in self._earlier]
        self._given = frozenset(node.name for node in self.page).union(*pages)
        self.browse, self.changes = browse, self.inode.changes

    def add(self, page: list[Node]) -> None:
        """The next page; an empty one is the end."""
        if self.page:
            self._earlier.append((self.start, NAME_END.join(node.name for node in self.page)))
        self.start += len(self.page)
        self.ended, self._key = not page, self.browse.directory
        self.page = [node for node in page if node.name not in self._given]

    def at(self, number: int) -> list[Node] | None:
        """Nodes from ``number`` on, at least one but at the end; ``None``: not read so far yet."""
        if number >= self.start:
            found = self.page[number - self.start :][:SHOWN_MAX]
            if (self._key, self.changes) != (self.inode.key, self.inode.changes):
                found = [self._aged(node) for node in found]
            return found if found or self.ended else None
        start, names = self._earlier[bisect_right(self._earlier, (number, LAST)) - 1]
        return [
            Node(name, is_directory=False, key="")
            for name in names.split(NAME_END)[number - start :]
        ]

    def _aged(self, node: Node) -> Node:
        """What is still known of a node: the directory was renamed since, or changed here.

        Of a file, what is owed or believed says whether it went.
        """
        return node._replace(key="") if node.is_directory else node


class Handles:
    """Numbered handles, as the kernel names them."""

    def __init__(self) -> None:
        self._handles: dict[int, FileHandle | DirectoryHandle] = {}
        self._next_number = 1

    def add(self, handle: FileHandle | DirectoryHandle) -> int:
        number = self._next_number
        self._next_number += 1
        self._handles[number] = handle
        return number

    def file(self, number: int) -> FileHandle:
        handle = self._handles.get(number)
        if not isinstance(handle, FileHandle):
            raise BadHandle("No such open file.")
        return handle

    def directory(self, number: int) -> DirectoryHandle:
        handle = self._handles.get(number)
        if not isinstance(handle, DirectoryHandle):
            raise BadHandle("No such open directory.")
        return handle

    def remove(self, number: int) -> FileHandle | DirectoryHandle | None:
        return self._handles.pop(number, None)
