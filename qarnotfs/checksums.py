"""The checksums of 32 bits that are kept on disk, by the names they have there.

Used by `cache` for its blocks and by `writeback` for staged files. CRC-32C is done by the
processor, in the library that carries the requests anyway: 5 to 12 us for 256 KiB, where
zlib's CRC-32 takes 60 to 140.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

from awscrt import checksums


class Of(Protocol):
    """``of(data)``, or ``of(data, before)`` of what follows bytes whose checksum is ``before``."""

    def __call__(self, data: bytes | memoryview, before: int = 0, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum and its name."""

    name: str
    of: Of


def _crc32c(data: bytes | memoryview, before: int = 0) -> int:
    return int(checksums.crc32c(data, before))


CRC32 = Checksum("crc32", zlib.crc32)  # of the first journals
CRC32C = Checksum("crc32c", _crc32c)
CHECKSUMS = {one.name: one for one in (CRC32, CRC32C)}
