"""Figures of several clients beside each other: medians, and how many times faster we are."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.results import Took

NOTHING = "-"


class Seconds(NamedTuple):
    """The median of some runs, or, when one was stopped, the least it can be."""

    sec: float
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else '> '}{significant(self.sec)}"


def seconds(runs: Sequence[Took]) -> Seconds | None:
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


def text(found: Seconds | None) -> str:
    return NOTHING if found is None else str(found)


def middle(figures: Sequence[float | None], decimals: int) -> str:
    """The median of those that there are."""
    known = [figure for figure in figures if figure is not None]
    return f"{median(known):.{decimals}f}" if known else NOTHING


def significant(figure: float) -> str:
    """Three digits that say something, or all of a larger number; 0.1 ms is the finest."""
    for decimals, least in ((0, 100), (1, 10), (2, 1), (3, 0.1)):
        if figure >= least:
            return f"{figure:.{decimals}f}"
    return f"{figure:.4f}"
