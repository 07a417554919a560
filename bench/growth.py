"""How time, memory and requests grow with the number of keys and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from bench.compared import NOTHING, middle, significant
from bench.peers import OURS
from bench.results import DURABLE, Row, Rows, Took

# Families that come in several sizes: what the size counts, and how far S3 lets it go.
KEYS_FAR, MIB_FAR = 10**9, 5 << 20
GROWING = {
    "ls -l cold": ("keys", KEYS_FAR),
    "find cold": ("keys", KEYS_FAR),
    "write": ("MiB", MIB_FAR),
    "read cold": ("MiB", MIB_FAR),
}


class Point(NamedTuple):
    """Medians at one size."""

    amount: int
    sec: float
    peak_mib: float | None
    requests: float | None


def points(rows: Rows, family: str, client: str) -> list[Point]:
    """From the smallest size to the largest; sizes at which it failed or was stopped left out."""
    found = [
        point(row.amount, row.clients[client])
        for row in rows.values()
        if row.family == family and row.measure in {"", DURABLE} and _ended(row, client)
    ]
    return sorted(found)


def _ended(row: Row, client: str) -> bool:
    runs = row.clients.get(client, ())
    return bool(runs) and all(run.ended for run in runs)


def point(amount: int, runs: Sequence[Took]) -> Point:
    peaks = [run.peak_mib for run in runs if run.peak_mib is not None]
    counts = [run.requests for run in runs if run.requests is not None]
    sec = median(run.wall_sec for run in runs)
    return Point(amount, sec, median(peaks) if peaks else None, median(counts) if counts else None)


def at(found: list[Point], amount: int) -> float | None:
    """Seconds at a size beyond, as the two largest ones go on; none from fewer than two."""
    if len(found) < 2:
        return None
    less, more = found[-2:]
    each_sec = (more.sec - less.sec) / (more.amount - less.amount)
    return more.sec + each_sec * (amount - more.amount)


def growth(found: Mapping[float, Rows]) -> str:
    return "\n".join(_table(found)) + "\n\n" + WHY


def _table(found: Mapping[float, Rows]) -> Iterator[str]:
    yield "| ours | ms | sizes | seconds | peak RSS MiB | requests | if it goes on like this |"
    yield "|---|---:|---|---|---|---|---|"
    for rtt_ms, rows in found.items():
        for family, (unit, far) in GROWING.items():
            if len(known := points(rows, family, OURS)) > 1:
                sizes = ", ".join(str(each.amount) for each in known)
                secs = ", ".join(significant(each.sec) for each in known)
                peaks = ", ".join(middle([each.peak_mib], 0) for each in known)
                counts = ", ".join(middle([each.requests], 0) for each in known)
                then = _hours(at(known, far), f"{far:,} {unit}")
                cells = f"{sizes} {unit} | {secs} | {peaks} | {counts} | {then}"
                yield f"| {family} | {rtt_ms:g} | {cells} |"


def _hours(sec: float | None, amount: str) -> str:
    return NOTHING if sec is None or sec <= 0 else f"{amount}: {sec / 3600:,.1f} h"


WHY = """The last column draws a straight line through the two largest sizes: an estimate, not a
measurement. S3 lists a thousand keys a request, and the request for the next page needs the last
one's answer: a billion keys in one directory are a million requests, one after the other, unless
a client guesses names to begin at. A billion keys in directories cost only the directories that
are looked at. 5 TiB are at most 10,000 parts, as many as S3 allows, each larger than here."""
