"""Open files and directories: what a program holds between open and close. Pure.

Used by `filesystem`. A file handle's reads see one version (its inode's); a directory
handle's entries were put together once, when it was read from the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qarnotfs.cache.blocks import PatternCell
from qarnotfs.core.inodes import Inode
from qarnotfs.core.tree import Node
from qarnotfs.errors import BadHandle


@dataclass(eq=False, slots=True)
class FileHandle:
    """One open file."""

    inode: Inode
    writable: bool
    pattern: PatternCell = field(default_factory=PatternCell)


@dataclass(eq=False, slots=True)
class DirectoryHandle:
    """One open directory; ``entries`` in the order of their names once it was read."""

    inode: Inode
    entries: list[Node] | None = None


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
