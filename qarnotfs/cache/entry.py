"""One cached version on disk: a sparse data file, and a block map beside it.

Used by `disk`. Never decides what is kept, and never trusts what it finds: a byte leaves
`Entry.read` only when its block's checksum is right. Anything else raises `OSError` or is
absent; `disk` turns both into "fetch it".

The map (see `blockmap`) has a record for each block: checksum and a mark. A record is
written after its data and cleared before it, so after a crash a block is absent, right, or
caught by its checksum. No lock is needed between processes: whoever writes a block of a
version writes the same bytes as everybody else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from qarnotfs.cache.blockmap import (
    ABSENT,
    HEADER_BYTES,
    PRESENT,
    RECORD,
    TIMES,
    BlockMap,
    Identity,
    file_header,
    open_attribute,
    open_file,
    put_attribute,
    pwrite,
    read_times,
    record_at,
    times_in,
)
from qarnotfs.cache.blocks import BLOCK_BYTES, Span, block_span
from qarnotfs.cache.ledger import holes
from qarnotfs.checksums import Checksum

FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 2


def base_path(directory: Path, name: str) -> str:
    """Where the files of an entry are, without their suffix."""
    return f"{directory}/{name[:2]}/{name}"


class BadBlocks(OSError):
    """``count`` blocks had the wrong checksum. They are forgotten."""

    def __init__(self, count: int) -> None:
        super().__init__(errno.EIO, "wrong checksum")
        self.count = count


class Entry:
    """The open files of one version. Safe in threads and processes: it keeps no blocks.

    The files are closed when the last one who holds the entry lets go of it, so a thread
    in the middle of a read never finds its file's number given to another file.
    """

    def __init__(self, identity: Identity, size: int, checksum: Checksum) -> None:
        self.name = identity.name
        self.size = size
        self.position: int | None = None  # the block a reader asked for last
        self.last_use_sec = 0.0
        self.validated_at_sec = 0.0
        self.times_written_sec = 0.0
        self._checksum = checksum
        self._data_fd = -1
        self._map = BlockMap(-1)

    def __del__(self) -> None:
        for fd in {self._map.fd, self._data_fd}:
            if fd >= 0:
                os.close(fd)

    @classmethod
    def open(
        cls, directory: Path, identity: Identity, size: int, checksum: Checksum, now_sec: float
    ) -> Entry:
        """The entry as it is on disk; `FileNotFoundError`, `BadMap`, or another `OSError`."""
        entry = cls(identity, size, checksum)
        entry._open(base_path(directory, identity.name), identity, now_sec, 0)
        return entry

    @classmethod
    def create(
        cls, directory: Path, identity: Identity, size: int, checksum: Checksum, now_sec: float
    ) -> Entry:
        """The entry as it is on disk, made where there is none; `BadMap` or another `OSError`."""
        entry = cls(identity, size, checksum)
        base = base_path(directory, identity.name)
        os.makedirs(os.path.dirname(base), mode=0o700, exist_ok=True)
        entry._open(base, identity, now_sec, os.O_CREAT)
        return entry

    def _open(self, base: str, identity: Identity, now_sec: float, create: int) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | create
        if not (self.size <= BLOCK_BYTES and self._open_small(base, identity, now_sec, flags)):
            # The map first: who removes an entry begins with it, which `linked` notices.
            self._map = open_file(base + ".map", identity, now_sec, flags)
            self._data_fd = os.open(base + ".data", flags, 0o600)
        self.last_use_sec, self.validated_at_sec = read_times(self._map.header(), now_sec)
        self.times_written_sec = self.last_use_sec

    def _open_small(self, base: str, identity: Identity, now_sec: float, flags: int) -> bool:
        """Open an entry of one file; false when its map is not there, or another file."""
        self._data_fd = os.open(base + ".data", flags, 0o600)
        found = open_attribute(self._data_fd, identity, now_sec, flags)
        if found is None:
            os.close(self._data_fd)
            self._data_fd = -1
            return False
        self._map = found
        return True

    # --- state ------------------------------------------------------------------------------

    @property
    def linked(self) -> bool:
        """Whether the files are still in the directory: nobody evicted or replaced them.

        Of one file with another name, which has all there is, it is never seen.
        """
        return os.fstat(self._map.fd).st_nlink > 0

    @property
    def shared(self) -> bool:
        """Whether the data file is also somebody else's, who must not see it change."""
        return os.fstat(self._data_fd).st_nlink > 1

    def save_times(self, now_sec: float) -> None:
        """Write down the times; another process may have written later ones."""
        header = self._map.header()
        last_use, validated_at = read_times(header, now_sec)
        latest = TIMES.pack(
            int(max(last_use, self.last_use_sec)), int(max(validated_at, self.validated_at_sec))
        )
        if times_in(header) != latest:
            self._map.put_times(latest)
        self.times_written_sec = self.last_use_sec

    # --- blocks -----------------------------------------------------------------------------

    def present(self, blocks: range) -> set[int]:
        """Those of ``blocks`` that are said to be there; only `read` finds out."""
        marks = self._map.records(blocks)[1::2]
        return {number for number, mark in zip(blocks, marks, strict=True) if mark == PRESENT}

    def read(self, blocks: range) -> bytes | None:
        """The bytes of consecutive ``blocks``, verified; ``None`` when one of them is not there.

        `BadBlocks` when some turned out to be damaged.
        """
        records = self._map.records(blocks)
        if any(mark != PRESENT for mark in records[1::2]):
            return None
        span = block_span(blocks, self.size)
        data = self._data(span)
        wrong = [
            number
            for number, checksum, piece in zip(blocks, records[::2], pieces(data), strict=False)
            if self._checksum.of(piece) != checksum
        ]
        if len(data) != span.size:
            wrong = [*wrong, *range(blocks.start + len(data) // BLOCK_BYTES, blocks.stop)]
        if not wrong:
            return data
        disowned = [n for n in set(wrong) if self._disown(n, records[2 * (n - blocks.start)])]
        if disowned:
            raise BadBlocks(len(disowned))
        return None

    def write(self, start: int, data: bytes) -> None:
        """Keep whole blocks from byte ``start`` on. `OSError`: some may have been kept."""
        records = b"".join(RECORD.pack(self._checksum.of(piece), PRESENT) for piece in pieces(data))
        pwrite(self._data_fd, data, start)
        self._map.put_records(start // BLOCK_BYTES, records)

    def resident(self, span: Span) -> bool:
        """Whether a read is likely not to wait for the disk: its first and last page are here."""
        byte = bytearray(1)
        try:
            os.preadv(self._data_fd, [byte], span.start, os.RWF_NOWAIT)
            os.preadv(self._data_fd, [byte], span.end - 1, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system that cannot tell
        return True

    def _data(self, span: Span) -> bytes:
        try:
            return os.pread(self._data_fd, span.size, span.start)
        except OSError:
            return b""  # a sector that cannot be read is as wrong as one that lies

    def _disown(self, number: int, checksum: int) -> bool:
        """Forget a block; false when its record changed meanwhile: then it was only evicted."""
        if self._map.records(range(number, number + 1)) != (checksum, PRESENT):
            return False
        self._map.put_records(number, ABSENT)
        return True


# --- whole files ----------------------------------------------------------------------------


def mark_whole(
    identity: Identity, checksum: Checksum, path: str, size: int, now_sec: float
) -> bool:
    """Give the complete data file of a version of one block its map. `OSError`.

    False when it has another size, or more blocks, or can have no attribute.
    """
    if size > BLOCK_BYTES:
        return False
    with open(path, "rb", buffering=0) as file:
        data = file.read(size + 1)
    record = RECORD.pack(checksum.of(memoryview(data)), PRESENT)
    return len(data) == size and put_attribute(path, identity, now_sec, record)


def write_map(path: str, identity: Identity, checksum: Checksum, data: str, now_sec: float) -> None:
    """Make the map file of a complete data file."""
    with open(data, "rb", buffering=0) as file, open(path, "xb") as target:
        target.write(file_header(identity, now_sec))
        while block := file.read(BLOCK_BYTES):
            target.write(RECORD.pack(checksum.of(memoryview(block)), PRESENT))


def punch(base: str, position: int | None, size: int) -> int:
    """Give about ``size`` bytes of an entry back to the disk; return how many.

    `OSError` where it cannot be done (also when the data file is somebody else's too): then
    the whole entry must go.
    """
    map_fd = os.open(base + ".map", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        data_fd = os.open(base + ".data", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(data_fd).st_nlink > 1:
                raise OSError(errno.EMLINK, "the data file has other names")
            runs = holes(_all_present(map_fd), position, -(-size // BLOCK_BYTES))
            for run in runs:
                pwrite(map_fd, ABSENT * len(run), record_at(run.start))
                _deallocate(data_fd, run.start * BLOCK_BYTES, len(run) * BLOCK_BYTES)
            return sum(map(len, runs)) * BLOCK_BYTES
        finally:
            os.close(data_fd)
    finally:
        os.close(map_fd)


def pieces(data: bytes) -> Iterator[memoryview]:
    """The blocks of ``data``, without copying them."""
    view = memoryview(data)
    return (view[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))


def _all_present(map_fd: int) -> Iterator[int]:
    at, chunk_bytes = HEADER_BYTES, 1 << 16
    while chunk := os.pread(map_fd, chunk_bytes, at):
        first = (at - HEADER_BYTES) // RECORD.size
        usable = len(chunk) // RECORD.size * RECORD.size
        marks = struct.unpack(f"<{usable // 4}I", chunk[:usable])[1::2]
        yield from (first + i for i, mark in enumerate(marks) if mark == PRESENT)
        at += len(chunk)


def _deallocate(fd: int, start: int, size: int) -> None:
    """Make a hole. Python has no function for it; the C library has."""
    library = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(library, "fallocate64", None) or library.fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, start, size):
        raise OSError(ctypes.get_errno(), "a hole cannot be punched")
