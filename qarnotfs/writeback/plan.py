"""How a changed file becomes requests: one PUT, or parts that are sent or copied.

Used by `staging` (where each byte of a file comes from), by `sending` and `streaming`, and by
`Bucket`, which cuts its files by the same grid. Pure: it decides about numbers and names and
never sees a byte.

A file in the making is a stack of three layers. On top the dirty extents, in the
staged file; below them the first ``base_limit`` bytes of the base version in the bucket
(less than its size after a truncation); below that zeros, for holes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum

from qarnotfs.store.base import PART_COUNT_MAX
from qarnotfs.writeback.extents import Extents

PART_BYTES = 8 << 20  # the SDK's: a file's etag depends on it, and on etags its synchronisation
BACKOFF_SEC_MAX = 60.0
LULL_SEC = 0.03  # programs that close file after file get the processor first,
BURST_DELAYS = 2  # but no longer than so many delays more. What costs processor time, as
BURST_SEC = 5.0  # deletions do not, waits for as long as this, or for
BURST_DELAYS_MAX = 50  # so many delays, where they are short: 0 is meant to be at once. Then it
BURST_SENDS = 2  # is sent so many at once, so that little is taken from the programs, and what
BURST_TIMES = 4  # has waited so many times as long again at once, whatever it takes. A pause may
SEND_SEC = 0.005  # be our own doing: the longer it is the more is sent, one more after so long
TEMPORARY = re.compile(
    r"\..+\.[A-Za-z0-9]{6}"  # rsync, mkstemp with a hidden name
    r"|.*\.(part|partial|filepart|crdownload|download|tmp|temp|swp|swx|aria2)"
    r"|.*~|#.*#|\.nfs[0-9a-f]+|~\$.*"
    r"|.*\.lock|tmp_(obj|pack|idx|rev|bitmap)_[A-Za-z0-9]{6}|sed[A-Za-z0-9]{6}"  # git, sed -i
)


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


def part_bytes(size: int) -> int:
    """The part size for a file: 8 MiB, doubled until there are no more than 10,000 parts.

    As boto3 does it, and so the Qarnot SDK: the same bytes have the same etag everywhere.
    """
    cell = PART_BYTES
    while size > cell * PART_COUNT_MAX:
        cell *= 2
    return cell


def parts(layers: Layers) -> list[Part] | None:
    """The parts of a multipart upload, or ``None`` for a single PUT (below 8 MiB).

    Every cell of the grid is one part; one of unchanged base is copied on the server. Copied
    neighbours are not joined: the etag would be another, and a copy costs no bytes.
    """
    if layers.size < PART_BYTES:
        return None
    cell = part_bytes(layers.size)
    return [
        _part(layers, start, min(start + cell, layers.size))
        for start in range(0, layers.size, cell)
    ]


def _part(layers: Layers, start: int, end: int) -> Part:
    copied = end <= layers.base_limit and not any(layers.extents.within(start, end))
    return Part(start, end, copied)


def full_cells(extents: Extents, cell: int, end: int) -> Iterator[int]:
    """The cells (from 0) that end at or before ``end`` and were written wholly, in order."""
    for low, high in extents:
        yield from range(-(-low // cell), min(high, end) // cell)


def is_temporary(key: str) -> bool:
    """Whether a program surely renames or deletes a file of this name: rsync, git, editors.

    What would be sent of it early would be sent for nothing.
    """
    return TEMPORARY.fullmatch(key.rpartition("/")[2]) is not None


class Haste(IntEnum):
    """What a debt waits for while programs close file after file: see `Agenda`."""

    CROWDED = -1
    NONE = 0
    DELETION = 1
    URGENT = 2


class Agenda:
    """Which debts are due now, and when the next one is: for one look through all of them.

    The last one was incurred at ``incurred_sec``.
    """

    def __init__(self, now_sec: float, incurred_sec: float, delay_sec: float) -> None:
        self._lull_sec = incurred_sec + LULL_SEC
        short_sec, full_sec = BURST_DELAYS * delay_sec, min(BURST_SEC, BURST_DELAYS_MAX * delay_sec)
        long_sec = max(short_sec, full_sec)
        self._bursts_sec = {
            Haste.CROWDED: long_sec + BURST_TIMES * full_sec,
            Haste.NONE: long_sec,
            Haste.DELETION: short_sec,
            Haste.URGENT: 0.0,
        }
        lull_sec = now_sec - self._lull_sec
        self._sends_max, self._more_sec = BURST_SENDS, self._lull_sec
        self._since_sec = {haste: now_sec - sec for haste, sec in self._bursts_sec.items()}
        if lull_sec >= 0:
            self._sends_max += int(lull_sec / SEND_SEC)
            self._more_sec = now_sec + SEND_SEC
            self._since_sec |= dict.fromkeys((Haste.NONE, Haste.DELETION), now_sec)
        self._later_sec = dict.fromkeys(Haste, float("inf"))

    def is_due(self, not_before_sec: float, haste: Haste, sending: int) -> bool:
        """Whether this is paid now, while ``sending`` others are."""
        if haste is Haste.NONE and sending >= self._sends_max:
            haste = Haste.CROWDED
        if not_before_sec <= self._since_sec[haste]:
            return True
        self._later_sec[haste] = min(not_before_sec, self._later_sec[haste])
        return False

    def next_sec(self) -> float:
        """When the first of those is due that are not yet, if nothing more is incurred."""
        ends_sec = dict.fromkeys(Haste, self._lull_sec) | {Haste.CROWDED: self._more_sec}
        return min(
            max(sec, min(sec + self._bursts_sec[haste], ends_sec[haste]))
            for haste, sec in self._later_sec.items()
        )


def backoff_sec(attempts: int, chance: float) -> float:
    """How long to wait after the N-th failure in a row: doubling from 0.5 s, full jitter.

    ``chance`` is a random number in [0, 1). At least a tenth, so that nothing spins.
    """
    ceiling = min(BACKOFF_SEC_MAX, 0.5 * 2.0 ** min(attempts, 16))
    return ceiling * (0.1 + 0.9 * chance)
