"""Whose attributes are asked for before a program looks at them. Pure.

Used by `finder`, for programs that look at one file after the other and read none, as ``ls -l``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

from qarnotfs.index.listing import Listing, parent_of

AHEAD = 256  # files whose attributes are fetched when one is wanted: what 40 ms are worth
AHEAD_FIRST = 4  # when the first one is: its program may be about to read them instead
END = "\U0010ffff"  # behind every key


class Foresight:
    """How far the files are foreseen in the directory that was looked at last, and behind it."""

    def __init__(self) -> None:
        self._count = AHEAD_FIRST  # more with each look at a file that nobody reads
        self._number = 0  # of the listing
        self._first = self._last = ""  # in it: these two and all between them
        self._middle = END  # from here on in its directory, which may be another one, more are

    def read(self) -> None:
        """A program reads a file: then attributes come with the bytes."""
        self._count = AHEAD_FIRST

    def is_far(self, key: str) -> bool:
        """Whether a program that does not read has seen half of what is foreseen."""
        if self._count == AHEAD_FIRST or key < self._middle:
            return False
        return parent_of(key) == parent_of(self._middle)

    def wanted(
        self, listing: Listing, key: str, onward: Iterable[Listing], *, comes: bool
    ) -> list[str]:
        """A program looks at ``key``: who else is to be asked for now.

        ``onward``: the directories to which it comes then. ``comes``: to this one from one before.
        """
        is_far = self.is_far(key)
        if self._number != listing.number or not self._first <= key <= self._last:
            here_and_there = key < self._first if self._number == listing.number else not comes
            if here_and_there and not is_far and key != _first(listing):
                self._count = AHEAD_FIRST
            self._number, self._first, self._last = listing.number, key, key
        elif not is_far:
            return []
        count, self._count = self._count, min(4 * self._count, AHEAD)
        here = list(islice(listing.after(self._last), count))
        if here:
            self._last, _ = here[-1]
        behind = islice(chain.from_iterable(onward), count - len(here))
        names = [name for name, info in chain(here, behind) if info]
        self._middle = names[len(names) // 2] if names else END
        return names


def _first(listing: Listing) -> str | None:
    entries = islice(listing.after(listing.prefix), AHEAD)
    return next((name for name, info in entries if info), None)
