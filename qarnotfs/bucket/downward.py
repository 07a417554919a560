"""The bucket into a local directory: only what differs, and never outside of it.

Used by `Bucket.sync_remote_to_local` and `get_all_files`. Names are keys without ``base``.
A file appears whole or not at all; of a key that no file system can hold the report tells.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from qarnotfs.bucket import crowd, transfer
from qarnotfs.bucket.local import Folder, Tree, no_directory, printable, reading, tree_of
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.progress import Told
from qarnotfs.bucket.report import SyncReport, Tally
from qarnotfs.bucket.workers import each
from qarnotfs.errors import MissingFile, QarnotfsError
from qarnotfs.store.base import Fetched, ObjectInfo, Store
from qarnotfs.syncplan import PART_BYTES, directories_of, question, unholdable

LARGE_AT_ONCE = 4  # files that are fetched in parts
HASHING_THREADS = 4  # MD5 runs without the GIL


@dataclass(frozen=True)
class _Wanted:
    """What the directory is to hold: files, and every directory above or beside them."""

    files: dict[str, ObjectInfo] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)

    def bare_directories(self) -> set[str]:
        """Those that no file below brings along."""
        return self.directories - directories_of(self.files)


def sync(
    store: Store, local: str, base: str, manner: Manner, *, must_exist: bool = False
) -> SyncReport:
    """Make ``local`` hold what is under ``base`` (``""`` or ending in ``/``).

    Raises `SyncFailed`, and `OSError` when ``local`` cannot be a directory. Where there is
    nothing, not even a marker, `MissingFile` with ``must_exist`` or before files are deleted.
    """
    tally = Tally()
    found = list(transfer.objects(store, base))
    if base and not found and (must_exist or manner.delete):
        raise MissingFile(f"There is no directory {base!r} in '{store.bucket}'.")
    wanted = _wanted(((info.key[len(base) :], info) for info in found), tally)
    if not manner.dry_run:
        os.makedirs(local, exist_ok=True)
    tree = tree_of(local) if os.path.lexists(local) else Tree()
    _note_unseen(tree, tally, manner.delete)
    missing = _missing(local, tree, wanted, tally)
    doomed = sorted(tree.files.keys() - wanted.files.keys()) if manner.delete else []
    if manner.dry_run:
        tally.failed.update(_blocked(tree, wanted, missing, doomed))
        tally.downloaded += (name for name in missing if name not in tally.failed)
        tally.deleted += map(printable, doomed)
        tally.moved += (wanted.files[name].size for name in tally.downloaded)
        return tally.report()
    total = sum(wanted.files[name].size for name in missing)
    with Folder(local) as folder, manner.told(total) as told:
        _Run(store, folder, wanted, tally, manner, told).run(missing, doomed)
    return tally.report()


def get(
    store: Store,
    local: str,
    objects: Iterable[tuple[str, ObjectInfo]],
    manner: Manner,
    tally: Tally,
) -> SyncReport:
    """Fetch these objects, whatever is in ``local``, under the names that are given.

    Adds to ``tally`` and raises as `sync` does.
    """
    wanted = _wanted(objects, tally)
    os.makedirs(local, exist_ok=True)
    total = sum(info.size for info in wanted.files.values())
    with Folder(local) as folder, manner.told(total) as told:
        _Run(store, folder, wanted, tally, manner, told).run(list(wanted.files), ())
    return tally.report()


def _wanted(objects: Iterable[tuple[str, ObjectInfo]], tally: Tally) -> _Wanted:
    wanted = _Wanted()
    for name, info in objects:
        path = name.removesuffix("/")
        if not name:
            continue  # the marker of ``base`` itself
        if reason := unholdable(path):
            tally.skipped[name] = reason
        elif path == name:
            wanted.files[name] = info
        elif info.size:
            tally.skipped[name] = "a directory cannot hold bytes"
        else:
            wanted.directories.add(path)
    wanted.directories.update(directories_of([*wanted.files, *wanted.directories]))
    for name in wanted.files.keys() & wanted.directories:
        tally.skipped[name] = "there is a directory of the same name"
        del wanted.files[name]
    return wanted


def _note_unseen(tree: Tree, tally: Tally, is_deleting: bool) -> None:
    """What cannot be read may be anything; a link is in nobody's way unless files are deleted."""
    tally.failed.update((printable(name), reason) for name, reason in tree.failed.items())
    if is_deleting:
        tally.skipped.update((printable(name), reason) for name, reason in tree.skipped.items())


def _missing(local: str, tree: Tree, wanted: _Wanted, tally: Tally) -> list[str]:
    """The names of files that are not there, or hold something else."""

    def look(name: str) -> None:
        info = wanted.files[name]
        asking = question(info.size, info.etag)
        etag_of = cache(partial(transfer.etag_of, partial(reading, local, name)))
        try:
            if asking.answer(etag_of) == info.etag:
                tally.unchanged.append(name)
        except OSError as error:
            tally.fail(name, error)

    alike = [name for name, info in wanted.files.items() if tree.files.get(name) == info.size]
    each(look, alike, HASHING_THREADS)
    done = {*tally.unchanged, *tally.failed}
    return [name for name in wanted.files if name not in done]


def _blocked(
    tree: Tree, wanted: _Wanted, missing: Iterable[str], doomed: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """What will fail for what is in its way: name -> why, in the words of `Folder`."""
    walls = (tree.files.keys() - set(doomed)) | tree.skipped.keys()
    staying = tree.directories - directories_of(doomed)
    full = staying | directories_of([*staying, *tree.skipped])
    for name in missing:
        if name in full:
            yield name, "Is a directory."
    for name in (*missing, *(f"{folder}/" for folder in wanted.bare_directories())):
        for folder in sorted(directories_of([name]) & walls):
            yield name.rstrip("/"), no_directory(folder.rpartition("/")[2]) + "."


class _Run:
    def __init__(
        self,
        store: Store,
        folder: Folder,
        wanted: _Wanted,
        tally: Tally,
        manner: Manner,
        told: Told,
    ) -> None:
        self._store = store
        self._folder = folder
        self._wanted = wanted
        self._tally = tally
        self._say, self._learn = manner.say, manner.arrived
        self._told = told
        self._outage = crowd.Outage()

    def run(self, missing: Sequence[str], doomed: Sequence[str]) -> None:
        """Fetch what is missing; remove what is doomed, last unless it is in the way."""
        above = self._wanted.directories
        blocking = {
            name
            for name in doomed
            if name in above or not self._wanted.files.keys().isdisjoint(directories_of([name]))
        }
        self._remove(sorted(blocking))
        for name in sorted(self._wanted.bare_directories()):
            self._make(name)
        small = [name for name in missing if self._wanted.files[name].size <= PART_BYTES]
        crowd.run((errand for name in small for errand in self._errand(name)), self._outage)
        each(self._fetch_large, sorted(set(missing) - set(small)), LARGE_AT_ONCE)
        self._remove(sorted(set(doomed) - blocking))

    def _errand(self, name: str) -> Iterator[crowd.Errand[Fetched]]:
        info = self._wanted.files[name]
        self._say(f"Download: {info.key} -> {name}")
        if not info.size:
            self._write(name, b"", None)
            return
        yield crowd.Errand(
            info.size,
            partial(self._store.get, info.key, 0, info.size, etag=info.etag),
            lambda fetched: self._write(name, fetched.data, fetched.info),
            partial(self._tally.fail, name),
        )

    def _write(self, name: str, data: bytes, info: ObjectInfo | None) -> None:
        try:
            with self._folder.written(name) as file:
                file.write(data)
        except OSError as error:
            self._tally.fail(name, error)
            return
        self._arrived(name, len(data), info)
        self._told(len(data), len(data), name)

    def _fetch_large(self, name: str) -> None:
        if self._outage.error is not None:
            self._tally.fail(name, self._outage.error)
            return
        info = self._wanted.files[name]
        self._say(f"Download: {info.key} -> {name}")
        begun_sec = time.monotonic()
        try:
            with self._folder.written(name) as file:
                tell = partial(self._tell, name)
                version = transfer.download(self._store, info, file, tell)
        except (OSError, QarnotfsError) as error:
            self._outage.feared(error, begun_sec)
            self._tally.fail(name, error)
        else:
            self._outage.over()
            self._arrived(name, info.size, version)

    def _tell(self, name: str, read: int, total: int, _: str) -> None:
        self._told(read, total, name)

    def _arrived(self, name: str, size: int, info: ObjectInfo | None) -> None:
        if info is not None:
            self._learn(name, info)
        self._tally.downloaded.append(name)
        self._tally.moved.append(size)

    def _make(self, name: str) -> None:
        try:
            self._folder.make(name)
        except OSError as error:
            self._tally.fail(name, error)

    def _remove(self, names: Sequence[str]) -> None:
        """Remove files, and the directories that this leaves empty and nobody wants."""
        for name in names:
            self._say(f"Remove: {printable(name)}")
            try:
                self._folder.remove(name)
            except OSError as error:
                self._tally.fail(printable(name), error)
            else:
                self._tally.deleted.append(printable(name))
        for name in sorted(directories_of(names) - self._wanted.directories, reverse=True):
            self._folder.prune(name)
