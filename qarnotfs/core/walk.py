"""Whether a program goes through small files, or directories, one after the other. Pure.

Used by `finder`, which tells every look at a small file, every use of one and every directory
that had to be listed, and fetches what is wanted next. What a program does not do twice in a
row costs nothing; the first surprise (one skipped, or looked at and not read) ends a walk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from qarnotfs.cache.blocks import SMALL_BYTES_MAX
from qarnotfs.index.listing import Listing, parent_of
from qarnotfs.store.base import ObjectInfo

FILES_AT_FIRST = 2  # behind the second file in order; doubled with each further one
FILES_MAX = 64  # that are wanted ahead of their reader: a tenth of a second's worth
BYTES_MAX = 16 << 20
FILES_FIRST_MAX = 8  # in the next directory, of a program that read the last one through
DIRECTORIES_MAX = 32  # that are listed ahead
WALKS_MAX = 8  # directories that are read at the same time
SEARCH_MAX = 4 * FILES_MAX  # entries looked through for the next small file


@dataclass(slots=True)
class Walk:
    """The way through one directory: ``window`` small files behind ``last`` are wanted."""

    last: str = ""  # the file that was used last
    ahead: str = ""  # everything up to it was asked for
    window: int = 0


class Walks:
    """The directories that programs walk through, and what to fetch for them."""

    def __init__(self) -> None:
        self._walks: OrderedDict[str, Walk] = OrderedDict()  # by prefix; the one used last is last
        self._carried = 0  # the window of a program that has just read a directory through

    @property
    def goes_on(self) -> bool:
        """Whether a program has just read a directory through: it will read the next one, too."""
        return self._carried > 0

    def looked(self, listing: Listing, key: str) -> bool:
        """A program looks at a small file: whether it will surely read it, too."""
        walk = self._walks.get(listing.prefix)
        if walk is None and self._carried:
            walk = self._begin(listing.prefix)
            walk.window, self._carried = self._carried, 0
        if walk is None or not walk.window:
            return False
        if _next(listing, walk.last) == key:
            return True
        walk.window = 0
        return False

    def used(self, listing: Listing, key: str) -> None:
        """A program reads a small file."""
        walk = self._walks.get(listing.prefix) or self._begin(listing.prefix)
        if key == walk.last:
            return
        in_order = (walk.last or walk.window) and _next(listing, walk.last) == key
        walk.window = min(max(FILES_AT_FIRST, 2 * walk.window), FILES_MAX) if in_order else 0
        walk.last, walk.ahead = key, max(walk.ahead, key) if in_order else key
        self._walks.move_to_end(listing.prefix)
        at_end = walk.window and listing.complete and _next(listing, key) is None
        self._carried = min(walk.window, FILES_FIRST_MAX) if at_end else 0

    def wanted(self, listing: Listing, bytes_max: int) -> Iterator[ObjectInfo]:
        """What to fetch now; tell of each one that is under way, by `asked`."""
        walk = self._walks.get(listing.prefix)
        if walk is None or not walk.window:
            return
        size = 0
        for info in islice(_small(listing, walk.last), walk.window):
            size += info.size
            if size > min(bytes_max, BYTES_MAX):
                return
            if info.key > walk.ahead:
                yield info

    def asked(self, listing: Listing, key: str) -> None:
        """Everything that was wanted up to ``key`` is under way."""
        self._walks[listing.prefix].ahead = key

    def _begin(self, prefix: str) -> Walk:
        return _added(self._walks, prefix)


class Descents:
    """The directories whose sub-directories programs look into, as ``find`` does."""

    def __init__(self) -> None:
        self._walks: OrderedDict[str, Walk] = OrderedDict()  # by the prefix of the parent

    def entered(self, parent: Listing, prefix: str) -> list[str]:
        """A program looks into a directory nobody has listed: which ones it will want next."""
        walk = self._walks.get(parent.prefix)
        if walk is None:
            above = self._walks.get(parent_of(parent.prefix[:-1]))
            walk = _added(self._walks, parent.prefix)
            walk.window = above.window if above else 0  # who goes on there will go on here
        in_order = (walk.ahead or walk.window) and prefix in _directories(parent, walk.ahead, 1)
        walk.window = min(max(1, 2 * walk.window), DIRECTORIES_MAX) if in_order else 0
        wanted = _directories(parent, prefix, walk.window)
        walk.ahead = wanted[-1] if wanted else prefix
        return wanted


def _added(walks: OrderedDict[str, Walk], prefix: str) -> Walk:
    walk = walks[prefix] = Walk()
    while len(walks) > WALKS_MAX:
        walks.popitem(last=False)
    return walk


def _directories(listing: Listing, prefix: str, count: int) -> list[str]:
    """The next directories behind ``prefix``, as they are listed."""
    entries = islice(listing.after(prefix), SEARCH_MAX)
    return list(islice((name for name, info in entries if info is None), count))


def is_small(info: ObjectInfo | None) -> bool:
    """Whether a file is fetched by one request, and has anything to fetch."""
    return info is not None and 0 < info.size <= SMALL_BYTES_MAX


def _next(listing: Listing, key: str) -> str | None:
    return next((info.key for info in _small(listing, key)), None)


def _small(listing: Listing, key: str) -> Iterator[ObjectInfo]:
    """The small files behind ``key``, as they are listed."""
    entries: Iterable[ObjectInfo | None] = (info for _, info in listing.after(key))
    return (info for info in islice(entries, SEARCH_MAX) if info and is_small(info))
