"""Asks the bucket what is there, and remembers it for ``ttl_sec``.

Used by the core (to find names and versions) and the uploader (to post what it stored).
A belief is used without asking for ``ttl_sec`` after it was validated, then validated
again. Beliefs live in memory and in a database that survives the mount and is shared by
every mount on the cache directory. Knows nothing of debts: what is not uploaded yet is
laid over it above.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import TypeVar

import trio

from qarnotfs.errors import NoSuchKey, Refused, StoreError
from qarnotfs.index.book import Below
from qarnotfs.index.lister import UNUSED_SEC, Lister
from qarnotfs.index.listing import Listing, entries_of, parent_of
from qarnotfs.store.base import Capabilities, ObjectInfo, Room

T = TypeVar("T")

PROBE_TTL_SEC = 86_400.0  # a server may be upgraded; asking costs five requests
ROOM_SEC = 2.0  # that a program waits for what only `df` shows to people
AROUND_NAMES = 10  # of an object, what begins like it, and what is below it
HEADS_TOGETHER = 16  # keys that are asked for in one go
CHANGES_MAX = 10_000  # of ours are kept for listings whose reader has stopped
WRITE_SEC = 0.1  # what was heard waits for so long, to be written together


class Index(Lister):
    """The beliefs of one mount. ``filter_prefix``: only keys with it are ever asked for."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask ahead (`foresee`) until cancelled."""
        self._disk.delays = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ahead.run)
                nursery.start_soon(self.reach.watch, self._probe)
                nursery.start_soon(self._tidy)
                task_status.started()
        finally:
            self._disk.delays = False
            self._disk.flush()

    async def _tidy(self) -> None:
        while True:
            await trio.sleep(WRITE_SEC)
            self._disk.flush()
            self._forget_sweeps(0.0 if len(self._changes) > CHANGES_MAX else UNUSED_SEC)

    # --- asking -----------------------------------------------------------------------------

    async def info(self, key: str) -> ObjectInfo:
        """The version of ``key`` with its metadata, or `NoSuchKey`; HEAD only when needed.

        Without metadata where that is not known and the bucket cannot be reached.
        """
        info = await self._or_believed(lambda: self._info(key))
        if info is None:
            raise NoSuchKey(f"There is no object {key!r}.")
        return info

    async def infos(self, keys: Sequence[str]) -> list[ObjectInfo]:
        """The same of a few keys, in any order, without those that are not to be had.

        In one go where the store has a short cut.
        """
        learned = dict[str, ObjectInfo | None]()
        async with self._heads_places:
            asked = [key for key in keys if not self._is_described(key)]
            if len(asked) > 1 and not self.reach.lost:
                with suppress(StoreError):  # one by one it is heard
                    learned = await self._learn(asked)
        found = [info for info in learned.values() if info]

        async def look(key: str) -> None:
            with suppress(StoreError):
                found.append(await self.info(key))

        async with trio.open_nursery() as nursery:
            for key in keys:
                if key not in learned:
                    nursery.start_soon(look, key)
        return found

    def prepare_infos(self) -> None:
        """`infos` will be wanted of names that are being listed."""
        if not self.reach.lost:
            self._store.prepare_heads()

    def _is_described(self, key: str) -> bool:
        """Whether a HEAD of a key would tell nothing new, or is under way."""
        if ("head", key) in self._once:
            return True
        belief = self.believed(key)
        return belief is not None and (belief.info is None or belief.info.metadata is not None)

    async def _learn(self, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        """Believe what the store's short cut says of keys of which no HEAD is under way."""
        learned = dict[str, ObjectInfo | None]()
        since, now_sec = self._changes.enter(), self._now()
        with self._once.several([("head", key) for key in keys]) as answers:
            try:
                found = await self._bridge.call(self._store.heads, keys)
            finally:
                ours = self._changes.leave(since)
            for key, info in found.items():
                if key not in ours:  # else it is believed already
                    self._heard(key, info, now_sec)
                answers["head", key] = learned[key] = ours.get(key, info)
        return learned

    async def _info(self, key: str) -> ObjectInfo | None:
        belief = self.believed(key)
        if belief and (not belief.info or belief.info.metadata is not None or self.reach.lost):
            return belief.info
        return await self._once(("head", key), lambda: self._head(key), self.ttl_sec)

    async def entry(self, key: str) -> tuple[ObjectInfo | None, bool]:
        """Whether there is an object ``key``, and whether there are keys below ``key/``.

        One LIST teaches the whole directory around a key; for directories of more than a
        page, and when nothing may be remembered, the one name is asked for.
        """
        return await self._or_believed(lambda: self._entry(key))

    async def _entry(self, key: str) -> tuple[ObjectInfo | None, bool]:
        listing = await self._listing_for(key)
        if listing:
            return listing.get(key), _has_below(listing, key + "/")
        return await self._look(key)

    async def renew(self, key: str) -> None:
        """Validate the directory around a key as a whole, where that is one request."""
        await self._or_believed(lambda: self._listing_for(key))

    async def find(self, key: str) -> ObjectInfo | None:
        """The object ``key`` with its metadata, or ``None``: by a listing of its directory."""
        await self.renew(key)
        with suppress(NoSuchKey):
            return await self.info(key)
        return None

    async def recheck(self, info: ObjectInfo) -> None:
        """A version was found to be gone: if we still believe in it, ask what is there now."""
        belief = self.believed(info.key)
        if belief and info.same_version(belief.info):
            await self._once(("recheck", info.key), lambda: self._recheck(info.key))

    async def _recheck(self, key: str) -> None:
        self._patch(parent_of(key), key, await self._head(key))

    async def _listing_for(self, key: str) -> Listing | None:
        """The listing that tells of ``key`` and ``key/``, if there is one or one page makes one."""
        parent = parent_of(key)
        listing = self._loaded(parent)
        if not self.reach.lost:
            if not self.ttl_sec or (listing and not listing.is_on_first_page(key)):
                listing = self._fresh(listing)
            else:
                listing = await self.begun(parent)
        return listing if listing and listing.covers(key + "/") else None

    async def _look(self, key: str) -> tuple[ObjectInfo | None, bool]:
        """Ask for one name: HEAD for the object and LIST for what is below, at once.

        A LIST of it alone where its version is expected to be one of which everything is known.
        """
        if self._is_expected(key):
            await self._once(("look", key), lambda: self._list_around(key), self.ttl_sec)
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

    def _is_expected(self, key: str) -> bool:
        """Whether there was an object ``key``, which needs asking for, with known metadata."""
        old = self.heard(key) if key.startswith(self._filter) and self.ttl_sec else None
        return bool(old and old.info and old.info.metadata is not None and not self.believed(key))

    async def _list_around(self, key: str) -> None:
        """LIST an object together with what is below it, if few names lie between them."""
        since, now_sec = self._changes.enter(), self._now()
        try:
            page = await self._list_page(key, "/", None, count_max=AROUND_NAMES)
        finally:
            ours = self._changes.leave(since)
        found, below = dict(entries_of(page)), key + "/"
        if any(name == key or name.startswith(below) for name in ours):
            return
        if page.next is None or max(found, default="") >= below:
            info = found.get(key)
            self._below[below] = Below(below in found, now_sec)
            self._believe(key, self._recalled(info) if info else None, now_sec)

    async def exists_below(self, prefix: str) -> bool:
        """Whether any key starts with ``prefix`` (and passes the filter)."""
        return await self._or_believed(lambda: self._exists_below(prefix))

    async def _exists_below(self, prefix: str) -> bool:
        narrowed = self._narrowed(prefix)
        if not narrowed.startswith(self._filter):
            return False
        known = self._fresh(self._below.get(narrowed))
        if known is not None:
            return known.present
        while True:
            since, now_sec = self._changes.enter(), self._now()
            try:
                page = await self.reach.ask(
                    lambda: self._bridge.call(self._store.list_page, narrowed, count_max=1)
                )
            finally:
                changed = self._changes.leave(since)
            ours = {key: info for key, info in changed.items() if key.startswith(narrowed)}
            if not ours:
                self._below[narrowed] = Below(bool(page.objects), now_sec)
            if any(ours.values()):
                return True
            if all(info.key not in ours for info in page.objects):
                return bool(page.objects)

    def foresee(
        self, names: Iterable[str], ask: Callable[[str], Awaitable[object]] | None = None
    ) -> None:
        """Somebody will soon want the attributes of these keys, or what else ``ask`` asks for."""
        if ask:
            self._ahead.want(ask, names)
        else:
            rest = iter(names)
            self._ahead.want(self.infos, iter(lambda: tuple(islice(rest, HEADS_TOGETHER)), ()))

    async def capabilities(self) -> Capabilities:
        """What the server honours: from an earlier probe, or by probing now.

        `Refused` where these credentials may not write: only a read-only mount needs no probe.
        """
        fact = self._disk.fact("capabilities")
        with suppress(ValueError, TypeError):  # the database is damaged
            if fact and 0 <= self._now() - fact[1] < PROBE_TTL_SEC:
                return Capabilities(**json.loads(fact[0]))
        try:
            found = await self._bridge.patiently(lambda: self._bridge.call(self._store.probe))
        except Refused as error:
            raise Refused(
                f"These credentials may not write to the bucket: use --read-only. ({error})"
            ) from error
        self._disk.save_fact("capabilities", json.dumps(asdict(found)), self._now())
        return found

    async def room(self) -> Room | None:
        """What may still be stored, as of the TTL; ``None`` where the server does not say.

        Who asks is a program that looks at the file system in passing: while nobody answers,
        it is told what was heard last.
        """
        fact, known = self._disk.fact("room"), None
        with suppress(ValueError, TypeError):  # the database is damaged
            if fact:
                known = Room(**json.loads(fact[0])) if fact[0] != "null" else None
                if self._is_fresh(fact[1]):
                    return known
        with suppress(StoreError):
            return await self._once("room", self._room, self.ttl_sec)
        return known

    # --- inside: requests ---------------------------------------------------------------------

    async def _head(self, key: str) -> ObjectInfo | None:
        since, now_sec = self._changes.enter(), self._now()
        try:
            info: ObjectInfo | None = await self.reach.ask(
                lambda: self._bridge.wait(self._store.head(key))
            )
        except NoSuchKey:
            info = None
        finally:
            ours = self._changes.leave(since)
        if key in ours:  # and believed already
            return ours[key]
        self._heard(key, info, now_sec)
        return info

    def _heard(self, key: str, info: ObjectInfo | None, now_sec: float) -> None:
        """The answer to a HEAD that was sent then, of a key that we did not change since."""
        self._believe(key, info, now_sec)
        listing = self.listing_around(key)
        if info is None and listing and listing.validated_sec <= now_sec:
            self._patch(listing.prefix, key, None)  # else it shows a name that nobody finds

    async def _room(self) -> Room | None:
        now_sec = self._now()
        room = await self._bridge.wait(self._store.room(), timeout_sec=ROOM_SEC)
        self._disk.save_fact("room", json.dumps(asdict(room) if room else None), now_sec)
        return room

    async def _probe(self) -> None:
        await self._bridge.call(self._store.list_page, self._filter, count_max=1)


def _has_below(listing: Listing, prefix: str) -> bool:
    """Whether a listing shows something in ``prefix``; it may be of a filter further down."""
    return (listing.prefix.startswith(prefix) and listing.count > 0) or prefix in listing
