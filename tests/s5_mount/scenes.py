"""Short stories of calls that are told twice, on a mount and on a disk, and must end alike.

Used by the tests that hold a mount against a local disk where one call says too little: what
comes of a file that is open while it is removed, of a directory that is read while it changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
AT_FDCWD = -100
_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61


class Place:
    """An empty directory."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        path.chmod(0o755)
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def file(self, name: str, body: bytes = b"12345678") -> Path:
        """A file with these bytes."""
        path = self.path / name
        path.write_bytes(body)
        return path

    def settle(self) -> None:
        """Have everything uploaded that is owed here."""
        for folder, _, _ in os.walk(self.path):
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def stored(self, name: str, body: bytes = b"12345678") -> Path:
        """A file whose bytes are in the bucket."""
        path = self.file(name, body)
        self.settle()
        return path


Scene = Callable[[Place], object]


def called(result: int) -> int:
    """What a function of C returned, or its error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def how(*calls: Callable[[], object]) -> list[object]:
    """What each call returns, or the name of its errno."""
    found: list[object] = []
    for call in calls:
        try:
            found.append(call())
        except OSError as error:
            found.append(errno.errorcode[error.errno or 0])
    return found


def listed(descriptor: int, room_bytes: int = 4096) -> list[tuple[str, int, int]]:
    """What an open directory has from where it stands: names, inodes and types, in order."""
    found, buffer = [], ctypes.create_string_buffer(room_bytes)
    while size := called(libc.syscall(_GETDENTS64, descriptor, buffer, room_bytes)):
        at = 0
        while at < size:
            inode, _, length, kind = struct.unpack_from("=QqHB", buffer, at)
            name = buffer.raw[at + 19 : at + length].split(b"\0", 1)[0]
            found.append((os.fsdecode(name), inode, kind))
            at += length
    return found


def facts(descriptor: int) -> tuple[object, ...]:
    """What `fstat` tells, but for times, numbers and sizes of directories."""
    found = os.fstat(descriptor)
    size = -1 if stat.S_ISDIR(found.st_mode) else found.st_size
    return found.st_mode, found.st_nlink, found.st_uid, found.st_gid, size
