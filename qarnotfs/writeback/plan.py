"""How a changed file becomes requests: one PUT, or parts that are sent or copied.

Used by `staging` (where each byte of a file comes from) and `uploader`. Pure: it decides
about numbers and never sees a byte.

A file in the making is a stack of three layers. On top the dirty extents, in the
staged file; below them the first ``base_limit`` bytes of the base version in the bucket
(less than its size after a truncation); below that zeros, for holes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from qarnotfs.store.base import PART_BYTES_MAX, PART_COUNT_MAX
from qarnotfs.writeback.extents import Extents

SINGLE_BYTES_MAX = 16 << 20  # one PUT up to here: a multipart costs three requests more
PART_BYTES = 8 << 20  # large enough to be cheap, small enough that 16 in flight fit memory
COPY_BYTES_MAX = 256 << 20  # a server copies a part in one request: keep it short of timeouts
PART_COUNT_AIM = 9_000  # below the limit of 10,000: part sizes are rounded
BACKOFF_SEC_MAX = 60.0


class Source(Enum):
    """Where bytes of a file in the making come from."""

    DATA = "data"
    BASE = "base"
    HOLE = "hole"


@dataclass(frozen=True, slots=True)
class Layers:
    """The three layers of one file: its dirty extents, ``base_limit`` and ``size`` in bytes."""

    extents: Extents
    base_limit: int
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``[start, end)`` of a multipart upload; ``copied`` on the server from the base."""

    start: int
    end: int
    copied: bool


def segments(layers: Layers, start: int, end: int) -> Iterator[tuple[Source, int, int]]:
    """Cut ``[start, min(end, size))`` by where its bytes come from, in order."""
    end = min(end, layers.size)
    at = start
    for low, high in [*layers.extents.within(start, end), (end, end)]:
        base_end = max(at, min(low, layers.base_limit))
        if at < base_end:
            yield Source.BASE, at, base_end
        if base_end < low:
            yield Source.HOLE, base_end, low
        if low < high:
            yield Source.DATA, low, high
        at = high


def parts(layers: Layers) -> list[Part] | None:
    """The parts of a multipart upload, or ``None`` for a single PUT.

    The file is cut by a grid; a cell of unchanged base is copied on the server, and
    neighbouring copied cells become one part. All parts but the last are at least 8 MiB.
    """
    if layers.size <= SINGLE_BYTES_MAX:
        return None
    cell = cell_bytes(layers.size)
    found: list[Part] = []
    for start in range(0, layers.size, cell):
        end = min(start + cell, layers.size)
        copied = end <= layers.base_limit and not any(layers.extents.within(start, end))
        last = found[-1] if found else None
        if copied and last and last.copied and end - last.start <= max(cell, COPY_BYTES_MAX):
            found[-1] = Part(last.start, end, copied=True)
        else:
            found.append(Part(start, end, copied))
    return found


def cell_bytes(size: int) -> int:
    """The part size for a file: 8 MiB, or as many whole MiB as keep it under 10,000 parts."""
    needed = -(-size // PART_COUNT_AIM)
    cell = max(PART_BYTES, -(-needed // (1 << 20)) << 20)
    assert cell <= PART_BYTES_MAX
    assert -(-size // cell) <= PART_COUNT_MAX
    return cell


def backoff_sec(attempts: int, chance: float) -> float:
    """How long to wait after the N-th failure in a row: doubling from 0.5 s, full jitter.

    ``chance`` is a random number in [0, 1). At least a tenth, so that nothing spins.
    """
    ceiling = min(BACKOFF_SEC_MAX, 0.5 * 2.0 ** min(attempts, 16))
    return ceiling * (0.1 + 0.9 * chance)
