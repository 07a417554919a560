"""What `bench.reading` found, as a page: medians, and how many times faster we are.

Used by `bench.reading`. It only counts and writes; nothing in here measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

OURS = "qarnotfs"
LIMIT = "pass-through"
NOTHING = "-"
GOAL = 0.8  # of what a bare pass-through reads, where all is on the local disk


class Run(NamedTuple):
    """One measurement, and what the client spent on it.

    ``ended``: false when it was stopped after ``wall_sec``, which is then the least it takes.
    """

    wall_sec: float
    cpu_sec: float
    peak_mib: float
    requests: int
    ended: bool = True


# By client, in the order of the turns; without those that failed.
Row = Mapping[str, Sequence[Run]]


class Seconds(NamedTuple):
    """The median of some runs, or, when one was stopped, the least it can be."""

    sec: float
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else '> '}{significant(self.sec)}"


def seconds(runs: Sequence[Run]) -> Seconds | None:
    """Of several runs; none when all failed."""
    if stopped := [run.wall_sec for run in runs if not run.ended]:
        return Seconds(max(stopped), exact=False)
    return Seconds(median(run.wall_sec for run in runs), exact=True) if runs else None


def ratio(theirs: Seconds | None, ours: Seconds | None) -> Seconds | None:
    """How many times as long they take; none when that is unknown."""
    if theirs is None or ours is None or not ours.exact:
        return None
    return Seconds(theirs.sec / ours.sec, theirs.exact)


def verdict(ratios: Sequence[Seconds | None], ours: Seconds | None) -> str:
    """Whether we are ahead of every peer that did it at all."""
    known = [times for times in ratios if times is not None]
    if ours is None or not ours.exact:
        return "**no**"
    if any(times.exact and times.sec <= 1 for times in known):
        return "**no**"
    if not known or any(times.sec <= 1 for times in known):
        return NOTHING
    return "yes" if len(known) == len(ratios) else "yes, of those that did it"


# --- tables -----------------------------------------------------------------------------------


def table(rows: Mapping[str, Row], peers: Sequence[str]) -> Iterator[str]:
    """A line for each row; in a cell with several figures, ours is the first."""
    everybody = ", ".join((OURS, *peers))
    others = [f"{peer} / ours" for peer in peers]
    heads = [
        "row",
        "turns",
        f"seconds: {everybody}",
        *others,
        "requests",
        "client's CPU s",
        "peak RSS MiB",
        f"ahead of {'both' if len(peers) == 2 else 'all'}?",
    ]
    yield line(heads)
    yield line(["---", "---:", "---", *["---:"] * len(peers), "---", "---", "---", "---"])
    for name, row in rows.items():
        yield line([name, *cells(row, peers)])


def cells(row: Row, peers: Sequence[str]) -> Iterator[str]:
    """One row, but for its name."""
    everybody = [row.get(client, ()) for client in (OURS, *peers)]
    ours = seconds(everybody[0])
    ratios = [ratio(seconds(runs), ours) for runs in everybody[1:]]
    yield str(len(everybody[0]))
    yield ", ".join(text(seconds(runs)) for runs in everybody)
    yield from (NOTHING if times is None else f"**{times}**" for times in ratios)
    yield ", ".join(middle([run.requests for run in runs], 0) for runs in everybody)
    ended = [[run for run in runs if run.ended] for runs in everybody]
    yield ", ".join(middle([run.cpu_sec for run in runs], 2) for runs in ended)
    yield ", ".join(middle([run.peak_mib for run in runs], 0) for runs in ended)
    yield verdict(ratios, ours)


def goal(row: Row) -> str:
    """How near a read from the local cache comes to what FUSE and Python allow at all."""
    ours, bare = seconds(row.get(OURS, ())), seconds(row.get(LIMIT, ()))
    fraction = ratio(bare, ours)
    if fraction is None:
        return f"{text(ours)} s, bare pass-through {text(bare)} s: no fraction."
    met = "met" if fraction.sec >= GOAL else "**not met**"
    return (
        f"{ours} s, bare pass-through {bare} s: **{fraction.sec:.2f}** of its speed; "
        f"the goal of {GOAL:g} is {met}."
    )


def line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entries)} |"


def text(found: Seconds | None) -> str:
    return NOTHING if found is None else str(found)


def middle(figures: Sequence[float], decimals: int) -> str:
    return f"{median(figures):.{decimals}f}" if figures else NOTHING


def significant(figure: float) -> str:
    """Three digits that say something, or all of a larger number; 0.1 ms is the finest."""
    for decimals, least in ((0, 100), (1, 10), (2, 1), (3, 0.1)):
        if figure >= least:
            return f"{figure:.{decimals}f}"
    return f"{figure:.4f}"
