"""Listings of directories, made of keys that were listed without any. Pure.

Used by `index`: one LIST of a thousand keys teaches every directory they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qarnotfs.index.listing import Listing, parent_of
from qarnotfs.store.base import ObjectInfo


class Flat:
    """Takes every key below ``prefix`` in byte order; gives directories when they are whole."""

    def __init__(self, prefix: str, make: Callable[[str], Listing]) -> None:
        self._prefix, self._make = prefix, make
        # The directories that the last key lies in, outermost first. What is above the prefix
        # is never whole: others of its names were not listed.
        self._open = [make(parent_of(prefix))]

    def add(self, info: ObjectInfo) -> Iterator[Listing]:
        """The next key; the directories that end before it. To be used up."""
        while not info.key.startswith(self._open[-1].prefix):
            yield self._open.pop()
        while (at := info.key.find("/", len(self._open[-1].prefix))) >= 0:
            name = info.key[: at + 1]
            self._open[-1].put(name, None)
            self._open.append(self._make(name))
        self._open[-1].put(info.key, info)

    def end(self) -> Iterator[Listing]:
        """There is no further key: the directories that are left."""
        outermost = self._open[0]
        while len(self._open) > 1:
            yield self._open.pop()
        if outermost.prefix == self._prefix:
            yield outermost
