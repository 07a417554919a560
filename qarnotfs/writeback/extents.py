"""Byte ranges of a file that were written: sorted, disjoint, merged.

Used by `staging` (what a staged file holds) and `plan`. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Extents:
    """A set of byte positions, kept as ranges ``[start, end)``.

    Invariant: ``starts`` and ``ends`` have equal length and
    ``starts[i] < ends[i] < starts[i + 1]`` (touching ranges are one). ``total``: how many
    bytes the ranges hold.
    """

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``; an empty range changes nothing."""
        if start >= end:
            return
        if self._ends and self._ends[-1] == start:  # appending: by far the commonest
            self._ends[-1] = end
            self.total += end - start
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self.total += end - start - sum(self._ends[first:last]) + sum(self._starts[first:last])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def cut(self, size: int) -> None:
        """Forget everything at or beyond ``size``."""
        keep = bisect_left(self._starts, size)
        self.total -= sum(self._ends[keep:]) - sum(self._starts[keep:])
        del self._starts[keep:], self._ends[keep:]
        if self._ends and self._ends[-1] > size:
            self.total -= self._ends[-1] - size
            self._ends[-1] = size

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of the ranges that lie in ``[start, end)``, in order."""
        at = bisect_right(self._ends, start)
        while at < len(self._starts) and self._starts[at] < end:
            yield max(start, self._starts[at]), min(end, self._ends[at])
            at += 1

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of ``[start, end)`` that are in no range, in order."""
        for low, high in self.within(start, end):
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end

    def copy(self) -> Extents:
        twin = Extents()
        twin._starts, twin._ends = list(self._starts), list(self._ends)
        twin.total = self.total
        return twin

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and list(self) == list(other)

    def __hash__(self) -> int:
        raise TypeError("Extents change and cannot be hashed")

    def __repr__(self) -> str:
        return f"Extents({list(self)})"
