"""What we set out to reach, and whether the figures do. Nothing in here measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

from bench.compared import NOTHING, Seconds, ratio, seconds, text
from bench.peers import AWSCRT, OURS, PASSTHROUGH, RCLONE, S3FS
from bench.results import DURABLE, RETURNED, Row, Rows

BETTER_OF = (S3FS, RCLONE)
ANY = ""  # a row that has but one measure
RSS_MIB_MAX = 300
CPU_MS_MAX = 0.5
STAT_MS_MAX = 5
PASSTHROUGH_LEAST = 0.8


class Goal(NamedTuple):
    """So many times as fast as the better of the two, in every row of these families."""

    least: float
    families: tuple[str, ...]
    rtts_ms: tuple[float, ...]  # none: at every distance
    measures: tuple[str, ...]


SMALL = ("create", "rsync first", "rsync elsewhere", "rm -rf", "read back", "small cold")
LISTED = ("ls", "ls -l", "find", "finds")
GOALS = (
    Goal(10, (*SMALL, "ls -lR cold", "change"), (20,), (ANY, DURABLE)),
    Goal(1, ("read remounted", "read again", "read 4 again"), (), (ANY,)),
    Goal(1, ("small remounted", "small again"), (), (ANY,)),
    Goal(
        2, tuple(f"{name} {when}" for name in LISTED for when in ("cold", "again")), (20,), (ANY,)
    ),
    Goal(1, (*SMALL, "ls -lR cold", "change"), (0,), (ANY, RETURNED)),
    Goal(2, ("rename", "first byte", "random cold"), (), (ANY, DURABLE)),
    Goal(1.2, ("write", "write 4", "read cold", "read 4 cold"), (), (ANY, DURABLE)),
)
BARE = ("read remounted", "read again")  # beside a pass-through
REQUESTS = ("create", "read back", "small cold", "rm -rf", "rsync first")  # one a file or so


class Met(NamedTuple):
    """One line: ``met`` is none when nobody can tell from what was measured.

    ``bare``: what is found of a program that has no file system, or no bucket.
    """

    goal: str
    row: str
    rtt_ms: float
    found: str
    met: bool | None
    bare: str = NOTHING


def least(family: str) -> float:
    """By how many times we want to be ahead, wherever we want most."""
    return max((goal.least for goal in GOALS if family in goal.families), default=0)


def all_met(found: Mapping[float, Rows]) -> Iterator[Met]:
    """Every goal in every row that was measured for it."""
    for rtt_ms, rows in found.items():
        for name, row in rows.items():
            for goal in GOALS:
                if _concerns(goal, rtt_ms, row):
                    yield _ahead(goal, name, rtt_ms, row)
            if row.family in BARE:
                yield _near_bare(name, rtt_ms, row)
            if row.family in REQUESTS and row.measure in {ANY, DURABLE}:
                yield _frugal(name, rtt_ms, row)
            if row.family == "stat":
                yield _prompt(name, rtt_ms, row)
    yield from _small_in_memory(found)


def _concerns(goal: Goal, rtt_ms: float, row: Row) -> bool:
    near = not goal.rtts_ms or rtt_ms in goal.rtts_ms
    return near and row.family in goal.families and row.measure in goal.measures


def _ahead(goal: Goal, name: str, rtt_ms: float, row: Row) -> Met:
    ours = seconds(row.clients.get(OURS, ()))
    theirs = {peer: seconds(row.clients.get(peer, ())) for peer in BETTER_OF}
    told = f"at least {goal.least:g}x the better of {' and '.join(BETTER_OF)}"
    times = [each for each in (ratio(sec, ours) for sec in theirs.values()) if each]
    if not times:
        failed = OURS in row.clients and (ours is None or not ours.exact)
        return Met(told, name, rtt_ms, NOTHING, False if failed else None)
    worst = _worst(times)
    bare = _bare(row, theirs.values())
    if worst.sec >= goal.least:
        # Of a peer that failed there is nothing to be ahead of.
        return Met(told, name, rtt_ms, f"{worst}x", True, bare)
    return Met(told, name, rtt_ms, f"{worst}x", False if worst.exact else None, bare)


def _worst(times: Iterable[Seconds]) -> Seconds:
    return min(times, key=lambda each: (each.sec, not each.exact))


def _bare(row: Row, theirs: Iterable[Seconds | None]) -> str:
    """How far ahead the slower of the limits is that do the same."""
    is_again = row.family.endswith(("again", "remounted"))
    limits = (PASSTHROUGH,) if is_again else (AWSCRT, PASSTHROUGH)
    known = {name: seconds(row.clients.get(name, ())) for name in limits}
    found = [(sec.sec, name, sec) for name, sec in known.items() if sec]
    if not found:
        return NOTHING
    _, name, slowest = max(found)
    times = [each for each in (ratio(sec, slowest) for sec in theirs) if each]
    return f"{name} {_worst(times)}x" if times else NOTHING


def _near_bare(name: str, rtt_ms: float, row: Row) -> Met:
    told = f"at least {PASSTHROUGH_LEAST:g} of a bare pass-through's speed"
    bare = seconds(row.clients.get(PASSTHROUGH, ()))
    part = ratio(bare, seconds(row.clients.get(OURS, ())))
    met = part.sec >= PASSTHROUGH_LEAST if part else None
    return Met(told, name, rtt_ms, text(part), met)


def _frugal(name: str, rtt_ms: float, row: Row) -> Met:
    told = f"client's CPU at most {CPU_MS_MAX:g} ms per request, or file where they are more"
    each_ms = _each_ms(row, OURS)
    if each_ms is None:
        return Met(told, name, rtt_ms, NOTHING, None)
    bare_ms = _each_ms(row, AWSCRT)
    bare = NOTHING if bare_ms is None else f"{AWSCRT} {bare_ms:.2f} ms"
    return Met(told, name, rtt_ms, f"{each_ms:.2f} ms", each_ms <= CPU_MS_MAX, bare)


def _each_ms(row: Row, client: str) -> float | None:
    found = [
        took.cpu_sec / max(row.amount, took.requests or 0) * 1000
        for took in row.clients.get(client, ())
        if took.cpu_sec is not None
    ]
    return median(found) if found else None


def _prompt(name: str, rtt_ms: float, row: Row) -> Met:
    told = f"below {STAT_MS_MAX} ms"
    took = seconds(row.clients.get(OURS, ()))
    if took is None:
        return Met(told, name, rtt_ms, NOTHING, None)
    return Met(told, name, rtt_ms, f"{took.sec * 1000:.1f} ms", took.sec * 1000 < STAT_MS_MAX)


def _small_in_memory(found: Mapping[float, Rows]) -> Iterator[Met]:
    """The row in which we took the most memory stands for all of them."""
    peaks = [
        (took.peak_mib, name, rtt_ms)
        for rtt_ms, rows in found.items()
        for name, row in rows.items()
        for took in row.clients.get(OURS, ())
        if took.peak_mib is not None
    ]
    if peaks:
        most, name, rtt_ms = max(peaks)
        told = f"peak RSS below {RSS_MIB_MAX} MiB in every row; the most:"
        yield Met(told, name, rtt_ms, f"{most:.0f} MiB", most < RSS_MIB_MAX)
