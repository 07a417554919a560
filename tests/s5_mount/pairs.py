"""A mount, the same bucket mounted elsewhere, and a disk: what one leaves, all three show.

Used by the tests that run programs on a mount and on a disk and compare what is left.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from tests.s5_mount.mounting import Mount
from tests.support import eventually

Tree = dict[str, tuple[object, ...]]

LONG_AGO_NS = 1_500_000_000 * 10**9  # a date before that was set by a program
NOW = "now"  # stands for any other date


class Pair(NamedTuple):
    """``mount`` is worked on, ``other`` shows the same bucket, seconds later."""

    mount: Mount
    other: Mount

    def elsewhere(self, path: Path) -> Path:
        """A path of the mount on the other one, once everything has arrived."""
        self.mount.flush()
        there = self.other.path / path.relative_to(self.mount.path)
        eventually(there.exists)  # it may believe for a while that there is no such name
        return there

    def compare(self, mounted: Path, disk: Path) -> None:
        """A directory of the mount, here and elsewhere, with one of a disk."""
        expected = everything(disk)
        wrong = differences(everything(mounted), expected)
        assert not wrong, wrong
        found = everything(self.elsewhere(mounted))
        wrong = differences(without_changes(found, expected), expected)
        assert not wrong, wrong


def everything(top: Path) -> Tree:
    """All that there is below, by relative path: what it is, of when, whose, and its bytes."""
    return {
        str(Path(folder, name).relative_to(top)): _entry(Path(folder, name))
        for folder, directories, files in os.walk(top)
        for name in directories + files
    }


def _entry(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    date = found.st_mtime_ns if found.st_mtime_ns < LONG_AGO_NS else NOW
    common = (stat.filemode(found.st_mode), date, found.st_uid, found.st_gid)
    if path.is_symlink():
        return (*common, os.readlink(path))
    if not path.is_file() and not path.is_dir():
        return common
    attributes = {
        name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")
    }
    if path.is_dir():
        return (*common, attributes)
    return (*common, attributes, found.st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def differences(found: Tree, expected: Tree) -> dict[str, object]:
    """What is there and what should be, where these are not the same."""
    pairs = {path: (found.get(path), expected.get(path)) for path in {*found, *expected}}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def without_changes(tree: Tree, expected: Tree) -> Tree:
    """Of a directory, when something came or went is not stored; a date that was set is."""
    return {
        path: (entry[0], NOW, *entry[2:])
        if str(entry[0]).startswith("d") and expected.get(path, entry)[1] == NOW
        else entry
        for path, entry in tree.items()
    }
