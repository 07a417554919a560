"""Directories while they are read and changed, renames, dates, and what other users may do."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import stat
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.s5_mount.calling import OTHER, ROOT, USER, next_tick, outcome
from tests.s5_mount.mounting import Mount
from tests.s5_mount.scenes import AT_FDCWD, Place, Scene, called, how, libc, listed

NOREPLACE = 1  # a flag of renameat2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
IN_ALL_EVENTS, IN_ISDIR = 0xFFF, 0x40000000
NAMES = [f"name-{number:04}" for number in range(1100)]


def fill(place: Place) -> None:
    """More names than a page of a listing has."""
    for name in NAMES:
        os.mknod(place / name)


def read_on(descriptor: int, room_bytes: int) -> list[str]:
    return [name for name, _, _ in listed(descriptor, room_bytes) if name not in {".", ".."}]


def a_directory_is_read_in_small_pieces(place: Place) -> object:
    """And from the start again, with what has come meanwhile; and emptied while it is read."""
    fill(place)
    place.file("n" * 255)
    descriptor = os.open(place.path, os.O_RDONLY)
    found: list[object] = [sorted(read_on(descriptor, 288)) == sorted([*NAMES, "n" * 255])]
    found += [read_on(descriptor, 288)]
    place.file("come")
    (place / NAMES[5]).unlink()
    found += [read_on(descriptor, 288)]
    os.lseek(descriptor, 0, os.SEEK_SET)
    again = set(read_on(descriptor, 32768))
    found += ["come" in again, NAMES[5] in again, len(again)]
    os.lseek(descriptor, 0, os.SEEK_SET)
    found += how(partial(listed, descriptor, 20))
    with os.scandir(descriptor) as entries:
        for entry in entries:
            os.unlink(entry.name, dir_fd=descriptor)
    os.close(descriptor)
    return found, outcome(place.path.rmdir)


def places_in_a_directory_are_found_again(place: Place) -> object:
    """`telldir` and `seekdir`, as C programs have them."""
    for name in NAMES[:300]:
        os.mknod(place / name)
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(place.path)))
    told: list[tuple[int, bytes]] = []

    def following() -> bytes:
        entry = libc.readdir(stream)
        return ctypes.string_at(entry + 19) if entry else b""

    while True:
        at = libc.telldir(stream)
        if not (come := following()):
            break
        told.append((at, come))
    found: list[object] = [sorted(come for _, come in told)]
    for at, come in (told[200], told[3], told[-1], told[0], told[150]):
        libc.seekdir(stream, ctypes.c_long(at))
        found.append(following() == come)
    libc.rewinddir(stream)
    found.append(following() == told[0][1])
    libc.closedir(stream)
    return found


def numbers_are_those_that_stat_tells(place: Place) -> object:
    (place / "d").mkdir()
    place.file("f")
    (place / "l").symlink_to("f")
    os.mkfifo(place / "p")
    os.mknod(place / "s", stat.S_IFSOCK | 0o600)
    found = []
    for _ in range(2):
        descriptor = os.open(place.path, os.O_RDONLY)
        entries = listed(descriptor)
        os.close(descriptor)
        numbers = {name: number == (place / name).lstat().st_ino for name, number, _ in entries}
        found.append(sorted((name, kind, numbers[name]) for name, _, kind in entries))
        place.settle()
    return found


def with_slashes_behind(place: Place) -> object:
    def make() -> None:
        (place / "d").mkdir(exist_ok=True)
        (place / "full").mkdir(exist_ok=True)
        place.file("full/x")
        place.file("f")
        for name, target in (("dl", "full"), ("fl", "f"), ("none", "nowhere")):
            if not (place / name).is_symlink():
                (place / name).symlink_to(target)

    make()
    place.settle()
    top = str(place.path)
    found = []
    for name in ("f", "d", "full", "dl", "fl", "none", "new"):
        for call in (
            partial(os.mkdir, f"{top}/{name}/"),
            partial(os.rmdir, f"{top}/{name}/"),
            partial(os.unlink, f"{top}/{name}/"),
            lambda name=name: os.close(os.open(f"{top}/{name}/", os.O_CREAT | os.O_WRONLY)),
            partial(os.symlink, "target", f"{top}/{name}/"),
            partial(os.mknod, f"{top}/{name}/"),
            partial(os.rename, f"{top}/{name}/", f"{top}/other"),
            partial(os.rename, f"{top}/f", f"{top}/{name}/"),
            partial(os.rename, f"{top}/d", f"{top}/{name}/"),
            partial(os.readlink, f"{top}/{name}/"),
            lambda name=name: stat.S_IFMT(os.lstat(f"{top}/{name}/").st_mode),
        ):
            found += [name, *how(call), sorted(os.listdir(top))]
            for left in ("other", "new"):
                if (place / left).is_dir():
                    shutil.rmtree(place / left)
                (place / left).unlink(missing_ok=True)
            make()
    return found


def renames_of_everything_onto_everything(place: Place) -> object:
    kinds = ("file", "empty", "folder", "full", "link", "fifo", "node")

    def make(name: str, kind: str) -> None:
        path = place / name
        if kind in {"file", "empty"}:
            path.write_bytes(b"12345" if kind == "file" else b"")
        elif kind in {"folder", "full"}:
            path.mkdir()
            if kind == "full":
                (path / "inner").touch()
        elif kind == "link":
            path.symlink_to("nowhere")
        else:
            os.mknod(path, (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK) | 0o600)

    for old in kinds:
        for new in kinds:
            make(f"{old}-{new}-old", old)
            make(f"{old}-{new}-new", new)
    place.settle()
    found = []
    for old in kinds:
        for new in kinds:
            source, target = place / f"{old}-{new}-old", place / f"{old}-{new}-new"
            held = os.open(target, os.O_PATH | os.O_NOFOLLOW)
            found += [old, new, *how(partial(renamed, source, target, NOREPLACE))]
            found += how(partial(os.rename, source, target), partial(os.rename, target, target))
            if new not in {"file", "empty", "link"}:
                found.append(os.fstat(held).st_nlink > 0 if new not in {"folder", "full"} else 0)
            os.close(held)
            found.append((os.path.lexists(source), stat.S_IFMT(target.lstat().st_mode)))
    return found


def renamed(source: Path, target: Path, flags: int) -> None:
    names = os.fsencode(source), os.fsencode(target)
    called(libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags))


def what_a_chain_of_links_leads_to(place: Place) -> object:
    place.file("0")
    for number in range(45):
        (place / f"{number + 1}").symlink_to(f"{number}")
    return [how(partial(os.stat, place / f"{number}"))[0] == "ELOOP" for number in (1, 39, 40, 41)]


def dates_of_one_thing(place: Place) -> object:
    """Which of its times, and of its directory's, each change moves; some change nothing."""
    path, folder = place.stored("file"), place / "folder"
    folder.mkdir()
    (place / "link").symlink_to("file")
    moving = place.file("moving")
    descriptor = os.open(path, os.O_RDWR)

    def utime(atime_ns: int, mtime_ns: int, target: Path = path) -> int:
        times = struct.pack("=4q", 1000, atime_ns, 2000, mtime_ns)
        return called(libc.utimensat(AT_FDCWD, os.fsencode(target), times, 0x100))

    found = []
    calls: tuple[Callable[[], object], ...] = (
        lambda: utime(UTIME_OMIT, UTIME_OMIT),
        lambda: utime(UTIME_OMIT, 5),
        lambda: utime(5, UTIME_OMIT),
        lambda: utime(UTIME_NOW, UTIME_OMIT),
        lambda: utime(UTIME_NOW, UTIME_NOW),
        lambda: utime(1_000_000_000, 0),
        lambda: utime(7, 8, place / "link"),
        lambda: os.write(descriptor, b""),
        lambda: os.pread(descriptor, 5, 0),
        lambda: os.ftruncate(descriptor, os.fstat(descriptor).st_size),
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.fchmod(descriptor, 0o644),
        lambda: os.fchown(descriptor, -1, -1),
        lambda: os.fsync(descriptor),
        lambda: os.close(os.open(path, os.O_RDWR)),
        lambda: os.close(os.open(path, os.O_RDWR | os.O_TRUNC)),
        lambda: os.close(os.open(path, os.O_RDWR | os.O_TRUNC)),  # empty already
        lambda: os.close(os.open(path, os.O_RDWR | os.O_CREAT)),
        lambda: moving.rename(folder / "moved"),
        lambda: (folder / "moved").rename(moving),
        lambda: folder.rename(place / "new name"),
        lambda: (place / "new name").rename(folder),
        lambda: os.rename(path, path),
        lambda: os.listdir(folder) and None,
        (folder / "in").mkdir,
        (folder / "in").rmdir,
        lambda: folder.chmod(0o755),
    )
    for number, call in enumerate(calls):
        places = (path, folder, place.path, place / "link", moving)
        before = [when(one) for one in places]
        next_tick()
        result = outcome(call)
        moved = [
            "m" * (new[0] != old[0]) + "c" * (new[1] != old[1])
            for new, old in zip(map(when, places), before, strict=True)
        ]
        found.append((number, result, *moved))
    os.close(descriptor)
    return found, path.stat().st_mtime_ns > 10**18


def when(path: Path) -> tuple[int, int]:
    """The date of change and of attributes; access is by the options of a disk."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_ctime_ns


def names_of_attributes(place: Place) -> object:
    path, long, small = place.stored("file"), f"user.{'n' * 250}", ctypes.create_string_buffer(2)
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("file")
    found = how(
        *(
            partial(os.setxattr, one, name, value, follow_symlinks=False)
            for one, name, value in (
                (path, "user.", b"1"),
                (path, long, b"long"),
                (path, f"{long}n", b"too long"),
                (path, "user.empty", b""),
                (path, "user.ünï \n\"'%", bytes(range(64))),
                (path, "nothing", b"1"),
                (path, "user.huge", b"x" * 65537),
                (place / "fifo", "user.a", b"1"),
                (place / "link", "user.a", b"1"),
                (place.path, "user.a", b"1"),
            )
        ),
        partial(os.setxattr, path, "user.empty", b"2", os.XATTR_CREATE),
        partial(os.setxattr, path, "user.none", b"2", os.XATTR_REPLACE),
        partial(os.removexattr, path, "user.none"),
        partial(os.removexattr, path, "user.empty"),
        lambda: called(libc.getxattr(os.fsencode(path), long.encode(), None, 0)),
        lambda: called(libc.getxattr(os.fsencode(path), long.encode(), small, len(small))),
    )
    place.settle()
    names = sorted(name for name in os.listxattr(path) if name.startswith("user."))
    return found, [(name, os.getxattr(path, name)) for name in names]


def who_may_move_what_in_a_sticky_directory(place: Place) -> object:
    """Of each owner, files and directories, moved and removed by each user."""
    owners = (ROOT, USER, OTHER)
    for mode in (0o777, 0o1777):
        for owner in owners:
            top = place / f"{mode:o}-{owner}"
            top.mkdir()
            for of in owners:
                for number in range(6):
                    (top / f"f{of}{number}").touch()
                    (top / f"d{of}{number}").mkdir(mode=0o755)
                    for kind in "fd":
                        os.chown(top / f"{kind}{of}{number}", of, of)
            os.chown(top, owner, owner)
            top.chmod(mode)
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    place.settle()
    found: list[object] = []
    for top in sorted(place.path.glob("*777-*")):
        for of in owners:
            for number, by in enumerate((USER, OTHER)):
                file, folder = top / f"f{of}{number}", top / f"d{of}{number}"
                name = f"{top.name}-{of}-{by}"
                found.append((name, outcome(partial(os.rename, folder, f"{folder}-"), by)))
                found.append(outcome(partial(os.rename, f"{folder}-", place / "open" / name), by))
                other, another = top / f"d{of}{number + 2}", top / f"d{of}5"
                found.append(outcome(partial(os.rename, other, another), by))
                found.append(outcome(partial(os.rename, top / f"f{of}{number + 2}", file), by))
                found.append(outcome(file.unlink, by))
                found.append(outcome(partial(os.rmdir, other), by))
    return found


def what_is_watched(place: Place) -> object:
    """inotify tells of what is done on this machine."""
    watch = called(libc.inotify_init1(os.O_NONBLOCK))
    called(libc.inotify_add_watch(watch, os.fsencode(place.path), IN_ALL_EVENTS))
    path = place.file("file")
    path.read_bytes()
    path.chmod(0o600)
    os.truncate(path, 3)
    path.rename(place / "other")
    (place / "d").mkdir()
    (place / "other").unlink()
    (place / "d").rmdir()
    place.settle()
    found, data = [], os.read(watch, 1 << 16)
    while data:
        _, mask, _, length = struct.unpack_from("=iIII", data)
        found.append((mask, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    more = select.select([watch], [], [], 0)[0]
    os.close(watch)
    return found, more


def the_first_of_many_creates(place: Place) -> object:
    def create(_: int) -> str:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        return outcome(lambda: os.close(os.open(place / "file", flags)))

    def touch(_: int) -> str:
        return outcome(lambda: os.close(os.open(place / "shared", os.O_CREAT | os.O_WRONLY)))

    with ThreadPoolExecutor(8) as pool:
        found = [sorted(pool.map(create, range(8)))]
        found.append(sorted(pool.map(lambda _: outcome((place / "d").mkdir), range(8))))
        found.append(sorted(pool.map(touch, range(8))))
        found.append(sorted(pool.map(lambda _: outcome((place / "d").rmdir), range(8))))
        found.append(sorted(pool.map(lambda _: outcome((place / "file").unlink), range(8))))
    return found, os.listdir(place.path)


SCENES: list[Scene] = [
    *(a_directory_is_read_in_small_pieces, places_in_a_directory_are_found_again),
    *(numbers_are_those_that_stat_tells, with_slashes_behind),
    *(renames_of_everything_onto_everything, what_a_chain_of_links_leads_to),
    *(dates_of_one_thing, names_of_attributes, who_may_move_what_in_a_sticky_directory),
    *(what_is_watched, the_first_of_many_creates),
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_ends_as_on_a_disk(for_everyone: Mount, disk: Path, scene: Scene) -> None:
    expected = scene(Place(disk / "here"))
    assert scene(Place(for_everyone.path / scene.__name__)) == expected
