"""Which listed objects may be no regular files, and when they are taken for such. Pure.

Used by `finder` for what `readdir` shows. A listing does not tell the type of an object, and
a HEAD of each is what `find` and `ls` must not cost. So a few are looked at: the smallest, for
a symbolic link is as long as its target, and some here and there. Links, FIFOs and sockets
are stored by programs that keep modes, and these keep them of every file. Where the objects that
were looked at have none, the others are taken for regular files, until somebody looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from zlib import crc32

from qarnotfs.store.base import ObjectInfo

LINK_BYTES_MAX = 4095  # PATH_MAX - 1: a larger object cannot be a symbolic link, nor is it empty
SMALLEST = 3  # of a page: these may be links
SPREAD = 4  # of a page: these tell what stores files here
LOOKS_MAX = 32  # at one directory, of however many pages
RARE_SHARE = 8  # at most one of so many keeps a mode: it was stored by another program


class Kinds:
    """What is known of the objects of one directory while it is read; ``looks`` are left."""

    def __init__(self) -> None:
        self.looks = LOOKS_MAX
        self._seen_count = self._modes_count = 0

    def suspects(self, infos: Sequence[ObjectInfo]) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
        """(smallest, spread): the objects of a page to look at, the same ones each time."""
        small = [info for info in infos if info.size <= LINK_BYTES_MAX]
        spread = nsmallest(min(SPREAD, self.looks), small, key=_spread)
        keys = {info.key for info in spread}
        rest = (info for info in small if info.size and info.key not in keys)
        smallest = nsmallest(min(SMALLEST, self.looks - len(spread)), rest, key=_size)
        self.looks -= len(spread) + len(smallest)
        return smallest, spread

    def learn(self, spread: Iterable[ObjectInfo]) -> None:
        """Those that are spread, with their metadata."""
        for info in spread:
            if info.metadata is not None:
                self._seen_count += 1
                self._modes_count += "mode" in info.metadata

    @property
    def guesses(self) -> bool:
        """Whether those nobody looked at are taken for regular files."""
        return 0 < self._seen_count >= RARE_SHARE * self._modes_count


def is_certain(info: ObjectInfo) -> bool:
    """Whether it is known what an object is: its mode, or that it can only be regular."""
    return info.metadata is not None or info.size > LINK_BYTES_MAX


def _spread(info: ObjectInfo) -> int:
    """A place in an order that has nothing to do with names."""
    return crc32(info.key.encode())


def _size(info: ObjectInfo) -> tuple[int, int]:
    return info.size, _spread(info)
