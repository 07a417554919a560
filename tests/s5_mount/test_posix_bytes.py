"""The bytes of an open file by every call that reads, writes, copies or maps them."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
from functools import partial
from pathlib import Path

import pytest

from tests.s5_mount.calling import next_tick
from tests.s5_mount.mounting import Mount
from tests.s5_mount.scenes import Place, Scene, called, facts, how, libc

RWF_DSYNC, RWF_SYNC, RWF_APPEND = 2, 4, 16
SYNC_FILE_RANGE_WRITE = 2


def emptied_without_being_written(place: Place) -> object:
    """Linux empties a file that is opened to read with O_TRUNC."""
    found = []
    for path in (place.file("new"), place.stored("stored")):
        descriptor = os.open(path, os.O_RDONLY | os.O_TRUNC)
        found += how(partial(facts, descriptor), partial(os.read, descriptor, 9))
        os.close(descriptor)
        place.settle()
        found += how(path.read_bytes, lambda: path.stat().st_size)  # noqa: B023
    return found


def appending(place: Place) -> object:
    path = place.stored("file")
    one = os.open(path, os.O_RDWR | os.O_APPEND)
    other = os.open(path, os.O_RDWR)
    os.pwrite(one, b"end", 0)
    os.lseek(one, 2, os.SEEK_SET)
    found = [os.read(one, 3), os.write(one, b"!"), os.lseek(one, 0, os.SEEK_CUR)]
    os.ftruncate(other, 2)
    os.write(one, b"cut")
    fcntl.fcntl(other, fcntl.F_SETFL, os.O_APPEND)
    os.write(other, b"set")
    fcntl.fcntl(one, fcntl.F_SETFL, 0)
    os.lseek(one, 0, os.SEEK_SET)
    os.write(one, b"A")
    os.pwritev(other, [b"B", b"C"], 0, 0)
    os.pwritev(one, [b"D"], 0, RWF_APPEND)
    for descriptor in (one, other):
        os.close(descriptor)
    return found, path.read_bytes()


def vectors(place: Place) -> object:
    descriptor = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    buffers = [bytearray(3), bytearray(100)]
    found = how(
        lambda: os.writev(descriptor, [b"abc", b"", b"defg"]),
        lambda: os.pwritev(descriptor, [b"X", b"Y"], 9),
        lambda: os.pwritev(descriptor, [b"12"], 1, RWF_DSYNC),
        lambda: os.pwritev(descriptor, [b"34"], 3, RWF_SYNC),
        lambda: os.pwritev(descriptor, [b"34"], 3, 1 << 20),
        lambda: os.preadv(descriptor, buffers, 1),
        lambda: bytes(buffers[0] + buffers[1][:9]),
        lambda: os.pread(descriptor, 10, 1 << 62),
        lambda: os.pread(descriptor, 0, 0),
        lambda: os.write(descriptor, b""),
        lambda: os.lseek(descriptor, -1, os.SEEK_SET),
        lambda: os.lseek(descriptor, -1, os.SEEK_END),
        lambda: os.pwrite(descriptor, b"x", -1),
    )
    os.close(descriptor)
    return found, (place / "file").read_bytes()


def copied_by_the_kernel(place: Place) -> object:
    source = os.open(place.stored("from", bytes(range(256)) * 1000), os.O_RDWR)
    target = os.open(place / "to", os.O_RDWR | os.O_CREAT)
    reader, writer = os.pipe()
    found = how(
        lambda: os.copy_file_range(source, target, 100_000, 1, 5),
        lambda: os.copy_file_range(source, target, 100_000, 255_990, 200_000),
        lambda: os.copy_file_range(source, target, 100_000, 300_000, 0),
        lambda: os.copy_file_range(source, source, 1000, 0, 2000),
        lambda: os.copy_file_range(source, source, 1000, 0, 500),
        lambda: os.sendfile(target, source, 3, 5000),
        lambda: os.splice(source, writer, 4000, offset_src=7),
        lambda: os.splice(reader, target, 4000, offset_dst=50_000),
        lambda: os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED),
        lambda: os.posix_fadvise(source, 0, 0, os.POSIX_FADV_WILLNEED),
        lambda: called(libc.readahead(source, ctypes.c_long(0), ctypes.c_size_t(100_000))),
        lambda: called(
            libc.sync_file_range(target, ctypes.c_long(0), ctypes.c_long(9), SYNC_FILE_RANGE_WRITE)
        ),
    )
    for descriptor in (source, target, reader, writer):
        os.close(descriptor)
    place.settle()
    return found, [hash((place / name).read_bytes()) for name in ("from", "to")]


def past_the_pages_of_the_kernel(place: Place) -> object:
    """O_DIRECT, beside a descriptor that goes through them."""
    path = place.stored("file", b"a" * 20_000)
    direct, plain = os.open(path, os.O_RDWR | os.O_DIRECT), os.open(path, os.O_RDWR)
    page = mmap.mmap(-1, 8192)
    page[:] = b"b" * 8192
    found = [os.pread(plain, 5, 0), os.pwritev(direct, [page], 4096), os.pread(plain, 5, 4094)]
    os.pwrite(plain, b"c" * 5, 4094)
    found += [os.preadv(direct, [page], 4096), page[:5], os.preadv(direct, [page], 16384)]
    for descriptor in (direct, plain):
        os.close(descriptor)
    return found, path.read_bytes()


def mapped(place: Place) -> object:
    path = place.stored("file", b"a" * 5000)
    descriptor = os.open(path, os.O_RDWR)
    shared = mmap.mmap(descriptor, 5000)
    private = mmap.mmap(descriptor, 5000, mmap.MAP_PRIVATE)
    private[0:3] = b"own"
    shared[10:16] = b"shared"
    found: list[object] = [os.pread(descriptor, 3, 0), os.pread(descriptor, 6, 10), private[10:16]]
    os.pwrite(descriptor, b"written", 20)
    found += [shared[20:27], path.read_bytes()[10:16]]
    before = os.fstat(descriptor).st_mtime_ns
    next_tick()
    shared[4999:] = b"z"
    shared.flush()
    found.append(os.fstat(descriptor).st_mtime_ns > before)
    os.ftruncate(descriptor, 9000)
    shared.resize(9000)
    shared[8000:8004] = b"more"
    path.unlink()
    os.close(descriptor)
    shared.flush()
    found += [shared[8000:8005], bytes(shared[4998:5001])]
    for mapping in (shared, private):
        mapping.close()
    return found


def behind_the_end_of_a_mapped_file(place: Place) -> object:
    """What is written into the rest of its last page is no part of the file."""
    path = place.stored("file", b"a" * 4096)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as shared:
        os.truncate(path, 100)
        shared[90:200] = b"b" * 110
        shared.flush()
        os.truncate(path, 150)
        shared[120:121] = b"c"
    place.settle()
    return path.read_bytes()


def a_limit_of_the_programs(place: Place) -> object:
    """RLIMIT_FSIZE; Python ignores the signal."""
    descriptor = os.open(place.stored("file"), os.O_RDWR)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        return how(
            lambda: os.pwrite(descriptor, b"x" * 100, 9950),
            lambda: os.pwrite(descriptor, b"x", 10_000),
            lambda: os.ftruncate(descriptor, 10_001),
            lambda: os.ftruncate(descriptor, 10_000),
            lambda: os.fstat(descriptor).st_size,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(descriptor)


SCENES: list[Scene] = [
    emptied_without_being_written,
    appending,
    vectors,
    copied_by_the_kernel,
    past_the_pages_of_the_kernel,
    mapped,
    behind_the_end_of_a_mapped_file,
    a_limit_of_the_programs,
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_ends_as_on_a_disk(for_everyone: Mount, disk: Path, scene: Scene) -> None:
    expected = scene(Place(disk / "here"))
    assert scene(Place(for_everyone.path / scene.__name__)) == expected
