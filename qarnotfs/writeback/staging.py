"""Staged files: the bytes programs wrote and the bucket does not have yet.

Used by `core.content` (writing, reading back) and `uploader` (sending). Each `Staged` is
one sparse file holding the dirty extents of one file over an optional base version.
It never talks to the bucket: base bytes come through the `ReadBase` it is handed.

While *sealed* a staged file does not change, and may be read from other threads.
Whoever needs it pins it; the last one to unpin deletes it from the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from qarnotfs.checksums import CHECKSUMS, CRC32C, Checksum
from qarnotfs.errors import Corrupt, FileError, NoSpace
from qarnotfs.store.base import ObjectInfo
from qarnotfs.writeback.extents import Extents
from qarnotfs.writeback.plan import Layers, Source, segments

ReadBase = Callable[[ObjectInfo, int, int], Awaitable[bytes]]
"""``read(version, offset, size)`` -> exactly those bytes of that version, or `Stale`."""

Watcher = Callable[[int, int], None]
"""``changed(start, end)``: these bytes of the file are others now."""

CHUNK_BYTES = 1 << 20
INLINE_BYTES_MAX = 256 << 10  # read and checksummed on the loop: less than a thread costs


@dataclass(frozen=True, slots=True)
class Seal:
    """What a staged file held when it was sealed: enough to find out that it changed."""

    size: int
    base_limit: int
    extents: tuple[tuple[int, int], ...]
    crc: int
    checksum: str = CRC32C.name


class Staged:
    """One file in the making. Offsets and sizes in bytes.

    Files of one *lineage*, its kin, began as one: each is another with more changes. Only of these
    may one take the place of what the other builds upon.
    """

    def __init__(self, path: Path, base: ObjectInfo | None, lineage: str = "") -> None:
        self.path = path
        self.base = base
        self.lineage, self.has_kin = lineage or path.name, bool(lineage)
        self.base_limit = base.size if base else 0
        self.size = self.base_limit
        self.extents = Extents()
        self.sealed = False
        self.shared = False  # two debts send it, or one and the cache has it: never written again
        self.pins = 1
        self.sends = 0  # debts that are being paid with it: it must not change
        self.gone: ObjectInfo | None = None  # a base that others replaced: nobody can keep it
        self.verified = False  # since it was sealed: what is on disk is what was accepted
        self.watcher: Watcher | None = None  # the upload that has parts of it
        self._fd: int | None = None
        # CRC-32C of [0, _crc_end), valid while the only extent was written from 0 onwards.
        self._crc = 0
        self._crc_end: int | None = 0

    @property
    def layers(self) -> Layers:
        return Layers(self.extents, self.base_limit, self.size)

    @property
    def whole(self) -> bool:
        """Whether the staged file alone holds every byte (no base, no hole)."""
        return list(self.extents) == ([(0, self.size)] if self.size else [])

    @property
    def sequential(self) -> bool:
        """Whether it was written from the start onwards, so that its checksum is known."""
        return self._crc_end is not None and list(self.extents) == (
            [(0, self._crc_end)] if self._crc_end else []
        )

    # --- writing ------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data`` at ``offset``, or raise `NoSpace` having changed only extents."""
        assert not self.sealed
        done, view = 0, memoryview(data)
        try:
            while done < len(data):
                done += os.pwrite(self._open(), view[done:], offset + done)
        except OSError as error:
            raise _translated(error) from error
        finally:
            self._wrote(offset, view[:done])

    def _wrote(self, offset: int, data: memoryview) -> None:
        if not data:
            return
        end = offset + len(data)
        if self._crc_end == offset:
            self._crc, self._crc_end = CRC32C.of(data, self._crc), end
        else:
            self._crc_end = None
        self.extents.add(offset, end)
        self._changed(min(offset, self.size), end)
        self.size = max(self.size, end)

    def _changed(self, start: int, end: int) -> None:
        if self.watcher is not None:
            self.watcher(start, end)

    def fill(self, offset: int, data: bytes) -> None:
        """Take over bytes of the base, where nothing was written or cut off meanwhile."""
        end = min(offset + len(data), self.base_limit)
        for low, high in list(self.extents.gaps(offset, end)):
            self.write(low, data[low - offset : high - offset])

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with a hole; where that fails it is as it was."""
        assert not self.sealed
        if size < self.size:
            try:
                os.ftruncate(self._open(), size)
            except OSError as error:
                raise _translated(error) from error
            self.base_limit = min(self.base_limit, size)
            self.extents.cut(size)
            if size == 0:
                self._crc, self._crc_end = 0, 0
            elif self._crc_end is not None and self._crc_end > size:
                self._crc_end = None
        self._changed(min(size, self.size), max(size, self.size))
        self.size = size

    # --- sealing ------------------------------------------------------------------------

    def seal(self) -> Seal:
        """Make the file immutable and say what it holds. Reads it when it was not sequential.

        `Corrupt` when it cannot be read; it is as it was then, and may be sealed later.
        """
        if not self.sequential:
            with self._reading():
                self._crc = self._checksum(self.extents)
                self._crc_end = self.size if self.whole else None
        self.sealed = True
        return Seal(self.size, self.base_limit, tuple(self.extents), self._crc)

    def draft(self) -> Seal:
        """What it holds so far, for the record of a file that is still being written."""
        return Seal(self.size, self.base_limit, tuple(self.extents), 0)

    def draft_of(self, size: int) -> Seal:
        """What it will hold once it is truncated to ``size``."""
        extents = self.extents.copy()
        extents.cut(size)
        return Seal(size, min(self.base_limit, size), tuple(extents), 0)

    def unseal(self) -> None:
        """Allow writing again; only when nobody is reading the sealed bytes."""
        self.sealed = self.verified = False

    def restore(self, seal: Seal) -> None:
        """Take over what a journal knows of this file. Call `verify` before believing it."""
        self.size, self.base_limit = seal.size, seal.base_limit
        self.extents, self._crc, self._crc_end = Extents(seal.extents), 0, None
        self.sealed = True

    def verify(self, seal: Seal) -> None:
        """Compare length and checksum with the seal: `Corrupt` where a byte is not as it was."""
        with self._reading():
            wrong = self._checksum(seal.extents, CHECKSUMS[seal.checksum]) != seal.crc
        if wrong:
            raise self._not_as_accepted()
        self.verified = True

    @property
    def small(self) -> bool:
        """Whether it is read, and compared with its seal, in one go: see `checked`."""
        return self.size <= INLINE_BYTES_MAX and self.whole

    def checked(self, seal: Seal) -> bytes:
        """All of a small file, compared as `verify` does."""
        with self._reading():
            data = self.read_apart(0, seal.size)
        if len(data) != seal.size or CHECKSUMS[seal.checksum].of(data) != seal.crc:
            raise self._not_as_accepted()
        self.verified = True
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Corrupt(f"The staged file {self.path} cannot be read: {error}.") from error

    def _not_as_accepted(self) -> Corrupt:
        return Corrupt(f"The staged file {self.path} is not what was accepted from the program.")

    def _checksum(self, extents: Iterable[tuple[int, int]], checksum: Checksum = CRC32C) -> int:
        """Also off the loop, where others may close the descriptor: so it has its own."""
        crc, ranges = 0, list(extents)
        if not ranges:
            return crc
        with self.path.open("rb", buffering=0) as file:
            for start, end in ranges:
                for at in range(start, end, CHUNK_BYTES):
                    size = min(CHUNK_BYTES, end - at)
                    data = os.pread(file.fileno(), size, at)
                    if len(data) != size:
                        raise self._not_as_accepted()
                    crc = checksum.of(data, crc)
        return crc

    # --- reading ------------------------------------------------------------------------

    def read_data(self, start: int, end: int) -> bytes:
        """Bytes of the staged file itself; only dirty extents mean anything."""
        if self._fd is not None:
            return os.pread(self._fd, end - start, start)
        return self.read_apart(start, end)

    def read_apart(self, start: int, end: int) -> bytes:
        """As `read_data`, off the loop, where others may close the descriptor meanwhile."""
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - start, start)

    async def read(self, start: int, size: int, read_base: ReadBase) -> bytes:
        """The file's content in ``[start, start + size)``, cut at its end.

        Base bytes are fetched first; then everything is put together in one synchronous
        stretch, so that a write meanwhile is seen wholly or not at all.
        """
        base = self.base
        fetched: list[tuple[int, bytes]] = []
        for source, low, high in list(segments(self.layers, start, start + size)):
            if source is Source.BASE and base is not None:
                fetched.append((low, await read_base(base, low, high - low)))
        size = max(0, min(size, self.size - start))
        if list(self.extents.within(start, start + size)) == [(start, start + size)]:
            return self.read_data(start, start + size)
        content = bytearray(size)
        for low, data in fetched:
            _lay(content, start, low, data[: max(0, self.base_limit - low)])
        for low, high in self.extents.within(start, start + size):
            _lay(content, start, low, self.read_data(low, high))
        return bytes(content)

    # --- the file on disk -----------------------------------------------------------------

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd

    def close(self) -> None:
        """Give the file descriptor back; it is opened again when needed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def pin(self) -> Staged:
        self.pins += 1
        return self

    @contextmanager
    def pinned(self) -> Iterator[Staged]:
        """The file stays on disk for the length of a block."""
        try:
            yield self.pin()
        finally:
            self.unpin()

    def unpin(self) -> None:
        self.pins -= 1
        if self.pins == 0:
            self.close()
            with suppress(OSError):  # it only takes room: the next life finds and removes it
                self.path.unlink(missing_ok=True)


def _lay(content: bytearray, start: int, at: int, data: bytes) -> None:
    low = max(0, at - start)
    high = min(len(content), at + len(data) - start)
    if low < high:
        content[low:high] = data[low + start - at : high + start - at]


def _translated(error: OSError) -> FileError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("The disk that holds what is not uploaded yet is full.")
    return FileError(f"The staged file cannot be written: {error.strerror}.")


class Staging:
    """The directory of staged files of one journal."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, base: ObjectInfo | None) -> Staged:
        """A new staged file over ``base``; the file appears on disk when it is first written."""
        return Staged(self.directory / uuid4().hex, base)

    def clone(self, staged: Staged) -> Staged:
        """A writable copy of a sealed file, for a program that writes while it is being sent."""
        twin = Staged(self.directory / uuid4().hex, staged.base, staged.lineage)
        staged.has_kin = True
        twin.base_limit, twin.size = staged.base_limit, staged.size
        twin.extents, twin._crc, twin._crc_end = staged.extents.copy(), staged._crc, staged._crc_end
        if staged.path.exists():
            try:
                _copy_extents(staged.path, twin.path, staged.extents)
            except OSError as error:
                twin.unpin()
                raise _translated(error) from error
        return twin

    def recover(
        self, name: str, base: ObjectInfo | None, seal: Seal, lineage: str | None = None
    ) -> Staged:
        """A file of a former life, as its record says; the first ones name no lineage."""
        staged = Staged(self.directory / name, base, lineage or name)
        staged.restore(seal)
        return staged

    def bytes_free(self) -> int:
        return shutil.disk_usage(self.directory).free


def _copy_extents(source: Path, target: Path, extents: Extents) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        for start, end in extents:
            at = start
            while at < end:
                done = os.copy_file_range(reader.fileno(), writer.fileno(), end - at, at, at)
                if not done:
                    raise OSError(errno.EIO, "the staged file is shorter than what was written")
                at += done
