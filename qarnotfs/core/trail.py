"""Whether a program goes from one directory to the next, and which ones follow. Pure.

Used by `finder`, so that what is asked for ahead of a program does not end where a directory ends.
What a program does not do twice in a row costs nothing, and the first surprise ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from qarnotfs.index.listing import Listing, parent_of

NEAR = 8  # directories that follow one: it goes on who comes to one of these
DIRECTORIES_MAX = 32  # that are listed ahead
TRAILS_MAX = 4  # programs that go through directories at the same time
LEVELS_MAX = 32  # directories whose sub-directories are looked into at the same time
SEARCH_MAX = 256  # entries of a directory looked through for those in it

Listed = Callable[[str], Listing | None]  # what is known of a prefix


@dataclass(slots=True)
class Trail:
    """One program's way through directories in which it looks at files."""

    prefix: str  # the last one
    top: str  # in this one are all through which it has gone
    depth: int  # of the deepest of these: it has not looked at files below
    goes_on: bool = False  # it came to the last one from one before it

    def comes_to(self, prefix: str, listed: Listed) -> bool:
        """Whether this directory is one of the next."""
        around = _around(self.prefix, prefix)
        here = listed(around) if prefix > self.prefix else None
        if here is None:
            return False
        done, new = _in(around, self.prefix), _in(around, prefix)
        if new not in islice(_below(here, done), NEAR):  # as at most, without a look at more
            return False
        near = islice(onward(self.prefix, listed, around, prefix.count("/")), NEAR)
        return any(name == prefix for name, _ in near)


class Trails:
    """The ways that programs went last."""

    def __init__(self) -> None:
        self._trails: list[Trail] = []  # the one used last comes first

    def at(self, prefix: str, listed: Listed) -> Trail:
        """A program looks at a file in this directory."""
        trail = self._found(prefix, listed)
        if trail is None:
            trail = Trail(prefix, prefix, prefix.count("/"))
        elif not trail.prefix.startswith(prefix):  # else it is the same, or around the last one
            trail.prefix, trail.top, trail.goes_on = prefix, _around(trail.top, prefix), True
            trail.depth = max(trail.depth, prefix.count("/"))
        if not self._trails or trail is not self._trails[0]:
            others = (each for each in self._trails if each is not trail)
            self._trails = [trail, *islice(others, TRAILS_MAX - 1)]
        return trail

    def _found(self, prefix: str, listed: Listed) -> Trail | None:
        for trail in self._trails:
            if trail.prefix == prefix:
                return trail
        for trail in self._trails:
            if trail.prefix.startswith(prefix):
                return trail
        return next((one for one in self._trails if one.comes_to(prefix, listed)), None)


@dataclass(slots=True)
class Descent:
    """A program's way through directories: ``window`` of them are listed ahead of it."""

    window: int = 0
    left: int = 0  # directories that were looked through ahead, and it has not come to
    foreseen: Container[str] = ()  # these, and those to which it has come since


@dataclass(slots=True)
class Level:
    """The sub-directories of one directory."""

    last: str = ""  # the one that was entered last
    in_order: bool = False  # after the one before it
    descent: Descent = field(default_factory=Descent)


class Descents:
    """The directories whose sub-directories programs look into, as ``find`` does."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, Level] = OrderedDict()  # by prefix; used last: last

    def entered(self, parent: Listing, prefix: str, listed: Listed) -> list[str]:
        """A program looks into a directory: those nobody has listed that it will want next."""
        level = self._levels.get(parent.prefix) or self._begin(parent.prefix)
        self._levels.move_to_end(parent.prefix)
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
        is_known = prefix in way.foreseen or listed(prefix) is not None
        if way.left > way.window // 2 and is_known:
            return []
        # Not what is in them: who looks at directories need not look into them.
        depth = prefix.count("/")
        top = self._top(parent.prefix)
        following = dict(islice(onward(prefix, listed, top, depth), way.window))
        way.left, way.foreseen = len(following), frozenset(following)
        return [name for name, listing in following.items() if listing is None]

    def _top(self, prefix: str) -> str:
        """The directory that a program goes through which has come to this one."""
        while prefix:
            above = self._levels.get(parent_of(prefix[:-1]))
            if above is None or not above.in_order or above.last != prefix:
                break
            prefix = parent_of(prefix[:-1])
        return prefix

    def _begin(self, prefix: str) -> Level:
        above = self._levels.get(around := parent_of(prefix[:-1]))
        if above:
            self._levels.move_to_end(around)
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


def further(trail: Trail, listed: Listed) -> Iterator[Listing]:
    """Where a program will look at files next: nowhere, unless it has gone on before.

    Up to the first directory that is not ``listed``: it comes to that first.
    """
    if not trail.goes_on:
        return
    for _, listing in islice(onward(trail.prefix, listed, trail.top, trail.depth), NEAR):
        if listing is None:
            return
        yield listing


def _around(one: str, other: str) -> str:
    """The innermost directory with both."""
    while not other.startswith(one):
        one = parent_of(one[:-1])
    return one


def _in(directory: str, prefix: str) -> str:
    """What is in a directory on the way to a prefix; nothing of its own."""
    return prefix[: prefix.find("/", len(directory)) + 1] if prefix != directory else ""


def _below(listing: Listing, behind: str) -> Iterator[str]:
    entries = islice(listing.after(behind), SEARCH_MAX)
    return (name for name, info in entries if info is None)
