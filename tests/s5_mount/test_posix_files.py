"""What programs rely on between two open files, at the edges of a file, and of special files."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.calling import outcome
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Seen, bucket_keys, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EXCHANGE, WHITEOUT = 2, 4  # flags of renameat2
GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS, which `lsattr` asks for
TRIES_LOCKS = """if True:
    import fcntl, sys
    with open(sys.argv[1], "r+b") as file:
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("taken")
            else:
                print("free")
                lock(file, fcntl.LOCK_UN)
"""


def test_appending_through_two_handles(here: Path, seen: Seen) -> None:
    path = here / "log"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    one, two = os.open(path, flags), os.open(path, flags)
    lines = [b"%d of %d\n" % (number, fd) for number in range(50) for fd in (one, two)]
    for line, fd in zip(lines, [one, two] * 50, strict=True):
        os.write(fd, line)
    os.close(one)
    os.close(two)
    assert path.read_bytes() == b"".join(lines)
    assert seen.content(path) == b"".join(lines)


@pytest.mark.decision(12)
def test_locks_hold_between_programs(here: Path) -> None:
    path = here / "file"
    path.touch()

    def others() -> list[str]:
        return run(sys.executable, "-c", TRIES_LOCKS, path).split()

    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert others() == ["taken", "free"]
        fcntl.lockf(file, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert others() == ["free", "taken"]
    assert others() == ["free", "free"]


def test_holes_and_room(here: Path) -> None:
    """A hole is zeros like others; room can be asked for as programs do it."""
    with (here / "file").open("w+b", buffering=0) as file:
        file.truncate(100_000)
        os.pwrite(file.fileno(), b"x", 50_000)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 100_000
        with pytest.raises(OSError, match="No such device"):
            os.lseek(file.fileno(), 100_000, os.SEEK_DATA)
        os.posix_fallocate(file.fileno(), 100_000, 5000)
        assert os.fstat(file.fileno()).st_size == 105_000
        assert os.pread(file.fileno(), 3, 49_999) == b"\0x\0"


@pytest.mark.decision(9)
def test_what_is_not_offered_says_so(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_text(name)
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(here / "a"), os.fsencode(here / "b")
    for flag in (EXCHANGE, WHITEOUT):
        assert libc.renameat2(-100, a, -100, b, flag) == -1
        assert ctypes.get_errno() == errno.EINVAL
    assert outcome(lambda: os.open(here, os.O_TMPFILE | os.O_RDWR)) == "ENOTSUP"
    with (here / "a").open("r+b") as file:
        assert libc.fallocate(file.fileno(), 0, ctypes.c_long(0), ctypes.c_long(10)) == -1
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        assert outcome(lambda: fcntl.ioctl(file, GET_FLAGS, bytes(8))) == "ENOTTY"
    assert outcome(lambda: os.link(here / "a", here / "c")) == "EPERM"
    assert sorted(path.read_text() for path in here.iterdir()) == ["a", "b"]


def test_a_path_deeper_than_a_hundred(here: Path, seen: Seen) -> None:
    """Made from within: a mount that always asks is asked for each step of each path."""
    deep = here.joinpath(*["d"] * 120)
    descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
    for _ in deep.relative_to(here).parts:
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    (deep / "leaf").write_bytes(b"1")
    os.fsync(descriptor)
    os.close(descriptor)
    assert seen.content_now(deep / "leaf") == b"1"
    (here / "d").rename(here / "e")
    assert (here / "e").joinpath(*["d"] * 119, "leaf").read_bytes() == b"1"


@pytest.mark.decision(8)
def test_special_files_outlive_the_mount(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    if os.geteuid():
        pytest.skip("only root can make devices")
    first = mounts()
    kinds = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
    for name, kind in (kinds | {"socket": stat.S_IFSOCK}).items():
        os.mknod(first.path / name, kind | 0o640, os.makedev(259, 300))
    (first.path / "char").rename(first.path / "renamed")
    (first.path / "renamed").chmod(0o600)
    first.unmount()
    assert bucket_keys(s3, bucket) == ["block", "fifo", "renamed", "socket"]
    again = mounts().path
    found = {path.name: path.lstat() for path in again.iterdir()}
    assert {name: stat.S_IFMT(entry.st_mode) for name, entry in found.items()} == {
        "renamed": stat.S_IFCHR,
        "block": stat.S_IFBLK,
        "fifo": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
    }
    assert found["renamed"].st_rdev == found["block"].st_rdev == os.makedev(259, 300)
    assert stat.S_IMODE(found["renamed"].st_mode) == 0o600
    assert outcome(lambda: os.open(again / "block", os.O_RDONLY)) == "EACCES"
