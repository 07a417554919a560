"""What directories showed, for programs that read them again. Pure.

Used by `browse`. A directory that was read to its end shows the same for as long as its listing
is believed and nothing in it changed; to put it together anew costs most of a second `ls`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from qarnotfs.core.tree import Node
from qarnotfs.index.listing import Listing

NODES_MAX = 20_000  # of all directories together


class Read(NamedTuple):
    """Pages of a directory, and the listing they are of, after so many changes of that."""

    listing: Listing
    changes: int
    pages: list[list[Node]]

    @property
    def node_count(self) -> int:
        """What is kept, in nodes; an empty directory counts, too."""
        return 1 + sum(map(len, self.pages))

    @property
    def holds(self) -> bool:
        return self.listing.complete and self.listing.changes == self.changes


class Shown:
    """The directories that were read last, by their visible prefix."""

    def __init__(self) -> None:
        self._read: OrderedDict[str, Read] = OrderedDict()
        self._count = 0

    def find(self, directory: str, listing: Listing) -> list[list[Node]] | None:
        """The pages of a directory of which this is the listing, if they are known."""
        read = self._read.get(directory)
        if read is None or read.listing is not listing or not read.holds:
            return None
        self._read.move_to_end(directory)
        return read.pages

    def keep(self, directory: str, read: Read) -> None:
        """A directory was read to its end."""
        if not read.holds or read.node_count > NODES_MAX:
            return
        former = self._read.pop(directory, None)
        self._read[directory] = read
        self._count += read.node_count - (former.node_count if former else 0)
        while self._count > NODES_MAX:
            self._count -= self._read.popitem(last=False)[1].node_count
