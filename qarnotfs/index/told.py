"""What we are told: our own changes, and attributes seen on the way.

Used by `index`. Synchronous like `book`. A change is laid over every listing that it shows in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from qarnotfs.index.beliefs import CHANGES_SEC, Belief
from qarnotfs.index.book import Below, Book
from qarnotfs.index.listing import Listing, ancestors_of, child_of, parent_of
from qarnotfs.index.versions import same_attributes
from qarnotfs.store.base import ObjectInfo


class Told(Book):
    """A book in which our own changes are written by whoever made them."""

    def at_once(self) -> AbstractContextManager[None]:
        """What is told within a block is written down at its end, for the price of a few."""
        return self._disk.at_once()

    def remember(self, info: ObjectInfo) -> None:
        """We stored this version ourselves, just now."""
        self._changes.note(info.key, info)
        now_sec = self._now()
        with self._disk.at_once():
            self._believe(info.key, info, now_sec, seen_sec=math.inf)
            self._disk.flush()
            self._disk.save_change(info.key, now_sec)
            if info.metadata is None:
                self._disk.drop_attributes(info.key)
            if info.key in self._doubted:
                self._doubted.remove(info.key)
                self._disk.end_doubt(info.key)
            # All of them: that the innermost one knows the name does not say that its parent
            # knows of it. A LIST may have come between our upload and this.
            self._doubt_above(info.key)
            for prefix in ancestors_of(info.key):
                self._patch(prefix, info.key, info)

    def remember_missing(self, key: str) -> None:
        """We deleted this key ourselves, just now. For a marker ``dir/``: and the directory."""
        self._changes.note(key, None)
        now_sec = self._now()
        with self._disk.at_once():
            self._believe(key, None, now_sec)
            self._disk.flush()
            self._disk.save_change(key, now_sec)
            self._doubt_above(key)
            self._patch(parent_of(key), key, None)
            directory = parent_of(key)  # of a marker: what it marks
            while directory and self._may_have_ended(directory, has_lost_marker=key == directory):
                directory = parent_of(directory[:-1])

    def _doubt_above(self, key: str) -> None:
        """Whether anything is below its directories is not known any more.

        A life that believes nothing for long does not know the listings of those that do.
        """
        for prefix in ancestors_of(key):
            self._below.pop(prefix, None)
            if not self.keeps:
                self._disk.drop_listing(self._narrowed(prefix))

    def _may_have_ended(self, directory: str, *, has_lost_marker: bool) -> bool:
        """Something in a directory went, perhaps the last; whether its parent may have ended."""
        above = self._loaded(parent_of(directory[:-1]))
        if above is None:
            return True
        return directory in above and self._lose_directory(
            above, directory, has_lost_marker=has_lost_marker
        )

    def _lose_directory(self, above: Listing, directory: str, *, has_lost_marker: bool) -> bool:
        """Its name leaves ``above``, if nothing is in it any more; whether that was the last."""
        self._found.clear()
        below = self._loaded(directory)
        if has_lost_marker and not (below and below.count):
            emptied = True  # it ends with its marker, unless something else is known to be in it
        elif below and self._fresh(below):
            emptied = below.complete and not below.count
        else:  # nobody knows: the bucket is asked when somebody wants to
            above.validated_sec = -math.inf
            self._listings.pop(above.prefix, None)
            self._disk.drop_listing(above.prefix)
            return above.complete and above.count == 1
        if emptied:
            above.drop(directory)
            self._disk.save_patch(above, directory, None, present=False)
        return emptied and above.complete and not above.count

    def remember_empty(self, prefix: str) -> None:
        """A directory that we make where nothing was: as certain as that is, nothing is in it."""
        known: Listing | Below | None = self.listing_around(prefix[:-1])
        if not (isinstance(known, Listing) and known.covers(prefix)):
            known = self._fresh(self._below.get(self._narrowed(prefix)))
        below = self._loaded(prefix)
        if known and not (below and below.validated_sec >= known.validated_sec):
            listing = self._new_listing(prefix, known.validated_sec)
            self._keep(listing)
            self._save(listing)

    @contextmanager
    def doubting(self, key: str) -> Iterator[None]:
        """Meanwhile a key is stored by a request of which nothing is on record (a copy).

        If it is not remembered by the end, or if we die before, the bucket is asked again.
        """
        self._doubted.add(key)
        self._disk.save_doubt(key)
        try:
            yield
        finally:
            if key in self._doubted:
                self._doubted.remove(key)
                self._forget(key)

    def learn_attributes(self, info: ObjectInfo) -> None:
        """Metadata of a version that was seen on the way; whether it is current we do not say."""
        belief, seen_sec = self.believed(info.key), self._now()
        if belief and belief.info and same_attributes(belief.info, info):
            if belief.info.metadata is not None:
                return
            seen_sec = belief.validated_sec  # the request may have been sent long ago
            self._objects[info.key] = Belief(info, seen_sec)
            self._found.pop(info.key, None)
        if self.keeps:
            self._disk.save_attributes(info, seen_sec)

    # --- inside -------------------------------------------------------------------------------

    def _forget(self, key: str) -> None:
        self._found.clear()
        self._objects.pop(key, None)
        for prefix in ancestors_of(key):
            self._below.pop(prefix, None)
            self._listings.pop(self._narrowed(prefix), None)
        self._disk.forget(key)

    def _save(self, listing: Listing) -> None:
        """Write down a whole listing, with what other mounts changed since it was asked for.

        It takes the place of one that they may have laid that over.
        """
        if self._now() - listing.validated_sec < CHANGES_SEC:
            with self._disk.at_once():
                self._disk.save_listing(listing)
                for key, info in self._disk.changed_by_others(listing):
                    name, is_prefix = child_of(listing.prefix, key)
                    self._lay(listing, key, info, name, is_prefix=is_prefix)

    def _patch(self, prefix: str, key: str, info: ObjectInfo | None) -> None:
        """Lay our own change over a believed listing."""
        listing = self._loaded(prefix)
        if listing is not None and key.startswith(listing.prefix):
            name, is_prefix = child_of(listing.prefix, key)
            if listing.covers(name):  # else the next page will tell of it
                self._lay(listing, key, info, name, is_prefix=is_prefix)

    def _lay(
        self, listing: Listing, key: str, info: ObjectInfo | None, name: str, *, is_prefix: bool
    ) -> None:
        """``key`` was stored or deleted after a listing was asked for; it shows it as ``name``."""
        self._found.pop(key, None)
        known = name in listing
        if is_prefix:
            if info is not None and not known:
                listing.put(name, None)
                self._disk.save_patch(listing, name, None, present=True)
            elif info is None and known:
                self._lose_directory(listing, name, has_lost_marker=key == name)
        elif info is not None:
            listing.put(name, info)
            self._disk.save_patch(listing, name, info, present=True)
        elif known:
            listing.drop(name)
            self._disk.save_patch(listing, name, None, present=False)
