"""One cached version on disk: a sparse data file, and a block map beside it.

Used by `disk`. Never decides what is kept, and never trusts what it finds: a byte leaves
`Entry.read` only when its block's checksum is right. Anything else raises `OSError` or is
absent; `disk` turns both into "fetch it".

The map is a header of 4096 bytes and, for each block, a record of 8: checksum and a mark.
A record is written after its data and cleared before it, so after a crash a block is
absent, right, or caught by its checksum. No lock is needed between processes: whoever
writes a block of a version writes the same bytes as everybody else.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qarnotfs.cache.blocks import BLOCK_BYTES, Span, block_span
from qarnotfs.cache.ledger import holes

FORMAT_VERSION = 1
MAGIC = b"qarnotfs blocks\0"
HEADER_BYTES = 4096
FIXED = struct.Struct("<16sIIQ")  # magic, format version, block size, object size
TIMES = struct.Struct("<QQ")  # last use, last validation; seconds since 1970
TEXT_AT = FIXED.size + TIMES.size
RECORD = struct.Struct("<II")  # checksum, mark
PRESENT = 0x4B4C4251  # "QBLK": more than a bit, so that garbage is seldom taken for a block

# From 2 MiB on, Linux keeps what is written in huge pages, which a virtual machine may have to get
# from its host first: ten times the CPU, measured.
WRITE_BYTES_MAX = 1 << 20

FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 2


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum of 32 bits and the name it has in the block map."""

    name: str
    of: Callable[[memoryview], int]


CRC32 = Checksum("crc32", zlib.crc32)


class Identity(NamedTuple):
    """Which version a pair of files is for: their name, and what their header must say."""

    name: str
    fixed: bytes
    text: bytes


def identify(scope: str, checksum: str, key: str, etag: str, size: int) -> Identity:
    """The identity of one version. ``scope`` says which bucket of which server it is in.

    The name is a hash of everything, so the text may be cut where it does not fit.
    """
    parts = [part.encode("utf-8", "surrogatepass") for part in (checksum, scope, etag, key)]
    text = b"\0".join(parts)
    fixed = FIXED.pack(MAGIC, FORMAT_VERSION, BLOCK_BYTES, size)
    name = hashlib.sha256(b"%d\0%s" % (size, text)).hexdigest()[:40]
    return Identity(name, fixed, text[: HEADER_BYTES - TEXT_AT])


def base_path(directory: Path, name: str) -> str:
    """Where both files of an entry are, without their suffix."""
    return f"{directory}/{name[:2]}/{name}"


class BadMap(OSError):
    """A map file that is garbage, of an old format, or of another version."""


class BadBlocks(OSError):
    """``count`` blocks had the wrong checksum. They are forgotten."""

    def __init__(self, count: int) -> None:
        super().__init__(errno.EIO, "wrong checksum")
        self.count = count


class Entry:
    """The two open files of one version. Safe in threads and processes: it keeps no blocks.

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
        self._map_fd = self._data_fd = -1

    def __del__(self) -> None:
        for fd in (self._map_fd, self._data_fd):
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
        self._map_fd = os.open(base + ".map", flags, 0o600)
        header = os.pread(self._map_fd, HEADER_BYTES, 0)
        if not header and create:
            header = _header(identity, now_sec)
            _pwrite(self._map_fd, header, 0)
        if not header:  # somebody is making it at this moment, or died doing so
            raise FileNotFoundError(errno.ENOENT, "empty block map")
        if header[: FIXED.size] != identity.fixed or header[TEXT_AT:] != _text(identity):
            raise BadMap(errno.EINVAL, "not the block map of this version")
        self._data_fd = os.open(base + ".data", flags, 0o600)
        self.last_use_sec, self.validated_at_sec = read_times(header, now_sec)
        self.times_written_sec = self.last_use_sec

    # --- state ------------------------------------------------------------------------------

    @property
    def linked(self) -> bool:
        """Whether the files are still in the directory: nobody evicted or replaced them."""
        return os.fstat(self._map_fd).st_nlink > 0

    @property
    def shared(self) -> bool:
        """Whether the data file is also somebody else's, who must not see it change."""
        return os.fstat(self._data_fd).st_nlink > 1

    def save_times(self, now_sec: float) -> None:
        """Write down the times; another process may have written later ones."""
        header = os.pread(self._map_fd, TEXT_AT, 0)
        last_use, validated_at = read_times(header, now_sec)
        latest = TIMES.pack(
            int(max(last_use, self.last_use_sec)), int(max(validated_at, self.validated_at_sec))
        )
        if header[FIXED.size :] != latest:
            _pwrite(self._map_fd, latest, FIXED.size)
        self.times_written_sec = self.last_use_sec

    # --- blocks -----------------------------------------------------------------------------

    def present(self, blocks: range) -> set[int]:
        """Those of ``blocks`` that are said to be there; only `read` finds out."""
        marks = self._records(blocks)[1::2]
        return {number for number, mark in zip(blocks, marks, strict=True) if mark == PRESENT}

    def read(self, blocks: range) -> bytes | None:
        """The bytes of consecutive ``blocks``, verified; ``None`` when one of them is not there.

        `BadBlocks` when some turned out to be damaged.
        """
        records = self._records(blocks)
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
        _pwrite(self._data_fd, data, start)
        _pwrite(self._map_fd, records, _record_at(start // BLOCK_BYTES))

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

    def _records(self, blocks: range) -> tuple[int, ...]:
        """Checksum and mark of each block, one after the other; zeros where there is none."""
        size = RECORD.size * len(blocks)
        raw = os.pread(self._map_fd, size, _record_at(blocks.start)).ljust(size, b"\0")
        return struct.unpack(f"<{2 * len(blocks)}I", raw)

    def _data(self, span: Span) -> bytes:
        try:
            return os.pread(self._data_fd, span.size, span.start)
        except OSError:
            return b""  # a sector that cannot be read is as wrong as one that lies

    def _disown(self, number: int, checksum: int) -> bool:
        """Forget a block; false when its record changed meanwhile: then it was only evicted."""
        if self._records(range(number, number + 1)) != (checksum, PRESENT):
            return False
        _pwrite(self._map_fd, bytes(RECORD.size), _record_at(number))
        return True


# --- whole files ----------------------------------------------------------------------------


def write_map(path: str, identity: Identity, checksum: Checksum, data: str, now_sec: float) -> None:
    """Make the map of a complete data file."""
    with open(data, "rb", buffering=0) as file, open(path, "xb") as target:
        target.write(_header(identity, now_sec))
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
                _pwrite(map_fd, bytes(RECORD.size * len(run)), _record_at(run.start))
                _deallocate(data_fd, run.start * BLOCK_BYTES, len(run) * BLOCK_BYTES)
            return sum(map(len, runs)) * BLOCK_BYTES
        finally:
            os.close(data_fd)
    finally:
        os.close(map_fd)


def read_times(header: bytes, now_sec: float) -> tuple[float, float]:
    """When an entry was used and validated last; a time in the future is garbage: never."""
    last_use, validated_at = TIMES.unpack(header[FIXED.size : TEXT_AT].ljust(TIMES.size, b"\0"))
    return (
        float(last_use) if last_use <= now_sec else 0.0,
        float(validated_at) if validated_at <= now_sec else 0.0,
    )


def is_header(header: bytes) -> bool:
    """Whether it is the header of some entry of this format."""
    ours = FIXED.pack(MAGIC, FORMAT_VERSION, BLOCK_BYTES, 0)[: FIXED.size - 8]
    return len(header) >= TEXT_AT and header.startswith(ours)


def pieces(data: bytes) -> Iterator[memoryview]:
    """The blocks of ``data``, without copying them."""
    view = memoryview(data)
    return (view[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))


def _header(identity: Identity, now_sec: float) -> bytes:
    return identity.fixed + TIMES.pack(int(now_sec), int(now_sec)) + _text(identity)


def _text(identity: Identity) -> bytes:
    return identity.text.ljust(HEADER_BYTES - TEXT_AT, b"\0")


def _record_at(number: int) -> int:
    return HEADER_BYTES + RECORD.size * number


def _all_present(map_fd: int) -> Iterator[int]:
    at, chunk_bytes = HEADER_BYTES, 1 << 16
    while chunk := os.pread(map_fd, chunk_bytes, at):
        first = (at - HEADER_BYTES) // RECORD.size
        usable = len(chunk) // RECORD.size * RECORD.size
        marks = struct.unpack(f"<{usable // 4}I", chunk[:usable])[1::2]
        yield from (first + i for i, mark in enumerate(marks) if mark == PRESENT)
        at += len(chunk)


def _pwrite(fd: int, data: bytes, at: int) -> None:
    """Write all of it; a disk that fills up takes a part and then raises."""
    done = 0
    while done < len(data):
        taken = os.pwrite(fd, memoryview(data)[done : done + WRITE_BYTES_MAX], at + done)
        if not taken:
            raise OSError(errno.EIO, "the disk took nothing")
        done += taken


def _deallocate(fd: int, start: int, size: int) -> None:
    """Make a hole. Python has no function for it; the C library has."""
    library = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(library, "fallocate64", None) or library.fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, start, size):
        raise OSError(ctypes.get_errno(), "a hole cannot be punched")
