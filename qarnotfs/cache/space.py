"""How much a cache directory takes on disk, and how much more it may.

Used by `disk`. Keeps figures and the directory's lock; deletes nothing. The figures are an
opinion between two surveys: other processes add and remove too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qarnotfs.cache.blockmap import HEADER_BYTES, RECORD
from qarnotfs.cache.blocks import BLOCK_BYTES, Span

log = logging.getLogger(__name__)

DISK_BLOCK_BYTES = 4096
PAUSE_SEC = 30.0  # a disk that refused a write, or has no room, is left alone so long
PATIENCE_SEC = 2.0  # with another process that makes room
POLL_SEC = 0.02
RESERVE_BYTES = 256 << 20  # left free on the disk, where files wait for their upload too,
RESERVE_SHARE = 20  # or a twentieth of a small one
DOUBT_SHARE = 8  # having added an eighth of the limit, look what the others did
MAP_BYTES_MIN = HEADER_BYTES + RECORD.size


class Space:
    """The room of one directory, of which ``bytes_max`` may be used. Safe in threads."""

    def __init__(self, directory: Path, bytes_max: int, clock: Callable[[], float]) -> None:
        self.directory = directory
        self.bytes_max = bytes_max
        self._clock = clock
        self._block_bytes = DISK_BLOCK_BYTES  # until the directory is there
        self._lock = threading.Lock()
        self._making_room = threading.Lock()
        self._used_bytes = 0  # as of the last survey, and what we did since
        self._added_bytes = 0  # since the last survey
        self._taken_bytes = 0  # by those who are writing at the moment
        self.surveys = 0  # how often somebody looked
        self._paused_until_sec = 0.0

    def footprint(self, size: int, of_bytes: int, *, new: bool) -> int:
        """What keeping ``size`` of ``of_bytes`` bytes takes of the disk, which gives whole blocks.

        ``new``: of a version of which nothing is kept yet. If it has more than one block, it needs
        a map file, too.
        """
        mapped = new and of_bytes > BLOCK_BYTES
        return self._in_blocks(size) + (self._in_blocks(MAP_BYTES_MIN) if mapped else 0)

    def whole(self, size: int) -> int:
        """What a version of ``size`` bytes takes of the disk when all of it is kept."""
        blocks = len(Span(0, size).blocks)
        map_bytes = HEADER_BYTES + RECORD.size * blocks if blocks > 1 else 0
        return self._in_blocks(size) + self._in_blocks(map_bytes)

    def _in_blocks(self, size: int) -> int:
        return -(-size // self._block_bytes) * self._block_bytes

    @property
    def used_bytes(self) -> int:
        return max(0, self._used_bytes)

    @property
    def usable(self) -> bool:
        """Whether anything is to be kept on disk at the moment."""
        return self.bytes_max > 0 and self._clock() >= self._paused_until_sec

    @property
    def in_doubt(self) -> bool:
        """Whether it is time to look again."""
        return not self.surveys or self._added_bytes > self.bytes_max // DOUBT_SHARE

    def room_bytes(self) -> int:
        """What may still be taken without breaking the limit or filling the disk; also < 0."""
        room = self.bytes_max - self._used_bytes - self._taken_bytes
        with suppress(OSError):
            disk = os.statvfs(self.directory)
            self._block_bytes = disk.f_frsize
            reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // RESERVE_SHARE)
            room = min(room, disk.f_bavail * disk.f_frsize - reserve - self._taken_bytes)
        return room

    def surveyed(self, used_bytes: int) -> None:
        with self._lock:
            self._used_bytes, self._added_bytes = used_bytes, 0
            self.surveys += 1

    def take(self, size: int) -> bool:
        """Take room before writing, if there is enough; `settle` is called when that is over."""
        with self._lock:
            if not self.usable or self.room_bytes() < size:
                return False
            self._taken_bytes += size
            return True

    def settle(self, size: int, *, written: bool) -> None:
        with self._lock:
            self._taken_bytes -= size
            if written:
                self._used_bytes += size
                self._added_bytes += size

    def freed(self, size: int) -> None:
        with self._lock:
            self._used_bytes -= size

    def pause(self) -> None:
        """Keep nothing on disk for a while."""
        self._paused_until_sec = self._clock() + PAUSE_SEC

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Be the only one, of all threads and processes, who makes room in the directory.

        False: nothing is kept on disk for a while, because another process does it and does not
        end; it may be stopped. Where there can be no lock it goes on without: two who evict free
        too much, at worst.
        """
        with self._making_room:
            fd = -1
            try:
                with suppress(OSError):
                    self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                    path = self.directory / "lock"
                    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    self._lock_out_others(fd)
                yield self.usable
            finally:
                if fd >= 0:
                    os.close(fd)

    def _lock_out_others(self, fd: int) -> None:
        """Wait for other processes, but not for ever: reads wait for us."""
        give_up_sec = time.monotonic() + PATIENCE_SEC
        while self.usable:
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up_sec:
                    log.warning("nothing is kept in the cache for a while: others make room in it")
                    self.pause()
            time.sleep(POLL_SEC)  # between two tries, until the deadline
