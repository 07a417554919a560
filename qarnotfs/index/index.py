"""Asks the bucket what is there, and remembers it for ``ttl_sec``.

Used by the core (to find names and versions) and the uploader (to post what it stored).
A belief is used without asking for ``ttl_sec`` after it was validated, then validated
again. Beliefs live in memory and in a database that survives the mount and is shared by
every mount on the cache directory. Knows nothing of debts: what is not uploaded yet is
laid over it above.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import trio
from cachetools import LRUCache

from qarnotfs.bridge import Bridge
from qarnotfs.errors import NoSuchKey, StoreError
from qarnotfs.index.beliefs import Belief, Beliefs, Listing
from qarnotfs.index.changes import Changes
from qarnotfs.store.base import Capabilities, ListPage, ObjectInfo, Store

T = TypeVar("T")

OBJECTS_MAX = 100_000  # beliefs about single keys in memory; more are in the database
LISTED_MAX = 500_000  # names of all listings in memory together
PROBE_TTL_SEC = 86_400.0  # a server may be upgraded; asking costs five requests
FORESEEN_MAX = 1000  # keys that wait for their attributes to be fetched ahead
FORESEERS = 16  # how many of them are fetched at once


class Index:
    """The beliefs of one mount. ``filter_prefix``: only keys with it are ever asked for."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        database: Path,
        *,
        ttl_sec: float,
        filter_prefix: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ttl_sec = ttl_sec
        self._store, self._bridge, self._now = store, bridge, now
        self._filter = filter_prefix
        self._disk = Beliefs(database)
        self._objects: LRUCache[str, Belief] = LRUCache(OBJECTS_MAX)
        self._listings: LRUCache[str, Listing] = LRUCache(
            LISTED_MAX, getsizeof=lambda listing: 1 + len(listing.objects) + len(listing.prefixes)
        )
        self._large: set[str] = set()  # directories of more than one page: not listed to look up
        self._changes = Changes()
        self._flights: dict[object, _Flight] = {}
        self._foresee_in, self._foresee_out = trio.open_memory_channel[str](FORESEEN_MAX)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch attributes ahead (`foresee`) until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(FORESEERS):
                nursery.start_soon(self._foreseer, self._foresee_out.clone())
            task_status.started()

    # --- asking -----------------------------------------------------------------------------

    async def info(self, key: str) -> ObjectInfo:
        """The version of ``key`` with its metadata, or `NoSuchKey`; HEAD only when needed."""
        belief = self.believed(key)
        if belief is None or (belief.info and belief.info.metadata is None):
            info = await self._once(("head", key), lambda: self._head(key))
        else:
            info = belief.info
        if info is None:
            raise NoSuchKey(f"There is no object {key!r}.")
        return info

    def believed(self, key: str) -> Belief | None:
        """The freshest belief about a key that needs no asking, with metadata where known."""
        best = self._fresh(self._object(key))
        listing = self.fresh_listing(_parent(key))
        if listing and (best is None or listing.validated_sec > best.validated_sec):
            known = best.info if best else None
            info = listing.objects.get(key)
            if info and info.metadata is None:
                info = self._with_attributes(info, known)
                listing.objects[key] = info
            best = Belief(info, listing.validated_sec)
        return best

    def left_sec(self, key: str) -> float:
        """For how long the belief about ``key`` may still be used without asking."""
        belief = self.believed(key)
        return max(0.0, belief.validated_sec + self.ttl_sec - self._now()) if belief else 0.0

    def listing_left_sec(self, prefix: str) -> float:
        """For how long the listing of a directory may still be used without asking."""
        listing = self.fresh_listing(prefix)
        return max(0.0, listing.validated_sec + self.ttl_sec - self._now()) if listing else 0.0

    def fresh_listing(self, prefix: str) -> Listing | None:
        """The listing of a directory, if it needs no asking. Not to be changed."""
        listing = self._loaded(prefix)
        return listing if listing and self._is_fresh(listing.validated_sec) else None

    async def listing(self, prefix: str) -> Listing:
        """Everything directly in a directory, asked for when the belief is too old."""
        listing = self.fresh_listing(prefix)
        if listing is None:
            listing = await self._once(("list", prefix), lambda: self._list(prefix))
        assert listing is not None  # without a limit of pages a listing ends
        return listing

    async def entry(self, key: str) -> tuple[ObjectInfo | None, bool]:
        """Whether there is an object ``key``, and whether there are keys below ``key/``.

        One LIST teaches the whole directory around a key; for directories of more than a
        page, and when nothing may be remembered, the one name is asked for.
        """
        listing = await self._listing_for(key)
        if listing:
            return listing.objects.get(key), _has_below(listing, key + "/")
        return await self._look(key)

    async def find(self, key: str) -> ObjectInfo | None:
        """The object ``key`` with its metadata, or ``None``: by a listing of its directory."""
        await self._listing_for(key)
        with suppress(NoSuchKey):
            return await self.info(key)
        return None

    async def _listing_for(self, key: str) -> Listing | None:
        """The listing that tells of ``key``, if there is one or one page makes one."""
        prefix = _parent(key)
        listing = self.fresh_listing(prefix)
        if listing is None and self.ttl_sec and self._narrowed(prefix) not in self._large:
            listing = await self._once(("small", prefix), lambda: self._list(prefix, pages_max=1))
        return listing

    async def _look(self, key: str) -> tuple[ObjectInfo | None, bool]:
        """Ask for one name: HEAD for the object and LIST for what is below, at once."""
        below = False
        failures: list[StoreError] = []

        async def look_below() -> None:
            nonlocal below
            try:
                below = await self.exists_below(key + "/")
            except StoreError as error:
                failures.append(error)

        async def look() -> ObjectInfo | None:
            try:
                return await self.info(key)
            except NoSuchKey:
                return None
            except StoreError as error:
                failures.append(error)
                return None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_below)
            info = await look()
        if failures:
            raise failures[0]
        return info, below

    async def exists_below(self, prefix: str) -> bool:
        """Whether any key starts with ``prefix`` (and passes the filter)."""
        narrowed = self._narrowed(prefix)
        if not narrowed.startswith(self._filter):
            return False
        page = await self._bridge.patiently(
            lambda: self._bridge.call(self._store.list_page, narrowed, count_max=1)
        )
        return bool(page.objects)

    def foresee(self, keys: Iterable[str]) -> None:
        """Somebody will soon want the attributes of these keys: fetch them, if there is room."""
        for key in keys:
            try:
                self._foresee_in.send_nowait(key)
            except trio.WouldBlock:
                return

    # --- being told -------------------------------------------------------------------------

    def remember(self, info: ObjectInfo) -> None:
        """We stored this version ourselves, just now."""
        self._changes.note(info.key, info)
        self._learn(info)
        for prefix in _ancestors(info.key):
            if self._patch(prefix, info.key, info):
                break

    def remember_missing(self, key: str) -> None:
        """We deleted this key ourselves, just now. For a marker ``dir/``: and the directory."""
        self._changes.note(key, None)
        self._believe(key, None)
        self._patch(_parent(key), key, None)
        if key.endswith("/"):
            above = self._loaded(_parent(key[:-1]))
            below = self._loaded(key)
            if above and not (below and (below.objects or below.prefixes)):
                above.prefixes.discard(key)
                self._disk.save_entry(above.prefix, key, None, present=False)

    def remember_empty(self, prefix: str) -> None:
        """A directory that is certain to be new: nothing is in it."""
        listing = Listing(self._narrowed(prefix), self._now(), {}, set())
        self._keep(listing)
        self._disk.save_listing(listing)

    async def capabilities(self) -> Capabilities:
        """What the server honours: from an earlier probe, or by probing now."""
        fact = self._disk.fact("capabilities")
        if fact and 0 <= self._now() - fact[1] < PROBE_TTL_SEC:
            return Capabilities(**json.loads(fact[0]))
        found = await self._bridge.patiently(lambda: self._bridge.call(self._store.probe))
        self._disk.save_fact("capabilities", json.dumps(asdict(found)), self._now())
        return found

    def close(self) -> None:
        self._disk.close()

    # --- inside: learning -----------------------------------------------------------------

    def _learn(self, info: ObjectInfo) -> None:
        self._believe(info.key, info)
        if info.metadata is not None:
            self._disk.save_attributes(info)

    def _believe(self, key: str, info: ObjectInfo | None) -> None:
        belief = Belief(info, self._now())
        self._objects[key] = belief
        self._disk.save_object(key, belief)

    def _patch(self, prefix: str, key: str, info: ObjectInfo | None) -> bool:
        """Lay our own change over a believed listing; whether the name was there before."""
        listing = self._loaded(prefix)
        if listing is None or not key.startswith(listing.prefix):
            return False
        name, is_prefix = _child(listing.prefix, key)
        known = name in listing.objects or name in listing.prefixes
        if is_prefix:
            if info is not None and not known:
                listing.prefixes.add(name)
                self._disk.save_entry(listing.prefix, name, None, present=True)
        elif info is not None:
            listing.objects[key] = info
            self._disk.save_entry(listing.prefix, key, info, present=True)
        elif known:
            del listing.objects[key]
            self._disk.save_entry(listing.prefix, key, None, present=False)
        return known

    def _loaded(self, prefix: str) -> Listing | None:
        prefix = self._narrowed(prefix)
        listing = self._listings.get(prefix)
        if listing is None and self.ttl_sec:
            listing = self._disk.listing(prefix)
            if listing:
                self._keep(listing)
        return listing

    def _keep(self, listing: Listing) -> None:
        try:
            self._listings[listing.prefix] = listing
        except ValueError:  # larger than the whole face in memory: the database has it
            self._listings.pop(listing.prefix, None)

    # --- inside: believing ------------------------------------------------------------------

    def _is_fresh(self, validated_sec: float) -> bool:
        return 0 <= self._now() - validated_sec < self.ttl_sec

    def _fresh(self, belief: Belief | None) -> Belief | None:
        return belief if belief and self._is_fresh(belief.validated_sec) else None

    def _object(self, key: str) -> Belief | None:
        belief = self._objects.get(key)
        if belief is None and self.ttl_sec:
            belief = self._disk.object(key)
            if belief:
                if belief.info:
                    belief = Belief(self._with_attributes(belief.info, None), belief.validated_sec)
                self._objects[key] = belief
        return belief

    def _with_attributes(self, info: ObjectInfo, known: ObjectInfo | None) -> ObjectInfo:
        """Attributes belong to (key, etag, modified): a copy onto itself keeps the etag."""
        if known and known.metadata is not None and _same_attributes(info, known):
            return replace(info, metadata=known.metadata, content_type=known.content_type)
        found = self._disk.attributes(info)
        if found is None:
            return info
        return replace(info, metadata=found.metadata, content_type=found.content_type)

    def _narrowed(self, prefix: str) -> str:
        """The prefix to list: the filter where it is longer, so that the server filters."""
        return self._filter if self._filter.startswith(prefix) else prefix

    # --- inside: requests ---------------------------------------------------------------------

    async def _head(self, key: str) -> ObjectInfo | None:
        since = self._changes.enter()
        try:
            info: ObjectInfo | None = await self._bridge.patiently(
                lambda: self._bridge.wait(self._store.head(key))
            )
        except NoSuchKey:
            info = None
        finally:
            ours = self._changes.leave(since)
        info = ours.get(key, info)
        if info:
            self._learn(info)
        else:
            self._believe(key, None)
        return info

    async def _list(self, prefix: str, pages_max: int | None = None) -> Listing | None:
        """LIST a directory to its end; ``None`` where it has more than ``pages_max`` pages."""
        narrowed = self._narrowed(prefix)
        listing = Listing(narrowed, self._now(), {}, set())
        since = self._changes.enter()
        try:
            complete = await self._list_pages(listing, pages_max)
        finally:
            ours = self._changes.leave(since)
        if not complete:
            self._large.add(narrowed)
            return None
        self._keep(listing)
        self._disk.save_listing(listing)
        for key, info in ours.items():
            self._patch(narrowed, key, info)
        return listing

    async def _list_pages(self, listing: Listing, pages_max: int | None) -> bool:
        after: str | None = None
        pages = 0
        while pages != pages_max:
            page = await self._list_page(listing.prefix, after)
            listing.objects.update((info.key, info) for info in page.objects)
            listing.prefixes.update(page.prefixes)
            after, pages = page.next, pages + 1
            if after is None:
                return True
        return False

    async def _list_page(self, prefix: str, after: str | None) -> ListPage:
        return await self._bridge.patiently(
            lambda: self._bridge.call(self._store.list_page, prefix, delimiter="/", after=after)
        )

    async def _once(self, name: object, ask: Callable[[], Awaitable[T]]) -> T:
        """One flight per question: who comes while it is being asked shares the answer."""
        while (flight := self._flights.get(name)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.answered:
                return flight.answer  # type: ignore[return-value]  # the name fixes the type
        flight = self._flights[name] = _Flight()
        try:
            answer = await ask()
            flight.answer, flight.answered = answer, True
            return answer
        except StoreError as error:
            flight.error = error
            raise
        finally:  # also when cancelled: then the next one who waits asks
            del self._flights[name]
            flight.landed.set()

    async def _foreseer(self, keys: trio.MemoryReceiveChannel[str]) -> None:
        async for key in keys:
            with suppress(StoreError):  # whoever really wants it will ask again, and hear of it
                await self.info(key)


class _Flight:
    """One question that is being asked. ``landed`` is set by the one who asks, once."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.answered = False
        self.answer: object = None
        self.error: StoreError | None = None


def _parent(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _ancestors(key: str) -> Iterator[str]:
    """The directories a key lies in, innermost first: ``a/b`` -> ``a/``, ``""``."""
    prefix = _parent(key)
    while prefix:
        yield prefix
        prefix = _parent(prefix[:-1])
    yield ""


def _has_below(listing: Listing, prefix: str) -> bool:
    """Whether a listing shows something in ``prefix``; it may be of a filter further down."""
    deeper = listing.prefix.startswith(prefix) and bool(listing.objects or listing.prefixes)
    return deeper or prefix in listing.prefixes


def _child(prefix: str, key: str) -> tuple[str, bool]:
    """What a listing of ``prefix`` shows of ``key``: itself, or the common prefix it is in."""
    at = key.find("/", len(prefix))
    return (key, False) if at < 0 else (key[: at + 1], True)


def _same_attributes(a: ObjectInfo, b: ObjectInfo) -> bool:
    return (a.etag, a.modified_sec) == (b.etag, b.modified_sec)
