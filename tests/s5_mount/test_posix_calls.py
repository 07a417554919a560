"""Every call on every kind of path, by root and by another user: as a local disk does it.

The disk is the judge. On both, the same tree is built, a call is made on one path after the
other, and everything is compared: errno, which of the times moved, and the tree that is left.
Where a mount differs on purpose is said in `DIFFERENT`, and in docs/SEMANTICS.md.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.s5_mount.calling import OTHER, ROOT, USER, closing, next_tick, outcome
from tests.s5_mount.mounting import Mount

Call = Callable[[str], object]  # on a path; not a `Path`, which would take dots away

_libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, WHITEOUT = 1, 4  # flags of renameat2
TOO_LONG = "n" * 1025

# What each user's calls are made on; the rest of the tree is what these lead to.
PATHS = {
    ROOT: [
        *("file", "none", "file/x", "none/x", "loop", "loop/x", "dangling", "link"),
        *("folderlink", "folderlink/inner", "folder", "full", "fifo", "socket", "char", "block"),
        *("suid", "sgid/new", ".", "full/.", "full/..", TOO_LONG, f"{TOO_LONG}/x", "p/" * 2048),
    ],
    USER: [
        *("file", "none", "full", "suid", "shut/inner", "shut/new", "mine/suid", "mine/new"),
        *("sticky/own", "sticky/others", "sticky/new", "open/own", "open/others", "open/new"),
        *("open/ownfolder", "open/othersfolder", "sgid/new", "sgid/own", "open/file/x"),
    ],
}


def build(top: Path) -> None:
    """Something of everything, and directories that let everybody do this or that."""
    top.mkdir()
    top.chmod(0o755)
    (top / "file").write_bytes(b"12345678")
    links = {"loop": "loop", "dangling": "none", "link": "file", "folderlink": "full"}
    for name, target in links.items():
        (top / name).symlink_to(target)
    for name, kind in (("char", stat.S_IFCHR), ("block", stat.S_IFBLK), ("socket", stat.S_IFSOCK)):
        os.mknod(top / name, kind | 0o644, 0 if kind == stat.S_IFSOCK else os.makedev(1, 3))
    os.mkfifo(top / "fifo")
    modes = {"folder": 0o755, "full": 0o755, "shut": 0o700, "mine": 0o755}
    for name, mode in (modes | {"sticky": 0o1777, "open": 0o777, "sgid": 0o2777}).items():
        (top / name).mkdir()
        (top / name).chmod(mode)
    for name in ("full/inner", "shut/inner"):
        (top / name).write_bytes(b"1")
    for folder in ("sticky", "open"):
        for name, owner in (("own", USER), ("others", OTHER)):
            (top / folder / name).write_bytes(b"1")
            os.chown(top / folder / name, owner, owner)
    for name, owner in (("open/ownfolder", USER), ("open/othersfolder", OTHER)):
        (top / name).mkdir()
        os.chown(top / name, owner, owner)
    os.chown(top / "mine", USER, USER)
    os.chown(top / "sgid", OTHER, OTHER)
    for name, owner in (("suid", ROOT), ("mine/suid", USER), ("sgid/own", USER)):
        (top / name).write_bytes(b"1")
        os.chown(top / name, owner, OTHER if name == "sgid/own" else owner)
        (top / name).chmod(0o6777 if name != "sgid/own" else 0o644)


def writing(flags: int) -> Call:
    def write(path: str) -> None:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o6755)
        try:
            os.write(descriptor, b"x")
        finally:
            os.close(descriptor)

    return write


def renaming(name: str, flags: int = 0) -> Call:
    """A file or directory of the tree, onto the path."""

    def rename(path: str) -> None:
        source = os.fsencode(beside(path, name))
        if _libc.renameat2(-100, source, -100, os.fsencode(path), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    return rename


def beside(path: str, name: str) -> str:
    """A place in the directory ``open`` of the tree that the path is in."""
    tree = re.match(r".*?/tree-[^/]*", path)
    assert tree is not None
    return f"{tree[0]}/open/{name}"


def may_write(path: str) -> None:
    if not os.access(path, os.W_OK, effective_ids=True):
        raise OSError(errno.EACCES, "access")


CALLS: dict[str, Call] = {
    "stat": os.stat,
    "lstat": os.lstat,
    "access": may_write,
    "open to read": closing(os.O_RDONLY | os.O_NONBLOCK),
    "open to write": closing(os.O_WRONLY | os.O_NONBLOCK),
    "open and empty": closing(os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK),
    "open a directory": closing(os.O_RDONLY | os.O_DIRECTORY),
    "open no link": closing(os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK),
    "create": closing(os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o6755),
    "create exclusively": closing(os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "write": writing(os.O_WRONLY),
    "append": writing(os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    "chmod": lambda path: os.chmod(path, 0o6751),
    "chmod sticky": lambda path: os.chmod(path, 0o1750),
    "chown": lambda path: os.chown(path, OTHER, OTHER),
    "chown to own group": lambda path: os.chown(path, -1, USER),
    "chown of a link": lambda path: os.lchown(path, USER, USER),
    "chown to what it is": lambda path: os.chown(path, -1, -1),
    "truncate": lambda path: os.truncate(path, 3),
    "truncate to its size": lambda path: os.truncate(path, 8),
    "truncate below nothing": lambda path: os.truncate(path, -1),
    "extend": lambda path: os.truncate(path, 10_000),
    "utime": os.utime,
    "utime given": lambda path: os.utime(path, ns=(10**9 + 1, 2 * 10**9 + 2)),
    "utime of a link": lambda path: os.utime(path, (3, 4), follow_symlinks=False),
    "utime before 1970": lambda path: os.utime(path, ns=(-1_500_000_000, -500_000_000)),
    "utime after 2106": lambda path: os.utime(path, (2**32, 2**32 + 5)),
    "mkdir": lambda path: os.mkdir(path, 0o7755),
    "mkfifo": os.mkfifo,
    "mknod file": lambda path: os.mknod(path, stat.S_IFREG | 0o6755),
    "mknod socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o644),
    "mknod device": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(5, 300)),
    "symlink": lambda path: os.symlink("target", path),
    "symlink of 4095": lambda path: os.symlink("t" * 4095, path),
    "symlink of 4096": lambda path: os.symlink("t" * 4096, path),
    "symlink of nothing": lambda path: os.symlink("", path),
    "readlink": os.readlink,
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "list": os.listdir,
    "rename away": lambda path: os.rename(path, beside(path, "target")),
    "rename file onto": renaming("own"),
    "rename directory onto": renaming("ownfolder"),
    "rename without replacing": renaming("own", NOREPLACE),
    "rename with nonsense": renaming("own", NOREPLACE | WHITEOUT | 8),
    "set attribute": lambda path: os.setxattr(path, "user.x", path[-9:].encode()),
    "create attribute": lambda path: os.setxattr(path, "user.x", b"1", os.XATTR_CREATE),
    "replace attribute": lambda path: os.setxattr(path, "user.x", b"1", os.XATTR_REPLACE),
    "get attribute": lambda path: os.getxattr(path, "user.x"),
    "remove attribute": lambda path: os.removexattr(path, "user.x"),
    "list attributes": os.listxattr,
    "attribute of no kind": lambda path: os.setxattr(path, "bad", b"1"),
    "statvfs": os.statvfs,
}

# A mount is ``nodev``, for everybody: a device on it is kept, and cannot be used.
DEVICES = {"char", "block"}
USES = {"open to read", "open to write", "open and empty", "open no link", "create", "write"}
DIFFERENT = {(call, path): "EACCES" for call in USES | {"append"} for path in DEVICES}


def snapshot(top: Path) -> dict[str, tuple[int | str, ...]]:
    """Everything below but the times, which say when, and sizes that directories have."""
    found: dict[str, tuple[int | str, ...]] = {}
    for folder, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = Path(folder, name)
            entry = path.lstat()
            own = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_rdev)
            if stat.S_ISDIR(entry.st_mode):
                found[str(path.relative_to(top))] = own
            else:
                target = os.readlink(path) if path.is_symlink() else ""
                found[str(path.relative_to(top))] = (*own, entry.st_size, entry.st_nlink, target)
    return found


def times(*paths: str) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            entry = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((entry.st_mtime_ns, entry.st_ctime_ns))
    return found


def report(
    top: Path, call: Call, user: int, tick: Callable[[], object]
) -> tuple[dict[str, object], dict[str, object]]:
    """What came of the call on each path, with what moved, and what is there in the end.

    ``tick`` waits until a change can be told from the one before; a mount needs no wait.
    """
    build(top)
    tick()
    came: dict[str, object] = {}
    for name in PATHS[user]:
        path = f"{top}/{name}"
        places = [path, os.path.dirname(path)]
        before = times(*places)
        tick()
        how = outcome(partial(call, path), user)
        after = times(*places)
        moved = [
            (new is None, old is None)
            if old is None or new is None
            else (old[0] != new[0], old[1] != new[1])
            for old, new in zip(before, after, strict=True)
        ]
        came[name[:20]] = (how, moved)
    return came, dict(snapshot(top))


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> dict[str, object]:
    """What is there and what should be, where these are not the same."""
    pairs = {name: (found.get(name), expected.get(name)) for name in {*found, *expected}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.decision(8)
@pytest.mark.parametrize("call", CALLS)
def test_as_on_a_disk(for_everyone: Mount, disk: Path, call: str) -> None:
    for user in PATHS:
        name = f"tree-{user}-{call.replace(' ', '-')}"
        expected, left = report(disk / name, CALLS[call], user, next_tick)
        for (of_call, path), how in DIFFERENT.items():
            if of_call == call and path in expected:
                expected[path] = (how, [(False, False), (False, False)])
        found, there = report(for_everyone.path / name, CALLS[call], user, next_tick)
        assert differences(found, expected) == {}
        assert differences(there, left) == {}
