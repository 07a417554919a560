"""Which blocks of a version are in its data file: in a file beside it, or an attribute of it.

Used by `entry`. The map is what names the version, when it was used and validated last, and
for each block a record of 8 bytes: checksum and a mark.

A version of one block has its map in the extended attribute ``user.qarnotfs`` of its data
file, if the file system has such: a small file is then one inode and not two, and making an
inode costs more than all else that is done for it (ten times more where many were deleted
lately, since ext4 looks at each of those first). All others, and every version where there
are no attributes, have a map file: a header of 4096 bytes, then the records.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from contextlib import suppress
from typing import NamedTuple

from qarnotfs.cache.blocks import BLOCK_BYTES

FORMAT_VERSION = 1
MAGIC = b"qarnotfs blocks\0"
HEADER_BYTES = 4096
FIXED = struct.Struct("<16sIIQ")  # magic, format version, block size, object size
TIMES = struct.Struct("<QQ")  # last use, last validation; seconds since 1970
TEXT_AT = FIXED.size + TIMES.size
RECORD = struct.Struct("<II")  # checksum, mark
PRESENT = 0x4B4C4251  # "QBLK": more than a bit, so that garbage is seldom taken for a block

ATTRIBUTE = "user.qarnotfs"
ATTRIBUTE_MAGIC = b"qfsb"  # and the 12 bytes of the version's hash that are not its name
ABSENT = bytes(RECORD.size)
ATTRIBUTE_BYTES = TEXT_AT + RECORD.size  # with its name 88: what fits into an inode of ext4

# From 2 MiB on, Linux keeps what is written in huge pages, which a virtual machine may have to get
# from its host first: ten times the CPU, measured.
WRITE_BYTES_MAX = 1 << 20


class BadMap(OSError):
    """A map that is garbage, of an old format, or of another version."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "not the block map of this version")


class Identity(NamedTuple):
    """Which version an entry is for: its name, and what its map must say.

    ``fixed`` and ``text`` begin and end the header of a map file, ``short`` begins an attribute.
    """

    name: str
    fixed: bytes
    text: bytes
    short: bytes


def identify(scope: str, checksum: str, key: str, etag: str, size: int) -> Identity:
    """The identity of one version. ``scope`` says which bucket of which server it is in.

    The name is a hash of everything, so the text may be cut where it does not fit.
    """
    parts = [part.encode("utf-8", "surrogatepass") for part in (checksum, scope, etag, key)]
    text = b"\0".join(parts)
    digest = hashlib.sha256(b"%d\0%s" % (size, text)).digest()
    fixed = FIXED.pack(MAGIC, FORMAT_VERSION, BLOCK_BYTES, size)
    short = FIXED.pack(ATTRIBUTE_MAGIC + digest[20:], FORMAT_VERSION, BLOCK_BYTES, size)
    return Identity(digest[:20].hex(), fixed, text[: HEADER_BYTES - TEXT_AT], short)


class BlockMap:
    """The map of one open entry. No lock is needed: whoever writes a record writes the same.

    ``fd`` is the map file's, or the data file's.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def header(self) -> bytes:
        """What says which version it is of, and when that was used and validated last."""
        return os.pread(self.fd, TEXT_AT, 0)

    def put_times(self, times: bytes) -> None:
        pwrite(self.fd, times, FIXED.size)

    def records(self, blocks: range) -> tuple[int, ...]:
        """Checksum and mark of each block, one after the other; zeros where there is none."""
        size = RECORD.size * len(blocks)
        raw = os.pread(self.fd, size, record_at(blocks.start)).ljust(size, b"\0")
        return struct.unpack(f"<{2 * len(blocks)}I", raw)

    def put_records(self, first: int, records: bytes) -> None:
        pwrite(self.fd, records, record_at(first))


class AttributeMap(BlockMap):
    """The map of a version of one block, as an attribute of its data file.

    Another process may write it at the same moment. What it loses then is a time, or a
    record of the one block, which is fetched again.
    """

    def header(self) -> bytes:
        return self._value()[:TEXT_AT]

    def put_times(self, times: bytes) -> None:
        value = self._value()
        self._put(value[: FIXED.size] + times + value[TEXT_AT:])

    def records(self, blocks: range) -> tuple[int, ...]:
        return RECORD.unpack(self._value()[TEXT_AT:])

    def put_records(self, first: int, records: bytes) -> None:
        self._put(self._value()[:TEXT_AT] + records)

    def _value(self) -> bytes:
        return read_attribute(self.fd).ljust(ATTRIBUTE_BYTES, b"\0")

    def _put(self, value: bytes) -> None:
        os.setxattr(self.fd, ATTRIBUTE, value)


# --- opening and making -------------------------------------------------------------------------


def open_attribute(data_fd: int, identity: Identity, now_sec: float, flags: int) -> BlockMap | None:
    """The map of a version of one block; ``None``: it may have a map file. `BadMap`.

    With ``O_CREAT`` in ``flags`` it is made where there is none and there can be one.
    """
    value = read_attribute(data_fd)
    if value and not (len(value) == ATTRIBUTE_BYTES and value.startswith(identity.short)):
        raise BadMap
    made = not value and flags & os.O_CREAT and put_attribute(data_fd, identity, now_sec)
    return AttributeMap(data_fd) if value or made else None


def open_file(path: str, identity: Identity, now_sec: float, flags: int) -> BlockMap:
    """A map file; with ``O_CREAT`` in ``flags`` made where there is none.

    `FileNotFoundError` where there is none, `BadMap`, or another `OSError`.
    """
    fd = os.open(path, flags, 0o600)
    try:
        header = os.pread(fd, HEADER_BYTES, 0)
        if not header and flags & os.O_CREAT:
            header = file_header(identity, now_sec)
            pwrite(fd, header, 0)
        if not header:  # somebody is making it at this moment, or died doing so
            raise FileNotFoundError(errno.ENOENT, "empty block map")
        if header[: FIXED.size] != identity.fixed or header[TEXT_AT:] != _text(identity):
            raise BadMap
    except BaseException:
        os.close(fd)
        raise
    return BlockMap(fd)


def put_attribute(
    data: int | str, identity: Identity, now_sec: float, record: bytes = ABSENT
) -> bool:
    """Make the map of a version of one block; false where files have no such attributes."""
    with suppress(OSError):
        os.setxattr(data, ATTRIBUTE, identity.short + _times(now_sec) + record)
        return True
    return False


def file_header(identity: Identity, now_sec: float) -> bytes:
    """What a map file begins with."""
    return identity.fixed + _times(now_sec) + _text(identity)


def _times(now_sec: float) -> bytes:
    return TIMES.pack(int(now_sec), int(now_sec))


def _text(identity: Identity) -> bytes:
    return identity.text.ljust(HEADER_BYTES - TEXT_AT, b"\0")


# --- what is on disk ----------------------------------------------------------------------------


def read_attribute(data: int | str) -> bytes:
    """The map that is an attribute of a data file; nothing where there is none."""
    try:
        return os.getxattr(data, ATTRIBUTE)
    except OSError:
        return b""


def read_times(header: bytes, now_sec: float) -> tuple[float, float]:
    """When a version was used and validated last; a time in the future is garbage: never."""
    last_use, validated_at = TIMES.unpack(times_in(header))
    return (
        float(last_use) if last_use <= now_sec else 0.0,
        float(validated_at) if validated_at <= now_sec else 0.0,
    )


def times_in(header: bytes) -> bytes:
    """The times, as they are written down."""
    return header[FIXED.size : TEXT_AT].ljust(TIMES.size, b"\0")


def is_header(header: bytes) -> bool:
    """Whether it is how the map file of some version begins, in this format."""
    ours = FIXED.pack(MAGIC, FORMAT_VERSION, BLOCK_BYTES, 0)[: FIXED.size - 8]
    return len(header) >= TEXT_AT and header.startswith(ours)


def is_attribute(value: bytes) -> bool:
    """Whether it is the attribute of some version, in this format."""
    magic, *form, _ = FIXED.unpack(value[: FIXED.size].ljust(FIXED.size, b"\0"))
    return (
        len(value) == ATTRIBUTE_BYTES
        and magic.startswith(ATTRIBUTE_MAGIC)
        and form == [FORMAT_VERSION, BLOCK_BYTES]
    )


def record_at(number: int) -> int:
    """Where the record of a block is in a map file."""
    return HEADER_BYTES + RECORD.size * number


def pwrite(fd: int, data: bytes, at: int) -> None:
    """Write all of it; a disk that fills up takes a part and then raises."""
    done = 0
    while done < len(data):
        taken = os.pwrite(fd, memoryview(data)[done : done + WRITE_BYTES_MAX], at + done)
        if not taken:
            raise OSError(errno.EIO, "the disk took nothing")
        done += taken
