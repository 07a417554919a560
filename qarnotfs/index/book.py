"""What is believed about keys and listings: in memory, and on disk behind it.

Used by `index`, which asks the bucket and writes down what it hears. Synchronous, and
never asks anybody. Our own changes are written into it by `told`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache

from qarnotfs.index.beliefs import Belief, Beliefs
from qarnotfs.index.changes import Changes
from qarnotfs.index.listing import Listing, parent_of
from qarnotfs.index.reach import Reach
from qarnotfs.index.versions import is_racy, with_attributes
from qarnotfs.store.base import ObjectInfo


@dataclass(frozen=True, slots=True)
class Below:
    """Whether there are keys below a prefix; validated at a time since 1970."""

    present: bool
    validated_sec: float


T = TypeVar("T", Belief, Listing, Below)

FOUND_MAX = 20_000  # what is in the open pages of a listing, and then some
OBJECTS_MAX = 100_000  # beliefs about single keys in memory; more are in the database
# Names of all listings in memory together; a packed one is a tenth. One that is larger is there
# alone: to read it again for each name would take longer than to ask the bucket.
LISTED_MAX = 300_000


class Book:
    """The beliefs of one mount. ``filter_prefix``: only keys with it are ever believed in."""

    def __init__(
        self,
        database: Path,
        reach: Reach,
        *,
        ttl_sec: float,
        filter_prefix: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ttl_sec = ttl_sec
        # Whether beliefs are of use at all after they were asked for.
        self.keeps = ttl_sec > 0 or reach.offline_reads
        self._reach = reach
        self._now, self._filter = now, filter_prefix
        self._disk = Beliefs(database)
        self._objects: LRUCache[str, Belief] = LRUCache(OBJECTS_MAX)
        self._listings: LRUCache[str, Listing] = LRUCache(
            LISTED_MAX, getsizeof=lambda listing: min(listing.weight, LISTED_MAX)
        )
        self._below: LRUCache[str, Below] = LRUCache(OBJECTS_MAX)  # where no listing tells
        self._changes = Changes()
        # What `believed` found, for the several times that one request asks for it, or will find of
        # a page, and when the oldest was validated that it was made of: good as long as that is
        # fresh, or until anything here changes; what is fresher is a change.
        self._found: dict[str, tuple[Belief, float]] = {}
        self._doubted: set[str] = set()

    # --- believing ----------------------------------------------------------------------------

    def believed(self, key: str) -> Belief | None:
        """The freshest belief about a key that needs no asking, with metadata where known."""
        found = self._found.get(key)
        if found is None or not self._is_fresh(found[1]):
            found = self._search(key)
        return found[0] if found else None

    def _search(self, key: str) -> tuple[Belief, float] | None:
        listing = self._fresh(self._loaded(parent_of(key)))
        if listing is not None and not listing.covers(key):
            best = self._fresh(self.heard(key))  # the next page may say something else
            return (best, best.validated_sec) if best else None
        if listing is None or key not in listing:
            best = self._fresh(self.heard(key))
        else:
            self._recall(listing, key)
            best = self._fresh(self._objects.get(key))
        if listing is None or (best and best.validated_sec >= listing.validated_sec):
            return self._note(key, best, best.validated_sec) if best else None
        info, oldest_sec = listing.get(key), listing.validated_sec
        if info and info.metadata is None and best and best.info:
            info, oldest_sec = with_attributes(info, best.info), best.validated_sec
        return self._note(key, Belief(info, listing.validated_sec), oldest_sec)

    def _note(self, key: str, belief: Belief, oldest_sec: float) -> tuple[Belief, float]:
        if len(self._found) >= FOUND_MAX:
            self._found.clear()
        self._found[key] = found = belief, oldest_sec
        return found

    def _recall(self, listing: Listing, key: str) -> None:
        """What the database knows of a page's objects; once, for looking at each takes long."""
        infos = listing.unread(key)
        seen = dict[str, ObjectInfo]()
        if infos and self.keeps:
            younger, described = self._disk.recall(infos, listing.validated_sec)
            for info, seen_sec in described:
                if not is_racy(info, seen_sec):
                    listing.enrich(info)
                    seen[info.key] = info
                elif info.key not in self._objects:  # for as long as it may be shown
                    self._objects[info.key] = Belief(info, min(seen_sec, listing.validated_sec))
            for name, belief in younger:
                mine, listed = self._objects.get(name), listing.get(name)
                if mine is None or mine.validated_sec < belief.validated_sec:
                    self._objects[name] = self._described(belief, listed)
        for info in infos:  # at once: one after the other it is a third of what `ls` costs
            if info.key not in self._objects:
                belief = Belief(seen.get(info.key, info), listing.validated_sec)
                self._note(info.key, belief, listing.validated_sec)

    def _described(self, belief: Belief, listed: ObjectInfo | None) -> Belief:
        """A belief from the database with its metadata; ``listed`` may have it."""
        if belief.info is None:
            return belief
        info = with_attributes(belief.info, listed) if listed else belief.info
        return Belief(self._recalled(info), belief.validated_sec)

    def left_sec(self, key: str) -> float:
        """For how long the belief about ``key`` may still be used without asking."""
        now_sec, found = self._now(), self._found.get(key)
        if found is None or not 0 <= now_sec - found[1] < self.ttl_sec:
            found = self._search(key)
        return max(0.0, found[0].validated_sec + self.ttl_sec - now_sec) if found else 0.0

    def listing_left_sec(self, prefix: str) -> float:
        """For how long the listing of a directory may still be used without asking."""
        listing = self.fresh_listing(prefix)
        return max(0.0, listing.validated_sec + self.ttl_sec - self._now()) if listing else 0.0

    def fresh_listing(self, prefix: str) -> Listing | None:
        """The whole listing of a directory, if it needs no asking. Not to be changed."""
        listing = self._fresh(self._loaded(prefix))
        return listing if listing and listing.complete else None

    def listing_around(self, key: str) -> Listing | None:
        """The listing that tells of a key, if it needs no asking; it may end behind it.

        Not to be changed.
        """
        listing = self._fresh(self._loaded(parent_of(key)))
        return listing if listing and listing.covers(key) else None

    def is_listed(self, prefix: str) -> bool:
        """Whether at least a page of a directory's listing needs no asking."""
        return self._fresh(self._loaded(prefix)) is not None

    def close(self) -> None:
        self._disk.close()

    # --- inside -------------------------------------------------------------------------------

    def _believe(
        self, key: str, info: ObjectInfo | None, now_sec: float, seen_sec: float | None = None
    ) -> None:
        belief = Belief(info, now_sec)
        self._objects[key] = belief
        self._found.pop(key, None)
        self._disk.save_object(key, belief)
        if info and info.metadata is not None:
            self._disk.save_attributes(info, now_sec if seen_sec is None else seen_sec)

    def _new_listing(self, prefix: str, validated_sec: float | None = None) -> Listing:
        validated_sec = self._now() if validated_sec is None else validated_sec
        return Listing(self._narrowed(prefix), validated_sec, number=secrets.randbits(62))

    def _loaded(self, prefix: str) -> Listing | None:
        prefix = self._narrowed(prefix)
        listing = self._listings.get(prefix)
        if listing is None and self.keeps:
            listing = self._disk.listing(prefix)
            if listing:
                self._keep(listing)
        return listing

    def _keep(self, listing: Listing) -> None:
        self._found.clear()
        self._listings[listing.prefix] = listing

    def _is_fresh(self, validated_sec: float) -> bool:
        return self._reach.lost or 0 <= self._now() - validated_sec < self.ttl_sec

    def _fresh(self, known: T | None) -> T | None:
        return known if known is not None and self._is_fresh(known.validated_sec) else None

    def heard(self, key: str) -> Belief | None:
        """What was heard last of a single key, however long ago."""
        belief = self._objects.get(key)
        if belief is None and self.keeps:
            belief = self._disk.object(key)
            if belief:
                belief = self._objects[key] = self._described(belief, None)
        return belief

    def _recalled(self, info: ObjectInfo) -> ObjectInfo:
        """A version with its metadata, where that was seen and may still be shown.

        Attributes belong to (key, etag, modified): a copy onto itself keeps the etag.
        """
        if info.metadata is not None:
            return info
        found, seen_sec = self._disk.described(info) or (info, 0.0)
        return info if is_racy(info, seen_sec) and not self._is_fresh(seen_sec) else found

    def _narrowed(self, prefix: str) -> str:
        """The prefix to list: the filter where it is longer, so that the server filters."""
        return self._filter if self._filter.startswith(prefix) else prefix
