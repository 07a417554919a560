"""A view of a bucket copied into a directory, and what changed there copied back: no mount.

Used by ``qarnotfs run --no-fuse``. The directory has the names, permissions, times and links
that a mount shows. Whether something was changed is told by size, times and inode as the kernel
keeps them, so that nothing is read that need not be sent.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from qarnotfs.bucket import downward, transfer, upward
from qarnotfs.bucket.bucket import Bucket
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.report import SyncFailed, SyncReport, Tally
from qarnotfs.bucket.sources import Sources
from qarnotfs.core import names
from qarnotfs.core.attributes import (
    Defaults,
    Posix,
    content_type,
    decode,
    encode,
)
from qarnotfs.errors import FileError, QarnotfsError, UsageError
from qarnotfs.figures import bytes_text
from qarnotfs.store.base import DELETE_COUNT_MAX, Attributes, ObjectInfo
from qarnotfs.writeback.debts import conflict_key

Stood = tuple[int, ...]  # what `_stood` tells of a file, a link or a directory


@dataclass
class Stage:
    """One directory that stands for a mounted bucket: `fill`, then `send`, then `clear`."""

    bucket: Bucket
    root: str
    umask: int
    progress: bool = False
    _objects: dict[str, ObjectInfo] = field(default_factory=dict)  # path -> as it was staged
    _before: dict[str, Stood] = field(default_factory=dict)  # path -> as it was left to programs

    # --- in -------------------------------------------------------------------------------------

    def fill(self) -> dict[str, str]:
        """Fetch everything that is visible; what no directory can hold: name -> why.

        Raises `SyncFailed` when something could not be fetched, `UsageError` when ``root`` is
        not empty or its disk has not enough room.
        """
        os.makedirs(self.root, exist_ok=True)
        if os.listdir(self.root):
            raise UsageError(f"{self.root} is not empty: nothing can be staged in it.")
        objects = self._visible()
        self._require_room(sum(info.size for info in objects.values()))
        try:
            return self._fetch(objects)
        except BaseException:  # nobody has used it: what is there are copies
            _empty(self.root)
            raise

    def _fetch(self, objects: dict[str, ObjectInfo]) -> dict[str, str]:
        wanted = ((_fetched_as(path, info), info) for path, info in objects.items())
        arrived: dict[str, ObjectInfo] = {}  # with metadata
        manner = Manner(progress=self.progress, arrived=arrived.__setitem__)
        report = downward.get(self.bucket.store, self.root, wanted, manner, Tally())
        skipped = {name.rstrip("/") for name in report.skipped}
        self._objects = {path: info for path, info in objects.items() if path not in skipped}
        for path, info in arrived.items():
            self._attribute(os.path.join(self.root, path), info)
        self._before = dict(_look(self.root, Tally()))
        return dict(report.skipped)

    def _visible(self) -> dict[str, ObjectInfo]:
        """Path -> object, as a mount would have them."""
        files = self.bucket.visible_files()
        infos = {
            name: ObjectInfo(file.key, file.size, file.e_tag.strip('"'), 0)
            for name, file in files.items()
        }
        parents = {name[:at] for name in infos for at, c in enumerate(name) if c == "/"}
        found: dict[str, ObjectInfo] = {}
        for name, info in infos.items():
            is_marker = name.endswith("/") and not info.size
            try:
                path = _path(name[:-1] if is_marker else name, clash=name in parents)
            except FileError:  # a name that no kernel takes
                continue
            found[path] = info
        return found

    def _require_room(self, size: int) -> None:
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise UsageError(
                f"'{self.bucket.uuid}' has {bytes_text(size)}, and {self.root} has room for"
                f" {bytes_text(free)}: show a part of it, or mount it."
            )

    def _attribute(self, place: str, info: ObjectInfo) -> None:
        """Give a file the permissions and times that are stored, or make it the link it is."""
        usual = Defaults(os.getuid(), os.getgid(), 0o666 & ~self.umask)
        posix = decode(
            info.metadata, modified_sec=info.modified_sec, is_directory=False, defaults=usual
        )
        if stat.S_ISLNK(posix.mode):
            with open(place, "rb") as file:
                target = file.read()
            os.unlink(place)
            os.symlink(target, os.fsencode(place))
        else:
            os.chmod(place, stat.S_IMODE(posix.mode) & 0o777)
            os.utime(place, ns=(posix.atime_ns, posix.mtime_ns))

    # --- out ------------------------------------------------------------------------------------

    def changed(self) -> list[str]:
        """The paths that are new, changed or gone since `fill`, as far as can be seen."""
        now = dict(_look(self.root, Tally()))
        return sorted(
            path for path in now | self._before if now.get(path) != self._before.get(path)
        )

    def send(self) -> SyncReport:
        """Store what is new or changed, and delete what is gone, as a mount would have done.

        What somebody else changed meanwhile keeps its name, ours is stored beside it. Raises
        `SyncFailed` when something is not in the bucket.
        """
        tally = Tally()
        now = dict(_look(self.root, tally))
        changed = [path for path, stood in now.items() if stood != self._before.get(path)]
        gone = [path for path in self._objects if path not in now and not _hidden(path, tally)]
        if not changed and not gone:
            return tally.report()
        theirs = self._visible()
        files, directories, links = _sorted_out(changed, now)
        reports = [self._send_files(files, theirs, tally)]
        for path in links:
            self._put(path, os.readlink(os.fsencode(os.path.join(self.root, path))), theirs, tally)
        filled = {os.path.dirname(path) for path in now}
        for path in directories:
            if path not in filled and path not in theirs:
                self._put(path, b"", theirs, tally)
        doomed = [self._objects[path].key for path in gone if _same(path, self._objects, theirs)]
        for start in range(0, len(doomed), DELETE_COUNT_MAX):
            batch = doomed[start : start + DELETE_COUNT_MAX]
            failed = transfer.delete(self.bucket.store, batch)
            for key, error in failed.items():
                tally.fail(key, error)
            tally.deleted += [key for key in batch if key not in failed]
        self._before |= {path: now[path] for path in changed if path not in tally.failed}
        return _joined(tally, reports)

    def _send_files(
        self, paths: Iterable[str], theirs: dict[str, ObjectInfo], tally: Tally
    ) -> SyncReport:
        keys: dict[str, str] = {}
        for path in paths:
            try:
                keys[self._key(path, theirs, tally)] = path
            except QarnotfsError as error:
                tally.fail(path, error)
        places = {key: os.path.join(self.root, path) for key, path in keys.items()}
        sources = Sources.of_files(places, "", attributes=partial(_attributes_of, places))
        try:
            return upward.add(self.bucket.store, sources, Manner(progress=self.progress))
        except SyncFailed as error:
            tally.failed |= {keys.get(key, key): why for key, why in error.report.failed.items()}
            return error.report

    def _put(self, path: str, body: bytes, theirs: dict[str, ObjectInfo], tally: Tally) -> None:
        """Store a link's target, or a directory's marker."""
        try:
            place = os.path.join(self.root, path)
            slash = "" if body else "/"
            key = self._key(path, theirs, tally, slash)
            attributes = _attributes_of({key: place}, key)
            transfer.patiently(partial(self.bucket.store.put, key, body, attributes))
            tally.uploaded.append(key)
        except (OSError, QarnotfsError) as error:
            tally.fail(path, error)

    def _key(self, path: str, theirs: dict[str, ObjectInfo], tally: Tally, slash: str = "") -> str:
        """Where a file is stored: as before, or as a new one, or beside somebody else's."""
        ours = self._objects.get(path)
        name = names.join(tuple(names.decode(part).text for part in os.fsencode(path).split(b"/")))
        key = ours.key if ours else self.bucket.view.stored(name + slash)
        if path not in theirs or _same(path, self._objects, theirs):
            return key
        beside = conflict_key(key, time.time())
        tally.skipped[key] = f"somebody else changed it meanwhile; yours is stored as {beside!r}"
        return beside

    def clear(self) -> list[str]:
        """Remove what is in the bucket; the paths of what stays: not sent, or changed since."""
        left: list[str] = []
        for path, stood in sorted(_look(self.root, Tally()), reverse=True):  # leaves first
            place = os.path.join(self.root, path)
            try:
                if stat.S_ISDIR(stood[0]):
                    os.rmdir(place)
                elif stood == self._before.get(path):
                    os.unlink(place)
                else:
                    left.append(path)
            except OSError:  # a directory in which something stays
                continue
        return sorted(left)


def _empty(root: str) -> None:
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _path(name: str, *, clash: bool) -> str:
    """The path of a visible key, with the escapes that a mount has."""
    *above, last = names.split(name)
    parts = [names.encode(segment) for segment in above] + [names.encode(last, clash)]
    return os.fsdecode(b"/".join(parts))


def _fetched_as(path: str, info: ObjectInfo) -> str:
    """A marker is known by the slash at its end."""
    return f"{path}/" if info.key.endswith("/") and not info.size else path


def _same(path: str, ours: dict[str, ObjectInfo], theirs: dict[str, ObjectInfo]) -> bool:
    """Whether nobody else has changed an object since it was staged."""
    return path in ours and ours[path].same_version(theirs.get(path))


def _look(root: str, tally: Tally, folder: str = "") -> Iterator[tuple[str, Stood]]:
    """Every file, link and directory below; ``tally`` is told what could not be looked at."""
    try:
        entries = list(os.scandir(os.path.join(root, folder)))
    except OSError as error:
        tally.failed[folder or "."] = f"{error.strerror}."
        return
    for entry in entries:
        path = os.path.join(folder, entry.name)
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            yield path, (found.st_mode, found.st_ino)
            yield from _look(root, tally, path)
        elif stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
            times = found.st_mtime_ns, found.st_ctime_ns
            yield path, (found.st_mode, found.st_ino, found.st_size, *times)
        else:
            tally.skipped[path] = "it is neither a file nor a directory"


def _hidden(path: str, tally: Tally) -> bool:
    """Whether a path may be there all the same, below a directory that cannot be read."""
    return any(path.startswith(f"{folder}/") or folder == "." for folder in tally.failed)


def _sorted_out(
    paths: Iterable[str], stood: dict[str, Stood]
) -> tuple[list[str], list[str], list[str]]:
    """Files, directories and links among ``paths``."""
    kinds: tuple[list[str], list[str], list[str]] = ([], [], [])
    for path in paths:
        mode = stood[path][0]
        kinds[1 if stat.S_ISDIR(mode) else 2 if stat.S_ISLNK(mode) else 0].append(path)
    return kinds


def _attributes_of(places: dict[str, str], key: str) -> Attributes:
    """What a mount would store beside the bytes."""
    found = os.lstat(places[key])
    times = found.st_mtime_ns, found.st_atime_ns, found.st_ctime_ns
    posix = Posix(found.st_mode, found.st_uid, found.st_gid, *times)
    return Attributes(encode(posix), content_type(key, found.st_mode))


def _joined(tally: Tally, reports: Iterable[SyncReport]) -> SyncReport:
    for report in reports:
        tally.uploaded += report.uploaded
        tally.moved.append(report.bytes_moved)
    return tally.report()
