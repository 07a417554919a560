"""The cache directory: which versions have blocks on disk, and who makes room for whom.

Used by `reader`, and by whoever uploads: `Disk.adopt` makes a sent file the cache entry of
its version. Every method may be called from any thread, and none raises because of what
the disk does or holds: a failure means less cache. It never talks to the store.

    <directory>/ab/abcd...data    the bytes of one version, with holes
    <directory>/ab/abcd...map     which blocks are there, and their checksums: see `blockmap`;
                                  of a version of one block that is an attribute of its data
    <directory>/lock              held by the one process that is making room

Several processes use one directory. Each has its own opinion of how much is in it, and
looks again (`shelves.survey`) at the start, before it makes room, and now and then. A file
that another process deleted stays readable to those who have it open.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from qarnotfs.cache import ledger
from qarnotfs.cache.blockmap import Identity, identify
from qarnotfs.cache.blocks import BLOCK_BYTES, Span, block_span
from qarnotfs.cache.entry import BadBlocks, Entry, base_path, pieces, punch
from qarnotfs.cache.opened import Opened
from qarnotfs.cache.pins import Pins
from qarnotfs.cache.recent import Recent
from qarnotfs.cache.shelves import survey
from qarnotfs.cache.space import Space
from qarnotfs.checksums import CRC32C, Checksum
from qarnotfs.store.base import ObjectInfo

log = logging.getLogger(__name__)

MEMORY_BYTES_MAX = 32 << 20


class Disk:
    """Blocks of object versions on disk. Sizes in bytes, times in seconds since 1970.

    ``cache_bytes_max`` 0: nothing is kept on disk. ``scope`` names the bucket and its server,
    so that others in the same directory are told apart. ``ttl_sec``: what was not validated
    for longer is evicted first. ``checksum``: 32 bits; entries made with another are not seen.
    """

    def __init__(
        self,
        directory: Path,
        cache_bytes_max: int,
        *,
        scope: str = "",
        ttl_sec: float | None = None,
        checksum: Checksum = CRC32C,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory, self.cache_bytes_max = directory, cache_bytes_max
        self.ttl_sec = ttl_sec
        self.pins = Pins.of(directory)
        self.corrupt = 0  # blocks whose checksum was wrong, since the start
        self.evicted_bytes = 0
        self._space = Space(directory, cache_bytes_max, clock)
        self._checksum = checksum
        self._clock = clock
        self._recent = Recent(memory_bytes_max)
        self._identify = lru_cache(4096)(partial(identify, scope, checksum.name))
        self._opened = Opened(directory, checksum, clock)
        self._lock = threading.Lock()  # for the figures above

    # --- what the reader asks -----------------------------------------------------------------

    def read(self, info: ObjectInfo, offset: int, size: int, *, wait: bool = True) -> bytes | None:
        """Bytes ``[offset, offset + size)`` of that version, if all are here and verified.

        ``size`` > 0, within the object. With ``wait`` false, `BlockingIOError` instead of
        waiting for the disk: to be called again from a thread.
        """
        wanted = Span(offset, size)
        blocks = wanted.blocks
        span = block_span(blocks, info.size)
        name = self._identity(info).name
        data = self._recent.get(name, blocks.start) if len(blocks) == 1 else None
        if data is None:
            data = self._read_blocks(info, blocks, wait=wait)
            if data is None:
                return None
            if wanted != span:  # the rest of the last block is asked for next
                last = blocks[-1] * BLOCK_BYTES - span.start
                self._recent.put(name, blocks[-1], data[last : last + BLOCK_BYTES])
        if wanted.end == span.end:
            self._recent.spend(name, blocks[-1])
        start = offset - span.start
        return data if wanted == span else data[start : start + size]

    def block(self, info: ObjectInfo, number: int) -> bytes | None:
        """One whole block of that version, if it is here and verified."""
        return self.read(info, *block_span(range(number, number + 1), info.size))

    def present(self, info: ObjectInfo, blocks: range) -> set[int]:
        """Those of ``blocks`` that seem to be here. Not verified: good for reading ahead."""
        if not blocks:
            return set()
        found = self._recent.present(self._identity(info).name, blocks)
        return found | self._on_disk(info, blocks)

    def keeps(self, info: ObjectInfo) -> bool:
        """Whether all of that version is on disk."""
        blocks = Span(0, info.size).blocks
        return len(self._on_disk(info, blocks)) == len(blocks)

    def _on_disk(self, info: ObjectInfo, blocks: range) -> set[int]:
        if (entry := self._entry(info)) is not None:
            with suppress(OSError):
                return entry.present(blocks)
        return set()

    def bytes_cached(self, info: ObjectInfo) -> int:
        """How much of a version is here, in whole blocks; the last one may be shorter."""
        blocks = Span(0, info.size).blocks
        return sum(block_span(range(n, n + 1), info.size).size for n in self.present(info, blocks))

    def quick(self, info: ObjectInfo, size: int) -> bool:
        """Whether `store` would only write: no files to be made, no room to be made first.

        Making a file takes as long as writing half a megabyte, or far longer.
        """
        if not self._space.usable:
            return True
        if self._is_new(info):
            return False
        return not self._crowded(self._space.footprint(size, info.size, new=False))

    def store(self, info: ObjectInfo, start: int, data: bytes) -> None:
        """Keep whole blocks of that version from byte ``start`` on; in memory where disk fails."""
        if not self._store(info, start, data):
            name, first = self._identity(info).name, start // BLOCK_BYTES
            for number, piece in enumerate(pieces(data), first):
                self._recent.put(name, number, bytes(piece))

    @property
    def ahead_bytes_max(self) -> int:
        """How much one stream may fetch ahead of its reader without pushing out its own bytes."""
        space = self._space
        return (space.bytes_max if space.usable else self._recent.bytes_max) // 4

    # --- what the owner of beliefs and the uploader say ---------------------------------------

    def validated(self, info: ObjectInfo, at_sec: float) -> None:
        """That version was seen to be the current one at ``at_sec``."""
        if (entry := self._entry(info)) is not None and at_sec > entry.validated_at_sec:
            entry.validated_at_sec = at_sec
            entry.times_written_sec = 0.0  # to be written down at the next chance

    def adopt(self, info: ObjectInfo, path: Path, *, wait: bool = True) -> None:
        """Make the complete local file ``path`` the cache entry of that version, by hard link.

        The file must not change while this runs, and its bytes are never changed from here.
        More than half the cache is not adopted. With ``wait`` false, `BlockingIOError` instead of
        reading more than a block or making room first: to be called again from a thread.
        """
        size = self._space.footprint(info.size, info.size, new=True)
        if not (0 < info.size <= self._space.bytes_max // 2 and self._space.usable):
            return
        if not wait and (info.size > BLOCK_BYTES or self._crowded(size)):
            raise BlockingIOError(errno.EAGAIN, "the disk has to be waited for")
        if not self._take(size):
            return
        adopted = False
        try:
            adopted = self._opened.adopt(self._identity(info), info.size, path)
        except OSError as error:
            self._refused(error)
        finally:
            self._space.settle(size, written=adopted)

    def forget(self, info: ObjectInfo) -> None:
        """Drop every block of that version."""
        name = self._identity(info).name
        self._recent.forget(name)
        self._opened.remove(name)

    def entries(self, infos: Iterable[ObjectInfo]) -> Iterator[tuple[str, int]]:
        """(entry, bytes on disk when all of it is there) of each version, as `Pins` keeps it."""
        return ((self._identity(info).name, self._space.whole(info.size)) for info in infos)

    def bytes_used(self) -> int:
        """What the directory takes on disk, as far as this process knows."""
        return self._space.used_bytes

    def close(self) -> None:
        """Write down when things were used last, and close the files. May be used again."""
        self._opened.close()

    # --- room ---------------------------------------------------------------------------------

    def make_room(self, size: int = 0) -> None:
        """Look at what is really there; evict until ``size`` more bytes fit, and some more.

        Takes time: to be called from a thread. One thread of one process does it at a time.
        """
        if not self._space.usable:
            return
        surveys = self._space.surveys
        with self._space.alone() as alone:
            if not alone or (self._space.surveys > surveys and not self._crowded(size)):
                return  # or another thread did it while this one waited
            found = [self._with_own_times(entry) for entry in survey(self.directory, self._clock())]
            used = sum(entry.bytes for entry in found)
            self._space.surveyed(used)
            room = self._space.room_bytes()
            if room < size or room < 0:
                limit = max(0, used + room)
                keep = max(0, limit * 9 // 10 - size) if size <= limit else limit
                if self._evict(found, keep) < size - room:
                    self._space.pause()  # what is there is pinned, or is not ours
        self._opened.close(deleted_only=True)  # or the disk does not get their room back

    def _crowded(self, size: int) -> bool:
        return self._space.in_doubt or self._space.room_bytes() < size

    def _take(self, size: int) -> bool:
        """Take room for ``size`` bytes, made if need be."""
        if not self._space.usable or size > self._space.bytes_max:
            return False
        if not self._space.in_doubt and self._space.take(size):
            return True
        self.make_room(size)
        return self._space.take(size)

    def _evict(self, found: list[ledger.Entry], bytes_max: int) -> int:
        """Evict until ``found`` takes at most ``bytes_max``; the bytes that were freed."""
        pinned = self.pins.names()
        sizes, total = {entry.name: entry.bytes for entry in found}, 0
        for victim in ledger.victims(
            found, bytes_max=bytes_max, now_sec=self._clock(), ttl_sec=self.ttl_sec, pinned=pinned
        ):
            freed = 0 if victim.whole else self._punch(victim)
            if not freed:
                self._opened.remove(victim.name)
                freed = sizes[victim.name]
            self._space.freed(freed)
            total += freed
        self.evicted_bytes += total
        return total

    def _punch(self, victim: ledger.Victim) -> int:
        entry = self._opened.peek(victim.name)
        try:
            position = entry.position if entry else None
            return punch(base_path(self.directory, victim.name), position, victim.bytes)
        except OSError:
            return 0

    def _with_own_times(self, found: ledger.Entry) -> ledger.Entry:
        """The entry with what we know of it and have not written down yet."""
        entry = self._opened.peek(found.name)
        if entry is None:
            return found
        return replace(
            found,
            last_use_sec=max(found.last_use_sec, entry.last_use_sec),
            validated_at_sec=max(found.validated_at_sec, entry.validated_at_sec),
        )

    # --- entries --------------------------------------------------------------------------------

    def _identity(self, info: ObjectInfo) -> Identity:
        return self._identify(info.key, info.etag, info.size)

    def _entry(self, info: ObjectInfo) -> Entry | None:
        """The open entry of a version; ``None`` when it has none that can be used."""
        try:
            if self._space.bytes_max:
                return self._opened.get(self._identity(info), info.size)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.debug("the cache entry of %r cannot be opened: %s", info.key, error.strerror)
        return None

    def _read_blocks(self, info: ObjectInfo, blocks: range, *, wait: bool) -> bytes | None:
        entry = self._entry(info)
        if entry is None:
            return None
        entry.position = blocks.start
        if not wait and not entry.resident(block_span(blocks, info.size)):
            raise BlockingIOError(errno.EAGAIN, "the disk has to be waited for")
        try:
            return entry.read(blocks)
        except BadBlocks as error:
            log.warning("%d damaged blocks of %r are fetched again", error.count, info.key)
            with self._lock:
                self.corrupt += error.count
        except OSError as error:
            log.debug("the cache entry of %r cannot be read: %s", info.key, error.strerror)
        return None

    def _is_new(self, info: ObjectInfo) -> bool:
        """Whether no entry of the version is open, so that its files may have to be made."""
        return self._opened.peek(self._identity(info).name) is None

    def _store(self, info: ObjectInfo, start: int, data: bytes) -> bool:
        """Keep blocks on disk; whether they are there now."""
        size = self._space.footprint(len(data), info.size, new=self._is_new(info))
        if not self._take(size):
            return False
        written = False
        try:
            self._writable(info).write(start, data)
            written = True
        except OSError as error:
            self._refused(error)
        finally:
            self._space.settle(size, written=written)
        return written

    def _writable(self, info: ObjectInfo) -> Entry:
        """The entry of a version, whose data file is nobody else's."""
        identity = self._identity(info)
        entry = self._opened.get(identity, info.size, create=True)
        if entry.shared:  # adopted, and its other name is still in use
            self._opened.remove(entry.name)
            entry = self._opened.get(identity, info.size, create=True)
        return entry

    def _refused(self, error: OSError) -> None:
        """The disk would not take a write: leave it alone for a while."""
        if error.errno != errno.ENOENT:  # that is a directory deleted under our hands
            log.warning("nothing is kept in the cache for a while: %s", error.strerror)
            self._space.pause()
