"""Local directories: what is in one, reading and writing in one without ever leaving it.

Used by `transfer`, `upward` and `downward`. Names are paths with ``/``, relative to the directory.
Links inside a directory are never followed.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from stat import S_ISREG
from typing import IO, Self

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Local = str | os.PathLike[str]


class Folder:
    """A directory that is read and written under names from elsewhere.

    Each step of a path is opened from the one above and must be a directory: neither a link
    that was there nor one that appears meanwhile leads outside. Raises `OSError`.
    """

    def __init__(self, path: Local) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def descriptor(self, name: str, flags: int) -> int:
        """A file that is there, opened."""
        with self._parent(name, makes=False) as (parent, last):
            return os.open(last, flags | os.O_NOFOLLOW, dir_fd=parent)

    @contextmanager
    def written(self, name: str) -> Iterator[IO[bytes]]:
        """A file to be written, which takes its name when the block ends well.

        Directories above it are made. A file of that name hands on its permissions; a link
        is replaced, not followed.
        """
        with self._parent(name) as (parent, last):
            unfinished = f".{uuid.uuid4().hex}.part"
            try:
                with open(os.open(unfinished, NEW, 0o666, dir_fd=parent), "wb") as file:
                    yield file
                    with suppress(FileNotFoundError):
                        _keep_permissions(os.lstat(last, dir_fd=parent), file)
                os.replace(unfinished, last, src_dir_fd=parent, dst_dir_fd=parent)
            finally:
                with suppress(FileNotFoundError):  # as it is when all went well
                    os.unlink(unfinished, dir_fd=parent)

    def make(self, name: str) -> None:
        """Make a directory and those above it, where they are missing."""
        with self._parent(f"{name}/."):
            pass

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._parent(name) as (parent, last):
            os.unlink(last, dir_fd=parent)

    def prune(self, name: str) -> None:
        """Remove a directory if it is empty."""
        with suppress(OSError), self._parent(name) as (parent, last):
            os.rmdir(last, dir_fd=parent)

    @contextmanager
    def _parent(self, name: str, *, makes: bool = True) -> Iterator[tuple[int, str]]:
        """The open directory above ``name``, and the last segment."""
        *folders, last = name.split("/")
        opened = os.dup(self._root)
        try:
            for folder in folders:
                above, opened = opened, _opened(folder, opened, makes)
                os.close(above)
            yield opened, last
        finally:
            os.close(opened)


def reading(root: str, name: str) -> IO[bytes]:
    """A file of a directory, open; one that became a link, or is below one, is an `OSError`."""

    def opener(_path: str, flags: int) -> int:
        with Folder(root) as folder:
            return folder.descriptor(name, flags)

    return open(os.path.join(root, name), "rb", opener=opener)


def _keep_permissions(old: os.stat_result, file: IO[bytes]) -> None:
    if S_ISREG(old.st_mode):
        os.fchmod(file.fileno(), old.st_mode & 0o777)


def _opened(folder: str, parent: int, makes: bool) -> int:
    try:
        return os.open(folder, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not makes:
            raise
        with suppress(FileExistsError):
            os.mkdir(folder, dir_fd=parent)
        return os.open(folder, FOLDER, dir_fd=parent)
    except NotADirectoryError:
        raise NotADirectoryError(errno.ENOTDIR, no_directory(folder)) from None


def no_directory(name: str) -> str:
    """Why nothing can be put below ``name``."""
    return f"A file or link {name!r} is where a directory should be"


@dataclass(slots=True)
class Tree:
    """What is in a directory: regular files with their size in bytes, and directories.

    ``skipped`` and ``failed``: name -> reason; of a directory that cannot be read nothing
    is known.
    """

    files: dict[str, int] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def tree_of(root: Local) -> Tree:
    """Look through a directory. Raises `OSError` when ``root`` is none or cannot be read."""
    tree = Tree()
    unseen: list[str] = []
    _look(tree, root, "", unseen)
    while unseen:
        folder = unseen.pop()
        try:
            _look(tree, os.path.join(root, folder), f"{folder}/", unseen)
        except OSError as error:
            tree.failed[folder] = f"{error.strerror}."
    return tree


def _look(tree: Tree, folder: Local, prefix: str, unseen: list[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink():
                tree.skipped[name] = "it is a symbolic link"
            elif entry.is_dir(follow_symlinks=False):
                tree.directories.add(name)
                unseen.append(name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # it is gone by now
                    tree.files[name] = entry.stat(follow_symlinks=False).st_size
            else:
                tree.skipped[name] = "it is neither a file nor a directory"


def printable(name: str) -> str:
    """``name`` as text, when it is not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")
