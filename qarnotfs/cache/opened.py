"""The entries of a cache directory that this process has open: a few, used again and again.

Used by `disk`. Opens, makes and deletes entries by the identity of their version; decides
nothing about what is worth keeping.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from qarnotfs.cache.blockmap import BadMap, Identity
from qarnotfs.cache.entry import Entry, base_path, mark_whole, write_map
from qarnotfs.checksums import Checksum

log = logging.getLogger(__name__)

OPEN_ENTRIES_MAX = 64  # two files each; the usual limit of a process is 1024
TIMES_EVERY_SEC = 60.0  # how exactly other processes know when an entry was used last


class Opened:
    """A least-recently-used table of open entries. Safe in threads."""

    def __init__(self, directory: Path, checksum: Checksum, clock: Callable[[], float]) -> None:
        self.directory = directory
        self._checksum = checksum
        self._clock = clock
        self._lock = threading.Lock()  # for the table; never held while doing I/O
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def peek(self, name: str) -> Entry | None:
        """The entry, if it is open; that is no use of it."""
        with self._lock:
            return self._entries.get(name)

    def get(self, identity: Identity, size: int, *, create: bool = False) -> Entry:
        """The entry of a version of ``size`` bytes, opened if need be, and marked as used.

        `FileNotFoundError` where there is none, unless ``create``; or another `OSError`. What
        lies in its place and is no such entry is removed.
        """
        now_sec = self._clock()
        with self._lock:
            entry = self._entries.get(identity.name)
            if entry is not None:
                self._entries.move_to_end(identity.name)
        if entry is None or not entry.linked:
            entry = self._open(identity, size, create, now_sec)
            self._admit(entry)
        entry.last_use_sec = now_sec
        if now_sec - entry.times_written_sec >= TIMES_EVERY_SEC:
            entry.save_times(now_sec)
        return entry

    def adopt(self, identity: Identity, size: int, path: Path) -> bool:
        """Make the file ``path`` the data of a version, whole; whether it could be. `OSError`."""
        base = base_path(self.directory, identity.name)
        if self._adopt_small(identity, size, path, base):
            return True
        new, directory = f"{base}.{uuid4().hex}", os.path.dirname(base)
        new_data, new_map = f"{new}.data.tmp", f"{new}.map.tmp"
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        adopted = False
        try:
            _link_or_copy(path, new_data)
            if os.stat(new_data).st_size != size:
                log.warning("%s is not cached: it has not the size of its object", path)
                return False
            now_sec = self._clock()
            if mark_whole(identity, self._checksum, new_data, size, now_sec):
                os.replace(new_data, base + ".data")
            else:
                write_map(new_map, identity, self._checksum, new_data, now_sec)
                os.replace(new_data, base + ".data")
                os.replace(new_map, base + ".map")
            adopted = True
        finally:
            for leftover in () if adopted else (new_data, new_map):
                with suppress(OSError):
                    os.unlink(leftover)
        return adopted

    def _adopt_small(self, identity: Identity, size: int, path: Path, base: str) -> bool:
        """The same by an attribute and a link alone; false where that cannot be done."""
        try:
            if not mark_whole(identity, self._checksum, str(path), size, self._clock()):
                return False
            os.link(path, base + ".data")
        except OSError:  # also when there is an entry, or no directory for it
            return False
        return True

    def remove(self, name: str) -> None:
        """Delete an entry: first the map, so that nobody takes a hole for data."""
        with self._lock:
            self._entries.pop(name, None)
        base = base_path(self.directory, name)
        for path in (base + ".map", base + ".data"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning("%s cannot be removed from the cache: %s", path, error.strerror)

    def close(self, *, deleted_only: bool = False) -> None:
        """Let go of all entries, or of those that other processes deleted meanwhile."""
        with self._lock:
            entries = list(self._entries.values())
        for entry in entries:
            if not (deleted_only and entry.linked):
                self._shut(entry)

    def _open(self, identity: Identity, size: int, create: bool, now_sec: float) -> Entry:
        how = Entry.create if create else Entry.open
        try:
            return how(self.directory, identity, size, self._checksum, now_sec)
        except BadMap as error:
            log.warning("%s is removed from the cache: %s", identity.name, error.strerror)
            self.remove(identity.name)
            return how(self.directory, identity, size, self._checksum, now_sec)

    def _admit(self, entry: Entry) -> None:
        with self._lock:
            self._entries[entry.name] = entry
            self._entries.move_to_end(entry.name)
            oldest = next(iter(self._entries.values()))
            full = len(self._entries) > OPEN_ENTRIES_MAX
        if full:
            self._shut(oldest)

    def _shut(self, entry: Entry) -> None:
        """Drop an entry; its files close when no other thread is using it any more."""
        with suppress(OSError):
            entry.save_times(self._clock())
        with self._lock:
            if self._entries.get(entry.name) is entry:
                del self._entries[entry.name]


def _link_or_copy(source: Path, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
