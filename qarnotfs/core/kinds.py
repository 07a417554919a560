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

from qarnotfs.store.base import ObjectInfo

LINK_BYTES_MAX = 4096  # PATH_MAX: a larger object cannot be a symbolic link, nor is it empty
SMALLEST = 4
SPREAD = 4
LOOKS_MAX = 32  # at one directory, of however many pages
RARE_SHARE = 8  # at most one of so many keeps a mode: it was stored by another program


class Kinds:
    """What is known of the objects of one directory while it is read; ``looks`` are left."""

    def __init__(self) -> None:
        self.looks = LOOKS_MAX
        self._known_count = self._modes_count = 0

    def suspects(self, known: int, unknown: Sequence[ObjectInfo]) -> list[ObjectInfo]:
        """The ones of a page to look at, of which ``known`` were looked at some time before."""
        found = nsmallest(SMALLEST, (info for info in unknown if info.size), key=_size)
        keys = {info.key for info in found}
        rest = [info for info in unknown if info.key not in keys]
        found += rest[:: -(-len(rest) // SPREAD) or 1]
        self.looks = max(0, self.looks - known)
        found = found[: min(self.looks, max(0, SMALLEST + SPREAD - known))]
        self.looks -= len(found)
        return found

    def learn(self, infos: Iterable[ObjectInfo]) -> None:
        """Objects whose metadata is known."""
        for info in infos:
            self._known_count += 1
            self._modes_count += "mode" in (info.metadata or {})

    @property
    def guesses(self) -> bool:
        """Whether those nobody looked at are taken for regular files."""
        return 0 < self._known_count >= RARE_SHARE * self._modes_count


def is_certain(info: ObjectInfo) -> bool:
    """Whether it is known what an object is: its mode, or that it can only be regular."""
    return info.metadata is not None or info.size > LINK_BYTES_MAX


def _size(info: ObjectInfo) -> int:
    return info.size
