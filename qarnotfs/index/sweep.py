"""A long listing, page by page in order, asked for in several pieces at once.

Used by `lister`, one for each directory that is being listed. It holds pages that are ahead of
their reader, a bounded number of them, each with a note of when it was asked for: our own
changes since then are newer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from qarnotfs.errors import StoreError
from qarnotfs.index import spans
from qarnotfs.index.changes import Changes
from qarnotfs.index.listing import Entry, entries_of
from qarnotfs.store.base import ListPage, ObjectInfo
from qarnotfs.store.early import Early

WIDTH = 4  # pages asked for at once
HELD_MAX = 16  # pages: half a megabyte each
PAGE_NAMES = 1000
# A piece that has not ended after so many pages is cut, where it can be: the first one, which
# most directories end within, and any other. Where to is found out while its next page comes.
PLAIN_PAGES, LONG_PAGES = 2, 8

# (the token to go on with, the name to begin behind, how many names at most, the page ahead) -> a
# page
Ask = Callable[[str | None, str | None, int, Early | None], Awaitable[ListPage]]


@dataclass(slots=True)
class Page:
    """What the names behind the page before it, up to ``upto``, are; ``None``: to the end."""

    entries: list[Entry]
    since: int  # what we changed later is newer
    upto: str | None


@dataclass(slots=True)
class _Piece:
    """A part of the listing: the names behind ``start``, up to ``stop``."""

    start: str | None
    stop: str | None = None
    token: str | None = None
    is_whole: bool = False
    uncut_pages: int = LONG_PAGES  # until it is to be cut
    first: str = ""  # of the names that were listed, and the last one
    last: str = ""
    pages: deque[Page] = field(default_factory=deque)
    error: StoreError | None = None
    early: Early = field(default_factory=Early)
    early_since: int | None = None  # as `Page.since`, of the page that is asked for early


class Sweep:
    """The names in ``prefix`` behind ``after``."""

    def __init__(self, ask: Ask, changes: Changes, prefix: str, after: str) -> None:
        self._ask, self._changes, self._prefix = ask, changes, prefix
        self._pieces = deque([_Piece(after or None, uncut_pages=PLAIN_PAGES)])
        self._is_closed = False
        self.is_read_on = False  # beyond its first page: somebody reads all of it
        self.taken_sec = time.monotonic()  # when its reader came last

    @property
    def is_ready(self) -> bool:
        """Whether the next page need not be waited for."""
        return bool(self._pieces and self._pieces[0].pages)

    @property
    def has_room(self) -> bool:
        """Whether asking ahead of the reader is of use now."""
        held = sum(len(piece.pages) for piece in self._pieces)
        return held < HELD_MAX and not all(piece.is_whole for piece in self._pieces)

    def take(self) -> tuple[Page, dict[str, ObjectInfo | None]]:
        """The next page, and what we changed since it was asked for."""
        self.taken_sec = time.monotonic()
        piece = self._pieces[0]
        page = piece.pages.popleft()
        if piece.is_whole and not piece.pages:
            self._pieces.popleft()
        return page, self._changes.leave(page.since)

    async def fill(self) -> None:
        """Ask for more pages at once; raises where the very next one is not to be had."""
        unread = [piece for piece in self._pieces if not piece.is_whole]
        due = unread[:WIDTH] if self.has_room else unread[:1]
        points: list[str] = []
        # Of several pieces there is always one under way, and the last page may end them.
        is_alone = self.is_read_on and self.has_room and len(unread) == 1
        async with trio.open_nursery() as nursery:
            for piece in due:
                nursery.start_soon(self._next, piece, is_alone)
            if due and due[0].uncut_pages <= 0:
                nursery.start_soon(self._find_points, due[0], points)
        if points:
            self._cut(due[0], points)
        if not self.is_ready and due and due[0].error is not None:
            raise due[0].error

    async def _next(self, piece: _Piece, wants_early: bool) -> None:
        since = self._changes.enter() if piece.early_since is None else piece.early_since
        piece.early_since = self._changes.enter() if wants_early else None
        piece.early.is_wanted = wants_early
        start = None if piece.token else piece.start
        try:
            page = await self._ask(piece.token, start, PAGE_NAMES, piece.early)
        except BaseException as error:
            self._changes.leave(since)
            self._drop_early(piece)  # it may be older than what is noted for the next try
            if not isinstance(error, StoreError):
                raise
            piece.error = error
            return
        if self._is_closed:
            self._changes.leave(since)
            return
        entries, stop = entries_of(page), piece.stop
        piece.token, piece.error = page.next, None
        piece.is_whole = page.next is None or bool(stop and entries and entries[-1][0] >= stop)
        if stop is not None:
            entries = [entry for entry in entries if entry[0] <= stop]
        if entries:
            piece.first, piece.last = piece.first or entries[0][0], entries[-1][0]
        piece.uncut_pages -= 1
        upto = stop if piece.is_whole else entries[-1][0] if entries else ""
        piece.pages.append(Page(entries, since, upto))
        if piece.is_whole:
            self._drop_early(piece)

    def _drop_early(self, piece: _Piece) -> None:
        piece.early.drop()
        if piece.early_since is not None:
            self._changes.leave(piece.early_since)
            piece.early_since = None

    async def _find_points(self, piece: _Piece, points: list[str]) -> None:
        """Where a piece may be cut, as the bucket says that there are names."""
        piece.uncut_pages = LONG_PAGES + 1  # with the one that is under way
        seen = self._prefix, piece.first, piece.last
        places = await self._behind(piece, spans.firsts(*seen))
        outermost = next((point for point, name in places if name), None)
        if outermost is not None:
            points += spans.cuts(await self._behind(piece, spans.all_of(*seen, outermost)))

    def _cut(self, piece: _Piece, points: list[str]) -> None:
        """Cut what nobody has asked for yet of a piece."""
        points = [point for point in points if point >= piece.last]
        if piece.is_whole or self._is_closed or not points:
            return
        at, end = self._pieces.index(piece) + 1, piece.stop
        for number, point in enumerate(points):
            self._pieces.insert(at + number, _Piece(point))
            self._pieces[at + number - 1].stop = point
        self._pieces[at + len(points) - 1].stop = end

    async def _behind(self, piece: _Piece, points: list[str]) -> list[tuple[str, str | None]]:
        """Points in a piece, each with the first name behind it that is in the piece, too."""
        found: dict[str, str | None] = {}

        async def look(point: str) -> None:
            with suppress(StoreError):  # it is no reason to fail
                entries = entries_of(await self._ask(None, point, 1, None))
                is_in = entries and (piece.stop is None or entries[0][0] <= piece.stop)
                found[point] = entries[0][0] if is_in else None

        async with trio.open_nursery() as nursery:
            for point in points:
                if piece.stop is None or point < piece.stop:
                    nursery.start_soon(look, point)
        return [(point, found[point]) for point in points if point in found]

    def close(self) -> None:
        """Nobody will take the pages that are left."""
        self._is_closed = True
        for piece in self._pieces:
            self._drop_early(piece)
            for page in piece.pages:
                self._changes.leave(page.since)
        self._pieces.clear()
