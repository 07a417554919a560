"""The reference model: a mounted directory behaves as a local one, and so does its bucket.

Random steps are done in both directories and every answer is compared: bytes, sizes, errno,
and the whole tree after each step. What differs after a kill -9 is known here too: what was
closed is there exactly; what was not may be any mixture of what it has been since.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mixtures import is_mixture
from tests.s5_mount.mounting import Mount
from tests.steps import FLAGS, READ_BYTES, Step, on_file, on_path
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Tree = dict[str, bytes | None]  # path -> bytes, ``None`` for a directory


@dataclass
class Slot:
    """The same file opened in both directories. ``stale``: it was replaced in the bucket."""

    local: int
    mounted: int
    flags: int
    stale: bool = False

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


@dataclass
class Unclosed:
    """What a file has been since it was last closed. ``born``: it never was."""

    versions: list[bytes]
    born: bool = False


@dataclass
class Twins:
    """A local directory and a mounted one, which is below ``prefix`` in the bucket.

    ``again(kill)`` ends the mount and mounts it anew at the same place.
    """

    local: Path
    mounted: Path
    s3: S3Client
    bucket: str
    prefix: str
    again: Callable[[bool], None]
    slots: dict[int, Slot] = field(default_factory=dict)
    unclosed: dict[int, Unclosed] = field(default_factory=dict)  # by the local inode
    held: set[int] = field(default_factory=set)  # closed by one, still written by another
    seen: dict[int, bytes] = field(default_factory=dict)  # the last look, by the local inode
    removed: dict[str, int] = field(default_factory=dict)  # keys of open files, and their inodes

    def live(self, life: list[Step]) -> None:
        """Every step, then everything closed and compared with the bucket itself."""
        for step in life:
            self.do(step)
        self.close_all()
        self.do(Step("settle"))
        for key, body in self.expected().items():
            assert self.fetch(key) == body, key

    def do(self, step: Step) -> None:
        """One step in both directories; their answers and trees must be equal."""
        match step.what:
            case "kill" | "remount":
                self.restart(kill=step.what == "kill")
            case "settle":
                eventually(lambda: self.in_bucket() == self.expected(), within_sec=60)
            case "put" | "delete":
                self.change_remotely(step)
            case "open" if step.slot in self.slots:
                self.do(Step("close", slot=step.slot))
                self.open(step)
            case "open":
                self.open(step)
            case "pwrite" | "pread" | "ftruncate" | "fsync" | "close":
                self.use(step)
            case _:
                self.both(step)
        self.compare()

    # --- steps ------------------------------------------------------------------------------

    def both(self, step: Step) -> None:
        displaced = self.inode(step.other) if step.what == "rename" else None
        kept = self.seen.get(displaced, b"") if displaced else None
        unlinked = self.inode(step.path) if step.what == "unlink" else None
        here = answer(lambda: on_path(self.local, step))
        there = answer(lambda: on_path(self.mounted, step))
        assert here == there, f"{step}: {here} locally, {there} mounted"
        if unlinked is not None:
            self.removed[self.prefix + step.path] = unlinked
        inode = self.inode(step.other if step.what == "rename" else step.path)
        if step.what == "rename" and kept is not None and inode in self.unclosed:
            self.unclosed[inode].versions.append(kept)  # neither may be there, as everywhere
        elif step.what == "write" and inode is not None:
            self.closed(inode)
        elif step.what == "truncate" and inode is not None and self.writers(inode):
            self.change(inode)

    def open(self, step: Step) -> None:
        flags = FLAGS[step.other]
        born = self.inode(step.path) is None
        here = answer(lambda: os.open(self.local / step.path, flags, 0o644))
        there = answer(lambda: os.open(self.mounted / step.path, flags, 0o644))
        assert type(here) is type(there), f"{step}: {here} locally, {there} mounted"
        if isinstance(here, int) and isinstance(there, int):
            self.slots[step.slot] = Slot(here, there, flags)
            inode = os.fstat(here).st_ino
            if born:
                self.unclosed[inode] = Unclosed([b""], born=True)
            elif flags & os.O_TRUNC:
                self.change(inode)
        else:
            assert here == there, f"{step}: {here} locally, {there} mounted"

    def use(self, step: Step) -> None:
        slot = self.slots.get(step.slot)
        if slot is None:
            return
        inode = os.fstat(slot.local).st_ino
        here = answer(lambda: on_file(slot.local, step))
        there = answer(lambda: on_file(slot.mounted, step))
        if slot.stale and there == error(errno.ESTALE):
            there = here
        assert here == there, f"{step}: {here} locally, {there} mounted"
        if step.what == "close":
            del self.slots[step.slot]
        if step.what == "fsync":
            self.unclosed.pop(inode, None)
            self.held.discard(inode)
        elif step.what == "close" and slot.writes:
            self.closed(inode)
        elif step.what in ("pwrite", "ftruncate") and slot.writes:
            self.change(inode)

    def change(self, inode: int) -> None:
        """The file was changed and not closed yet."""
        self.unclosed.setdefault(inode, Unclosed([self.seen.get(inode, b"")]))

    def closed(self, inode: int) -> None:
        """What it is now survives; it is sent when nobody writes to it any more."""
        self.unclosed.pop(inode, None)
        if self.writers(inode):
            self.held.add(inode)
        else:
            self.held.discard(inode)

    def close_all(self) -> None:
        for number in list(self.slots):
            self.do(Step("close", slot=number))

    def change_remotely(self, step: Step) -> None:
        """Somebody else's PUT or DELETE of a file nobody here is writing."""
        path = self.local / step.path
        inode = self.inode(step.path)
        key = self.prefix + step.path
        if not path.parent.is_dir() or path.is_dir() or (inode and self.writers(inode)):
            return
        if key in self.remaining():
            return  # it would not be seen before the removed file is closed
        eventually(lambda: self.in_bucket() == self.expected())
        for slot in self.slots.values():
            slot.stale |= os.fstat(slot.local).st_ino == inode
        if step.what == "put":
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=step.data)
            path.unlink(missing_ok=True)  # who has it open keeps it
            path.write_bytes(step.data)
        elif inode is not None:
            self.s3.delete_object(Bucket=self.bucket, Key=key)
            path.unlink()

    def restart(self, *, kill: bool) -> None:
        """The mount ends, and with it every open file."""
        if not kill:
            self.close_all()
        self.again_without_files(kill)
        actual = tree(self.mounted, {})
        for path, body in tree(self.local, {}).items():
            doubt = self.unclosed.get(self.inode(path) or 0)
            if doubt is None or body is None:
                continue
            found = actual.get(path)
            if found is None:
                assert doubt.born, f"{path} had been closed, and is gone"
                (self.local / path).unlink()
            else:
                versions = [*doubt.versions, body]
                assert is_mixture(found, versions), f"{path} is what it never was"
                (self.local / path).write_bytes(found)
        self.unclosed.clear()
        self.held.clear()

    def again_without_files(self, kill: bool) -> None:
        inodes = {number: os.fstat(slot.local).st_ino for number, slot in self.slots.items()}
        assert kill or not inodes
        self.again(kill)
        for slot in self.slots.values():
            os.close(slot.local)
            answer(lambda slot=slot: os.close(slot.mounted))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        self.slots.clear()

    # --- comparing ----------------------------------------------------------------------------

    def compare(self) -> None:
        """Names, types, sizes and bytes. Files that are open are read as they are open.

        Opening a file that is being written and closing it again would put it on record.
        """
        held = {os.fstat(s.local).st_ino: s for s in self.slots.values() if readable(s)}
        open_here = {
            path: held[inode] for path in walk(self.local) if (inode := self.inode(path)) in held
        }
        expected = tree(self.local, {path: slot.local for path, slot in open_here.items()})
        actual = tree(self.mounted, {path: slot.mounted for path, slot in open_here.items()})
        assert shown(actual) == shown(expected)
        assert actual == expected
        self.seen = {}
        for path, body in expected.items():
            if body is not None and (inode := self.inode(path)) is not None:
                self.seen[inode] = body
                doubt = self.unclosed.get(inode)
                if doubt is not None and doubt.versions[-1] != body:
                    doubt.versions.append(body)

    def inode(self, path: str) -> int | None:
        try:
            return (self.local / path).lstat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None

    def writers(self, inode: int) -> bool:
        return any(s.writes and os.fstat(s.local).st_ino == inode for s in self.slots.values())

    def remaining(self) -> set[str]:
        """Objects that may be there still, as files that were removed are open."""
        held = {os.fstat(slot.local).st_ino for slot in self.slots.values()}
        return {
            key for key, inode in self.removed.items() if inode in held
        } - self.expected().keys()

    def is_written(self, path: str) -> bool:
        """Whether what the bucket has under a name is not yet what the file is."""
        inode = self.inode(path)
        return inode in self.unclosed or inode in self.held

    def expected(self) -> dict[str, bytes]:
        """The objects there should be, but for those that are being written."""
        return {
            self.prefix + path: body
            for path, body in tree(self.local, {}).items()
            if body is not None and not self.is_written(path)
        }

    def in_bucket(self) -> dict[str, bytes]:
        """What is there: fetched only where the etag does not say that it is right already."""
        expected, remaining, found = self.expected(), self.remaining(), {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        written = {self.prefix + path for path in walk(self.local) if self.is_written(path)}
        for entry in (entry for page in pages for entry in page.get("Contents", [])):
            key, body = entry["Key"], expected.get(entry["Key"])
            if key.endswith("/") or key in written | remaining:
                continue
            same = body is not None and entry["ETag"].strip('"') == md5(body)
            found[key] = body if same and body is not None else self.fetch(key)
        return found

    def fetch(self, key: str) -> bytes:
        try:
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return b"deleted since it was listed"


def twins_on(mount: Mount, s3: S3Client, options: Sequence[str]) -> Twins:
    """A new pair of directories: on the mount, which has these options, and beside its cache."""
    name = uuid.uuid4().hex[:8]
    local = mount.cache_dir.parent / name
    local.mkdir()
    (mount.path / name).mkdir()

    def again(kill: bool) -> None:
        if kill:
            mount.kill9()
        else:
            mount.unmount()
        mount.start(options, {})

    return Twins(local, mount.path / name, s3, mount.bucket, name + "/", again)


def answer(call: Callable[[], object]) -> object:
    """What a call returns, or its errno by name."""
    try:
        return call()
    except OSError as failure:
        return error(failure.errno or 0)


def error(number: int) -> str:
    same = errno.EEXIST if number == errno.ENOTEMPTY else number  # POSIX allows both
    return errno.errorcode[same]


def readable(slot: Slot) -> bool:
    return slot.flags & os.O_ACCMODE != os.O_WRONLY and not slot.stale


def walk(top: Path, below: str = "") -> list[str]:
    """Every path, parents first."""
    found = []
    with os.scandir(top / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = below + entry.name
            found.append(path)
            if entry.is_dir(follow_symlinks=False):
                found += walk(top, path + "/")
    return found


def tree(top: Path, held: dict[str, int]) -> Tree:
    """Everything below ``top``; files in ``held`` are read through that descriptor."""
    found: Tree = {}
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _look(descriptor, "", held, found)
    finally:
        os.close(descriptor)
    return found


def _look(directory: int, below: str, held: dict[str, int], found: Tree) -> None:
    """By descriptors: a path would have each of its names looked up again, in the bucket."""
    with os.scandir(directory) as entries:
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    for name, is_directory in sorted(kinds.items()):
        path = below + name
        descriptor = held.get(path) or os.open(name, os.O_RDONLY, dir_fd=directory)
        try:
            assert stat.S_ISDIR(os.fstat(descriptor).st_mode) == is_directory, path
            if is_directory:
                found[path] = None
                _look(descriptor, path + "/", held, found)
            else:
                found[path] = body = os.pread(descriptor, READ_BYTES, 0)
                size = os.stat(name, dir_fd=directory).st_size
                assert size == len(body), f"{path} has {len(body)} bytes, stat says {size}"
        finally:
            if path not in held:
                os.close(descriptor)


def shown(found: Tree) -> dict[str, object]:
    """Short, so that a failure can be read."""
    return {
        path: None if body is None else (len(body), body[:16], md5(body))
        for path, body in found.items()
    }


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
