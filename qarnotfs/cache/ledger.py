"""Who has to go when the cache is full. Pure.

Used by `disk`, which gathers the entries and carries out the answer. Never does I/O and
never looks at a clock.

The order: first what nobody has validated for longer than the TTL (its reader would have
to ask the bucket anyway), then what was used least recently. Only as much is freed as
is needed: the last victim, when it is large, loses blocks and not its existence. So an
object larger than the whole cache streams through it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

# A large victim keeps the rest of its blocks when the rest is at least this much. No
# origin but taste: below it the hole and the map cost more thought than they save.
REMNANT_BYTES_MIN = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached version: its file name, what it takes on disk, and when it mattered last."""

    name: str
    bytes: int
    last_use_sec: float
    validated_at_sec: float


@dataclass(frozen=True, slots=True)
class Victim:
    """``bytes`` of an entry must go; ``whole``: the entry goes with them."""

    name: str
    bytes: int
    whole: bool


def victims(
    entries: Iterable[Entry],
    *,
    bytes_max: int,
    now_sec: float,
    ttl_sec: float | None = None,
    pinned: Collection[str] = (),
) -> list[Victim]:
    """What must go, in order, so that all entries together take at most ``bytes_max``.

    ``pinned`` names are never chosen, even when that leaves too much. ``ttl_sec`` None:
    nothing is ever too long unvalidated.
    """
    known = list(entries)
    excess = sum(entry.bytes for entry in known) - bytes_max
    chosen: list[Victim] = []
    for entry in sorted(known, key=lambda entry: _rank(entry, now_sec, ttl_sec)):
        if excess <= 0:
            break
        if entry.name in pinned or entry.bytes <= 0:
            continue
        whole = entry.bytes - excess < REMNANT_BYTES_MIN
        chosen.append(Victim(entry.name, entry.bytes if whole else excess, whole))
        excess -= chosen[-1].bytes
    return chosen


def _rank(entry: Entry, now_sec: float, ttl_sec: float | None) -> tuple[bool, float]:
    expired = ttl_sec is not None and entry.validated_at_sec + ttl_sec < now_sec
    return (not expired, entry.last_use_sec)


def holes(present: Iterable[int], position: int | None, count: int) -> list[range]:
    """Which ``count`` of the ``present`` blocks of one entry go, as runs to punch.

    ``position`` is the block that was read last. What lies behind it goes first, the oldest
    part of the stream before the newest; then what lies farthest ahead. Where nobody knows
    the position, the beginning goes first.
    """
    numbers = sorted(present)
    behind = [n for n in numbers if position is None or n < position]
    ahead = numbers[len(behind) :]
    return _runs(sorted((behind + ahead[::-1])[:count]))


def _runs(numbers: Iterable[int]) -> list[range]:
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
