"""Asks the bucket for listings, page by page, and remembers them.

The part of `index` that LISTs: one question teaches a directory of up to a page, and a longer
one grows while it is read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Unavailable
from qarnotfs.index.ahead import Ahead
from qarnotfs.index.flat import Flat
from qarnotfs.index.listing import Listing, child_of
from qarnotfs.index.once import Once
from qarnotfs.index.reach import Reach
from qarnotfs.index.sweep import PAGE_NAMES, Sweep
from qarnotfs.index.told import Told
from qarnotfs.store.base import ListPage, ObjectInfo, Store
from qarnotfs.store.early import Early

T = TypeVar("T")

HEADS_PLACES = 8  # of several keys each, at once: the other threads are for who cannot wait
SWEEPS_MAX = 4  # long listings asked for ahead of their readers; of others, a page at a time
UNUSED_SEC = 60.0  # then the reader has stopped, or needs no pages ahead


class Lister(Told):
    """A book of which the listings can be asked for."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        database: Path,
        *,
        ttl_sec: float,
        filter_prefix: str = "",
        offline_reads: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.reach = Reach(bridge, now, offline_reads=offline_reads)
        super().__init__(
            database, self.reach, ttl_sec=ttl_sec, filter_prefix=filter_prefix, now=now
        )
        self._store, self._bridge = store, bridge
        self._once, self._ahead = Once(now), Ahead()
        self._heads_places = trio.CapacityLimiter(HEADS_PLACES)
        self._sweeps: dict[int, Sweep] = {}  # that hold pages ahead, by the number of their listing

    async def _or_believed(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask; and once more when nobody answers and beliefs of any age therefore count."""
        try:
            return await question()
        except Unavailable:
            if not self.reach.lost:
                raise
        return await question()

    async def listing(self, prefix: str) -> Listing:
        """Everything directly in a directory, asked for when the belief is too old."""
        listing = await self.begun(prefix)
        while not listing.complete:
            await self.grow(listing)
        return listing

    async def begun(self, prefix: str) -> Listing:
        """The listing of a directory, of which there is a first page; `grow` adds the next."""
        return await self._or_believed(lambda: self._begun(prefix))

    async def _begun(self, prefix: str) -> Listing:
        listing = self._fresh(self._loaded(prefix))
        if listing is None:
            flight = ("list", prefix)
            listing = await self._once(flight, lambda: self._begin(prefix), self.ttl_sec)
        return listing

    async def survey(self, prefix: str) -> Listing:
        """Every key that starts with ``prefix``, without delimiter.

        Teaches the listing of each directory that is below it as a whole.
        """
        every, asked_sec = self._new_listing(prefix), self._now()
        flat = Flat(every.prefix, lambda found: self._new_listing(found, asked_sec))
        ours = dict[str, ObjectInfo | None]()
        after = "" if every.prefix.startswith(self._filter) else None
        while after is not None:
            since, asked_sec = self._changes.enter(), self._now()
            try:
                page = await self._list_page(every.prefix, "", after or None)
            finally:
                changed = self._changes.leave(since)
            every.extend((info.key, info) for info in page.objects)
            # What lies behind this page is told by the next ones, which are newer.
            ours |= {
                key: info for key, info in changed.items() if page.next is None or key <= every.end
            }
            for info in page.objects:
                self._taught(flat.add(info), ours)
            after = page.next
        self._taught(flat.end(), ours)
        return every

    def _taught(self, listings: Iterable[Listing], ours: Mapping[str, ObjectInfo | None]) -> None:
        """Believe whole listings, with our own changes since they were asked for."""
        for listing in listings if self.keeps else ():
            self._keep(listing)
            for number in range(listing.page_count):
                self._disk.save_page(listing, number)
            self._save(listing)
            for key, info in ours.items():
                self._patch(listing.prefix, key, info)

    async def grow(self, listing: Listing) -> None:
        """Add one page to a listing that is not complete."""
        await self._once(("grow", listing.number), lambda: self._next_page(listing))
        self.read_on(listing)

    def read_on(self, listing: Listing) -> None:
        """Somebody reads all of a listing: its next page is asked for meanwhile."""
        sweep = self._sweeps.get(listing.number)
        if sweep and sweep.has_room:
            self._ahead.want(lambda _: self._filled(listing, sweep), [listing.prefix])

    async def _begin(self, prefix: str) -> Listing:
        listing = self._new_listing(prefix)
        listing.complete = False
        sweep = self._new_sweep(listing)
        await sweep.fill()
        self._append(listing, sweep)
        if not listing.complete:
            self._hold(listing, sweep)
        if self.keeps:
            self._keep(listing)
        return listing

    async def _next_page(self, listing: Listing) -> None:
        sweep = self._sweeps.get(listing.number) or self._new_sweep(listing)
        self._hold(listing, sweep)
        sweep.is_read_on = self._sweeps.get(listing.number) is sweep  # else it ends with this page
        try:
            while not sweep.is_ready:
                await self._filled(listing, sweep)
            self._append(listing, sweep)
        finally:
            if self._sweeps.get(listing.number) is not sweep:
                sweep.close()

    def _append(self, listing: Listing, sweep: Sweep) -> None:
        """Add the page that comes next; our own changes are newer."""
        page, ours = sweep.take()
        begin, page_number = listing.end, listing.page_count
        listing.extend(entry for entry in page.entries if entry[0] > begin)
        listing.end = max(listing.end, page.upto or "")
        listing.complete = page.upto is None
        if self.keeps:
            for number in range(page_number, listing.page_count):
                self._disk.save_page(listing, number)
        for key, info in ours.items():
            if key.startswith(listing.prefix):
                name, is_prefix = child_of(listing.prefix, key)
                if listing.covers(name) and (name > begin or not begin):
                    self._lay(listing, key, info, name, is_prefix=is_prefix)
        if listing.complete:
            self._sweeps.pop(listing.number, None)
            if self.keeps:
                self._keep(listing)  # it weighs more than when it was begun
                self._save(listing)

    async def _filled(self, listing: Listing, sweep: Sweep) -> None:
        await self._once(("fill", listing.number), sweep.fill)

    def _hold(self, listing: Listing, sweep: Sweep) -> None:
        """Keep what a sweep holds for the next page, if there is room for one more."""
        if len(self._sweeps) < SWEEPS_MAX:
            self._sweeps.setdefault(listing.number, sweep)

    def _new_sweep(self, listing: Listing) -> Sweep:
        ask = partial(self._list_page, listing.prefix, "/")
        return Sweep(ask, self._changes, listing.prefix, listing.end)

    def _forget_sweeps(self, unused_sec: float = 0.0) -> None:
        """What they hold is lost, but for a page that somebody waits for: he closes his sweep."""
        now_sec = time.monotonic()
        for number, sweep in list(self._sweeps.items()):
            is_waited_for = ("grow", number) in self._once
            if unused_sec <= (0.0 if is_waited_for else now_sec - sweep.taken_sec):
                del self._sweeps[number]
                if not is_waited_for:
                    sweep.close()

    async def _list_page(
        self,
        prefix: str,
        delimiter: str,
        after: str | None,
        start_after: str | None = None,
        count_max: int = PAGE_NAMES,
        early: Early | None = None,
    ) -> ListPage:
        return await self.reach.ask(
            lambda: self._bridge.call(
                self._store.list_page,
                prefix,
                delimiter=delimiter,
                after=after,
                start_after=start_after,
                count_max=count_max,
                early=early,
            )
        )
