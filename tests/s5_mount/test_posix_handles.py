"""Open files and directories: removed, replaced and renamed under the program, mapped, shared."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.s5_mount.calling import OTHER, USER, acting_as, closing
from tests.s5_mount.mounting import Mount
from tests.s5_mount.scenes import Place, Scene, facts, how

LOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


def used(descriptor: int) -> list[object]:
    """Everything that can be done to an open file, and what becomes of it."""
    return how(
        partial(facts, descriptor),
        lambda: os.pread(descriptor, 100, 0),
        lambda: os.pwrite(descriptor, b"xyz", 6),
        lambda: os.ftruncate(descriptor, 8),
        lambda: os.fchmod(descriptor, 0o751),
        lambda: os.fchown(descriptor, USER, OTHER),
        lambda: os.utime(descriptor, ns=(5, 7)),
        lambda: (os.fstat(descriptor).st_atime_ns, os.fstat(descriptor).st_mtime_ns),
        lambda: os.setxattr(descriptor, "user.a", b"1"),
        lambda: os.getxattr(descriptor, "user.a"),
        lambda: os.listxattr(descriptor),
        lambda: os.removexattr(descriptor, "user.a"),
        lambda: os.fsync(descriptor),
        lambda: os.fdatasync(descriptor),
        lambda: os.lseek(descriptor, 0, os.SEEK_END),
        lambda: os.fstatvfs(descriptor).f_namemax > 0,
        lambda: os.pread(descriptor, 100, 0),
        partial(facts, descriptor),
    )


def removed_while_open(place: Place) -> object:
    found = []
    for path in (place.file("new"), place.stored("stored")):
        descriptor = os.open(path, os.O_RDWR)
        path.unlink()
        found.append((used(descriptor), os.listdir(place.path)))
        os.close(descriptor)
    return found


def replaced_while_open(place: Place) -> object:
    found = []
    for path in (place.file("new"), place.stored("stored")):
        descriptor = os.open(path, os.O_RDWR)
        place.file("other", b"another one").rename(path)
        found.append((used(descriptor), path.read_bytes(), facts(os.open(path, os.O_PATH))))
        os.close(descriptor)
    return found


def removed_and_opened_again(place: Place) -> object:
    """By its descriptor, as it has no name any more."""
    found = []
    for path in (place.file("new"), place.stored("stored")):
        descriptor = os.open(path, os.O_RDWR)
        path.unlink()
        again = Path(f"/proc/self/fd/{descriptor}")
        found += how(again.read_bytes, lambda: again.write_bytes(b"ab"))  # noqa: B023
        found += how(partial(os.pread, descriptor, 9, 0), partial(os.truncate, again, 1))
        found += how(partial(os.chmod, again, 0o600), partial(facts, descriptor))
        os.close(descriptor)
    return found


def removed_directory_that_is_open(place: Place) -> object:
    (place / "d").mkdir()
    place.settle()
    descriptor = os.open(place / "d", os.O_RDONLY)
    (place / "d").rmdir()
    found = how(
        partial(facts, descriptor),
        lambda: os.listdir(descriptor),
        lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor),
        lambda: os.mkdir("new", dir_fd=descriptor),
        lambda: os.symlink("target", "new", dir_fd=descriptor),
        lambda: os.stat("new", dir_fd=descriptor),
        lambda: os.fchmod(descriptor, 0o700),
        lambda: os.utime(descriptor, ns=(5, 7)),
        lambda: os.fstat(descriptor).st_mtime_ns,
        lambda: os.fsync(descriptor),
        lambda: os.rename(place.file("f"), "new", dst_dir_fd=descriptor),
    )
    (place / "d").mkdir()
    place.file("d/in another")
    found += how(partial(facts, descriptor), lambda: os.listdir(descriptor))
    os.close(descriptor)
    return found, sorted(os.listdir(place.path))


def replaced_directory_that_is_open(place: Place) -> object:
    for name in ("d", "e"):
        (place / name).mkdir()
    place.file("e/inside")
    place.settle()
    descriptor = os.open(place / "d", os.O_RDONLY)
    (place / "e").rename(place / "d")
    found = how(partial(facts, descriptor), lambda: os.stat("inside", dir_fd=descriptor))
    os.close(descriptor)
    return found, os.listdir(place / "d")


def special_files_removed_while_open(place: Place) -> object:
    os.mkfifo(place / "fifo")
    os.mknod(place / "node", stat.S_IFSOCK | 0o600)
    (place / "link").symlink_to("fifo")
    place.settle()
    held = [os.open(place / "fifo", os.O_RDWR)]
    held += [os.open(place / name, os.O_PATH | os.O_NOFOLLOW) for name in ("fifo", "node")]
    for name in ("fifo", "node", "link"):
        (place / name).unlink()
    os.write(held[0], b"through")
    found = how(lambda: os.read(held[0], 100), *(partial(facts, fd) for fd in held))
    found += how(
        lambda: os.fchmod(held[0], 0o600), lambda: os.utime(held[0]), lambda: facts(held[0])
    )
    for descriptor in held:
        os.close(descriptor)
    return found


def a_renamed_directory_is_the_same_for_who_is_in_it(place: Place) -> object:
    (place / "a").mkdir()
    place.stored("a/file", b"1")
    descriptor = os.open(place / "a", os.O_RDONLY)
    (place / "a").rename(place / "b")
    os.mkdir("in", dir_fd=descriptor)
    (place / "a").mkdir()
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.rename("file", "in/file", src_dir_fd=descriptor, dst_dir_fd=descriptor)
    found = sorted(os.listdir(descriptor))
    os.unlink("new", dir_fd=descriptor)
    os.fsync(descriptor)
    os.close(descriptor)
    place.settle()
    return found, sorted(str(p.relative_to(place.path)) for p in place.path.rglob("*"))


def a_socket_is_a_meeting_place(place: Place) -> object:
    """Bound by a relative path: it has room for 107 bytes."""
    before = os.getcwd()
    os.chdir(place.path)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            server.listen()
            again = how(lambda: client.bind("socket"))
            place.settle()
            client.connect("socket")
            other, _ = server.accept()
            with other:
                other.send(b"hello")
            return again, client.recv(10), stat.S_IFMT(os.stat("socket").st_mode)
    finally:
        os.chdir(before)


def locks(place: Place) -> object:
    """Of open file descriptions: all in one program."""
    path = place.stored("file")
    one, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    reader = os.open(path, os.O_RDONLY)

    def lock(descriptor: int, kind: int, start: int = 0, length: int = 0) -> Callable[[], object]:
        wanted = struct.pack(LOCK, kind, os.SEEK_SET, start, length, 0)
        return lambda: fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted) and None

    def holder(descriptor: int) -> tuple[int, ...]:
        wanted = struct.pack(LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return tuple(struct.unpack(LOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted)))

    found = how(
        lock(one, fcntl.F_WRLCK, 2, 3),
        lock(other, fcntl.F_WRLCK, 5, 1),
        lock(other, fcntl.F_RDLCK, 4, 1),
        lambda: holder(reader),
        lock(reader, fcntl.F_WRLCK, 20, 1),
        lock(one, fcntl.F_RDLCK, 2, 1),
        lock(reader, fcntl.F_RDLCK, 2, 1),
        lock(one, fcntl.F_UNLCK),
        lock(other, fcntl.F_RDLCK, 4, 1),
        lambda: fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB),
        lambda: fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB),
        lambda: fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: fcntl.flock(one, fcntl.LOCK_UN),
        lambda: fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        path.unlink,
        lock(one, fcntl.F_WRLCK, 4, 1),
        lambda: os.close(other),
        lock(one, fcntl.F_WRLCK, 4, 1),
        lambda: fcntl.fcntl(reader, fcntl.F_GETLEASE),
    )
    for descriptor in (one, reader):
        os.close(descriptor)
    return found


def flags_that_contradict(place: Place) -> object:
    (place / "d").mkdir()
    file, top = place.stored("file"), place.path
    reading = os.open(file, os.O_RDONLY)
    found = how(
        *(
            partial(closing(flags), str(path))
            for path, flags in (
                (top / "new", os.O_CREAT | os.O_DIRECTORY | os.O_RDWR),
                (top / "d", os.O_DIRECTORY | os.O_WRONLY),
                (top / "d", os.O_CREAT),
                (f"{top}/new/", os.O_CREAT | os.O_WRONLY),
                (file, os.O_DIRECTORY),
            )
        ),
        lambda: os.write(reading, b"x"),
        lambda: os.ftruncate(reading, 0),
        lambda: os.posix_fallocate(reading, 0, 5),
        lambda: os.posix_fallocate(reading, 0, 0),
        lambda: os.posix_fallocate(reading, -1, 5),
        lambda: os.fsync(reading),
        lambda: os.listdir(reading),
        lambda: os.fchdir(reading),
        lambda: os.stat("x", dir_fd=reading),
    )
    with acting_as(USER):
        found += how(lambda: os.open(file, os.O_RDONLY | os.O_NOATIME))
    os.close(reading)
    return found, sorted(os.listdir(place.path))


SCENES: list[Scene] = [
    removed_while_open,
    replaced_while_open,
    removed_and_opened_again,
    removed_directory_that_is_open,
    replaced_directory_that_is_open,
    special_files_removed_while_open,
    a_renamed_directory_is_the_same_for_who_is_in_it,
    a_socket_is_a_meeting_place,
    locks,
    flags_that_contradict,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_ends_as_on_a_disk(for_everyone: Mount, disk: Path, scene: Scene) -> None:
    expected = scene(Place(disk / "here"))
    assert scene(Place(for_everyone.path / scene.__name__)) == expected
