"""Whether a program goes through small files, one after the other. Pure.

Used by `finder`, which tells every look at a small file and every use of one, and fetches what is
wanted next. What a program does not do twice in a
row costs nothing; the first surprise (one skipped, or looked at and not read) ends a walk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from qarnotfs.cache.blocks import SMALL_BYTES_MAX
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo

FILES_AT_FIRST = 2  # behind the second file in order; doubled with each further one
FILES_MAX = 48  # that are wanted ahead of their reader: as many as are fetched at once
AGAIN_SHARE = 8  # of them are used before more are wanted: a look at all takes time
BYTES_MAX = 16 << 20
FILES_FIRST_MAX = 8  # in the next directory, of a program that read the last one through
LONE_CARRIED = 1  # of one that has read the only file of a directory: it may do so again
WALKS_MAX = 32  # directories that are read at the same time, or next
SEARCH_MAX = 4 * FILES_MAX  # entries looked through for the next small file


@dataclass(slots=True)
class Walk:
    """The way through one directory: ``window`` small files behind ``last`` are wanted."""

    last: str = ""  # the file that was used last
    ahead: str = ""  # everything up to it was asked for
    window: int = 0
    rest: int = 0  # files to be used before more are wanted
    run: object = field(default_factory=object)  # the same of one program's directories


class Walks:
    """The directories that programs walk through, and what to fetch for them."""

    def __init__(self) -> None:
        self._walks: OrderedDict[str, Walk] = OrderedDict()  # by prefix; the one used last is last
        self._carried = 0  # the window of a program that has just read a directory through

    @property
    def goes_on(self) -> bool:
        """Whether a program has just read a directory through: it will read the next one, too."""
        return self._carried > LONE_CARRIED

    def looked(self, listing: Listing, key: str, *, comes: bool) -> bool:
        """A program looks at a small file: whether it will surely read it, too.

        ``comes``: to this directory from the one before it.
        """
        walk = self._walks.get(listing.prefix)
        if walk is None and self._carried:
            walk = self._arrived(listing.prefix, comes=comes)
        if walk is None or not walk.window:
            return False
        if _next(listing, walk.last) == key:
            return True
        walk.window = 0
        return False

    def used(self, listing: Listing, key: str, *, comes: bool) -> None:
        """A program reads a small file; ``comes`` as `looked` has it."""
        walk = self._walks.get(listing.prefix) or self._arrived(listing.prefix, comes=comes)
        if key == walk.last:
            return
        in_order = (walk.last or walk.window) and _next(listing, walk.last) == key
        walk.window = min(max(FILES_AT_FIRST, 2 * walk.window), FILES_MAX) if in_order else 0
        walk.last, walk.ahead = key, max(walk.ahead, key) if in_order else key
        walk.rest = max(0, walk.rest - 1)
        if not in_order:
            walk.rest, walk.run = 0, object()
        self._walks.move_to_end(listing.prefix)
        at_end = listing.complete and _next(listing, key) is None
        self._carried = min(walk.window, FILES_FIRST_MAX) if at_end else 0
        if at_end and not walk.window and _next(listing, "") == key:
            self._carried = LONE_CARRIED

    def wanted(
        self, listing: Listing, onward: Iterable[Listing], bytes_max: int
    ) -> Iterator[tuple[Listing, ObjectInfo]]:
        """What to fetch now, and where it is; tell of each one that is under way, by `asked`.

        ``onward``: the directories that its program reads next.
        """
        walk = self._walks.get(listing.prefix)
        if walk is None or not walk.window or walk.rest:
            return
        self._walks.move_to_end(listing.prefix)
        walk.rest, left, size = walk.window // AGAIN_SHARE, walk.window, 0
        for there in chain([listing], onward):
            way = walk if there is listing else self._following(walk, there)
            for info in islice(_small(there, way.last), left):
                left, size = left - 1, size + info.size
                if size > min(bytes_max, BYTES_MAX):
                    walk.rest = 0
                    return
                if info.key > way.ahead:
                    yield there, info
            if not left:
                return

    def asked(self, listing: Listing, key: str) -> None:
        """Everything that was wanted up to ``key`` is under way."""
        self._walks[listing.prefix].ahead = key

    def refused(self, listing: Listing) -> None:
        """There is no room for what was wanted: it is wanted again with the next file."""
        self._walks[listing.prefix].rest = 0

    def _following(self, walk: Walk, there: Listing) -> Walk:
        """The walk through a directory that comes behind another one's."""
        known = self._walks.get(there.prefix)
        if known:
            is_anothers = known.window and known.last and _next(there, known.last) is not None
            if known.run is walk.run or is_anothers:
                self._walks.move_to_end(there.prefix)
                return known
        following = self._begin(there.prefix)
        following.window, following.run = walk.window, walk.run
        return following

    def _arrived(self, prefix: str, *, comes: bool) -> Walk:
        """Begin a directory, to which a program ``comes`` from the end of another one."""
        walk = self._begin(prefix)
        if comes:
            walk.window, self._carried = self._carried, 0
        return walk

    def _begin(self, prefix: str) -> Walk:
        walk = self._walks[prefix] = Walk()
        self._walks.move_to_end(prefix)
        while len(self._walks) > WALKS_MAX:
            self._walks.popitem(last=False)
        return walk


def is_small(info: ObjectInfo | None) -> bool:
    """Whether a file is fetched by one request, and has anything to fetch."""
    return info is not None and 0 < info.size <= SMALL_BYTES_MAX


def _next(listing: Listing, key: str) -> str | None:
    return next((info.key for info in _small(listing, key)), None)


def _small(listing: Listing, key: str) -> Iterator[ObjectInfo]:
    """The small files behind ``key``, as they are listed."""
    entries: Iterable[ObjectInfo | None] = (info for _, info in listing.after(key))
    return (info for info in islice(entries, SEARCH_MAX) if info and is_small(info))
