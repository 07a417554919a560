"""Whether a program goes from one directory to the next, and which ones follow. Pure.

Used by `finder`, so that what is asked for ahead of a program does not end where a directory ends.
What a program does not do twice in a row costs nothing, and the first surprise ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from math import inf

from qarnotfs.index.listing import Listing, parent_of

NEAR = 8  # directories that follow one: it goes on who comes to one of these
DIRECTORIES_MAX = 32  # that are listed ahead
LEVELS_MAX = 32  # directories whose sub-directories are looked into at the same time
SEARCH_MAX = 256  # entries of a directory looked through for those in it

Listed = Callable[[str], Listing | None]  # what is known of a prefix


class Trail:
    """The directory in which files were looked at last."""

    def __init__(self) -> None:
        self._prefix: str | None = None
        self._goes_on = False
        self._top = ""  # in this directory are all through which it has gone

    def at(self, prefix: str, listed: Listed) -> Iterator[Listing]:
        """A program looks at a file in this directory: where it will do so next.

        Nowhere, unless it came here by such a way.
        """
        if self._prefix is None:
            self._prefix = self._top = prefix
        if not self._prefix.startswith(prefix):  # else it is the same, or around the last one
            near = islice(onward(self._prefix, listed), NEAR)
            self._goes_on = any(name == prefix for name, _ in near)
            self._prefix = prefix
            if not self._goes_on:
                self._top = prefix
            while not prefix.startswith(self._top):
                self._top = parent_of(self._top[:-1])
        following = onward(self._prefix, listed, self._top)
        return _known(islice(following, NEAR if self._goes_on else 0))


@dataclass(slots=True)
class Descent:
    """A program's way through directories: ``window`` of them are listed ahead of it."""

    window: int = 0
    left: int = 0  # directories that were looked through ahead, and it has not come to


@dataclass(slots=True)
class Level:
    """The sub-directories of one directory."""

    last: str = ""  # the one that was entered last
    in_order: bool = False  # after the one before it
    descent: Descent = field(default_factory=Descent)


class Descents:
    """The directories whose sub-directories programs look into, as ``find`` does."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, Level] = OrderedDict()  # by prefix; the newest is last

    def entered(self, parent: Listing, prefix: str, listed: Listed) -> list[str]:
        """A program looks into a directory: those nobody has listed that it will want next."""
        level = self._levels.get(parent.prefix) or self._begin(parent.prefix)
        if prefix == level.last:
            return []
        way = level.descent
        is_next = next(_below(parent, level.last), None) == prefix
        level.in_order = is_next and bool(level.last or way.window)
        level.last = prefix
        if not level.in_order:
            level.descent = Descent()
            return []
        way.window = min(max(1, 2 * way.window), DIRECTORIES_MAX)
        way.left -= 1
        if way.left > way.window // 2:
            return []
        # Not what is in them: who looks at directories need not look into them.
        depth = prefix.count("/")
        top = self._top(parent.prefix)
        following = list(islice(onward(prefix, listed, top, depth), way.window))
        way.left = len(following)
        return [name for name, listing in following if listing is None]

    def _top(self, prefix: str) -> str:
        """The directory that a program goes through which has come to this one."""
        while prefix:
            above = self._levels.get(parent_of(prefix[:-1]))
            if above is None or not above.in_order or above.last != prefix:
                break
            prefix = parent_of(prefix[:-1])
        return prefix

    def _begin(self, prefix: str) -> Level:
        above = self._levels.get(parent_of(prefix[:-1]))
        # Who goes on there will go on here.
        level = self._levels[prefix] = Level(descent=above.descent if above else Descent())
        while len(self._levels) > LEVELS_MAX:
            self._levels.popitem(last=False)
        return level


def onward(
    prefix: str, listed: Listed, top: str = "", depth_max: float = inf
) -> Iterator[tuple[str, Listing | None]]:
    """The directories of ``top`` behind one, downwards, and into those that are ``listed``."""
    here = listed(prefix) if prefix.count("/") < depth_max else None
    ways = [_below(here, "") if here else iter(())]
    while ways:
        name = next(ways[-1], None)
        if name is not None:
            here = listed(name)
            yield name, here
            if here is not None and name.count("/") < depth_max:
                ways.append(_below(here, ""))
            continue
        ways.pop()
        if not ways and len(prefix) > len(top):  # there is more around it
            done, prefix = prefix, parent_of(prefix[:-1])
            around = listed(prefix)
            ways = [_below(around, done)] if around else []


def _below(listing: Listing, behind: str) -> Iterator[str]:
    entries = islice(listing.after(behind), SEARCH_MAX)
    return (name for name, info in entries if info is None)


def _known(following: Iterator[tuple[str, Listing | None]]) -> Iterator[Listing]:
    """Up to the first that is not: a program comes to that first."""
    known = takewhile(lambda each: each[1] is not None, following)
    return (listing for _, listing in known if listing is not None)
