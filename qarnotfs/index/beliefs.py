"""Beliefs on disk: a SQLite file shared by every mount on one cache directory.

Used by `index` only. Every method is one short statement or transaction. What cannot be
written (a full disk, a lock held too long) is forgotten with this mount.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from qarnotfs.index import database
from qarnotfs.index.listing import Listing, Packed
from qarnotfs.store.base import ObjectInfo

log = logging.getLogger(__name__)

# Of two mounts that heard of one object, the one that asked later knows better.
SAVE_OBJECT = """
INSERT INTO objects VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET validated =
    excluded.validated, size = excluded.size, etag = excluded.etag, modified = excluded.modified
    WHERE excluded.validated >= objects.validated
"""
SAVE_ATTRIBUTES = "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?, ?)"
PAGE = "first, last, count, checksum, data"
AMONG = "key IN (SELECT value FROM json_each(?))"
CHANGED_BY_OTHERS = """
SELECT DISTINCT objects.* FROM changes CROSS JOIN objects USING (key)
    WHERE changed > ? AND owner != ? AND key >= ? AND key < ?
"""
# For so long a change is kept for others, who may be listing its directory. Listings that were
# asked for before are not written down.
CHANGES_SEC = 3600.0
WAITING_MAX = 1000  # rows; more are written at once


class Belief(NamedTuple):
    """A version, or (``None``) that there is no object; validated at a time since 1970."""

    info: ObjectInfo | None
    validated_sec: float


class Beliefs:
    """The database. No method raises for a database that does not work."""

    def __init__(self, path: Path) -> None:
        self._owner = secrets.randbits(62)  # of our doubts and changes
        self._unfinished: set[int] = set()  # listings of ours
        self._base = database.opened(path)
        self._db = self._base.db
        # Whether what was heard waits for `flush`, which writes many rows for the price of a few.
        self.delays = False
        self._heard: dict[str, Belief] = {}
        self._described: dict[str, tuple[ObjectInfo, float]] = {}  # and when it was seen

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Every change within a block is one transaction, if there can be one."""
        with suppress(sqlite3.Error), ExitStack() as stack:
            with suppress(sqlite3.Error):  # a lock held too long: each for itself, then
                stack.enter_context(database.transaction(self._db))
            yield

    # --- single objects -----------------------------------------------------------------------

    def object(self, key: str) -> Belief | None:
        if key in self._heard:
            return self._heard[key]
        row = self._row("SELECT * FROM objects WHERE key = ?", key)
        return _belief(row) if row else None

    def save_object(self, key: str, belief: Belief) -> None:
        self._heard[key] = belief
        self._flush_if_due()

    def flush(self) -> None:
        """Write what waits for it. A younger belief of another mount stays."""
        if not self._heard and not self._described:
            return
        heard, self._heard = self._heard, {}
        described, self._described = self._described, {}
        with suppress(sqlite3.Error), database.transaction(self._db):
            self._db.executemany(SAVE_OBJECT, (_object_row(*item) for item in heard.items()))
            self._db.executemany(SAVE_ATTRIBUTES, map(_attributes_row, described.values()))

    def _flush_if_due(self) -> None:
        if not self.delays or len(self._heard) + len(self._described) >= WAITING_MAX:
            self.flush()

    def recall(
        self, infos: Iterable[ObjectInfo], since_sec: float
    ) -> tuple[list[tuple[str, Belief]], list[tuple[ObjectInfo, float]]]:
        """What is known of listed objects, for the price of a look at a few.

        Beliefs that are younger than ``since_sec``, by key; and the versions that were listed
        with their metadata, and when that was seen.
        """
        self.flush()
        listed = {info.key: info for info in infos}
        keys = json.dumps(list(listed))
        younger = self._rows(
            f"SELECT * FROM objects WHERE {AMONG} AND validated > ?", keys, since_sec
        )
        rows = self._rows(f"SELECT * FROM attributes WHERE {AMONG}", keys)
        found = (_described(listed[row[0]], row) for row in rows)
        return [(row[0], _belief(row)) for row in younger], [seen for seen in found if seen]

    def save_doubt(self, key: str) -> None:
        """From now on dying means that nothing is believed about a key; until `end_doubt`."""
        self._write("INSERT OR REPLACE INTO doubts VALUES (?, ?)", [(key, self._owner)])

    def end_doubt(self, key: str) -> None:
        self._write("DELETE FROM doubts WHERE key = ? AND owner = ?", [(key, self._owner)])

    def forget(self, key: str) -> None:
        """Believe nothing about a key, nor a listing that would tell of it."""
        self._heard.pop(key, None)
        with suppress(sqlite3.Error):
            database.forget(self._db, key)
        self.end_doubt(key)

    def described(self, info: ObjectInfo) -> tuple[ObjectInfo, float] | None:
        """Exactly this version with its metadata, once seen; and when."""
        found = self._described.get(info.key)
        if found and (found[0].etag, found[0].modified_sec) == (info.etag, info.modified_sec):
            return found
        row = self._row("SELECT * FROM attributes WHERE key = ?", info.key)
        return _described(info, row) if row else None

    def save_attributes(self, info: ObjectInfo, seen_sec: float) -> None:
        """Of one version of each key: the others are hardly ever asked for again."""
        self._described[info.key] = info, seen_sec
        self._flush_if_due()

    def drop_attributes(self, key: str) -> None:
        """What was stored under a key before may be taken for what is there now."""
        self._described.pop(key, None)
        self._write("DELETE FROM attributes WHERE key = ?", [(key,)])

    # --- listings -----------------------------------------------------------------------------

    def listing(self, prefix: str) -> Listing | None:
        """A complete listing with what we changed since; ``None``: there is none."""
        row = self._row(
            "SELECT validated, number, page_count FROM listings WHERE prefix = ?", prefix
        )
        if row is None:
            return None
        listing = Listing(prefix, row[0], number=row[1])
        try:
            for page in self._rows(
                f"SELECT {PAGE} FROM pages WHERE number = ? ORDER BY first", row[1]
            ):
                listing.extend_packed(Packed(*page))
        except ValueError as error:
            log.warning("a listing is damaged and is made anew: %s", error)
            return None
        if listing.page_count != row[2]:  # another mount is replacing it just now
            return None
        for name, present, size, etag, modified in self._rows(
            "SELECT name, present, size, etag, modified FROM patches WHERE number = ?", row[1]
        ):
            if present:
                listing.put(name, ObjectInfo(name, size, etag, modified) if etag else None)
            else:
                listing.drop(name)
        return listing

    def save_page(self, listing: Listing, number: int) -> None:
        """One page of a listing that still grows: nobody believes it before `save_listing`."""
        self._unfinished.add(listing.number)
        self._write(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)",
            [(listing.number, *listing.packed(number))],
        )

    def save_listing(self, listing: Listing) -> None:
        """A listing whose pages are all saved takes the place of what was known before."""
        self._unfinished.discard(listing.number)
        with suppress(sqlite3.Error), database.transaction(self._db):
            old = self._row("SELECT number FROM listings WHERE prefix = ?", listing.prefix)
            if old:
                self._db.execute("DELETE FROM pages WHERE number = ?", old)
                self._db.execute("DELETE FROM patches WHERE number = ?", old)
            self._db.execute(
                "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)",
                (listing.prefix, listing.validated_sec, listing.number, listing.page_count),
            )

    def save_change(self, key: str, changed_sec: float) -> None:
        """We stored or deleted an object, and `save_object` was told."""
        self._write("DELETE FROM changes WHERE changed < ?", [(changed_sec - CHANGES_SEC,)])
        self._write(
            "INSERT OR REPLACE INTO changes VALUES (?, ?, ?)", [(changed_sec, key, self._owner)]
        )

    def changed_by_others(self, listing: Listing) -> list[tuple[str, ObjectInfo | None]]:
        """What other mounts stored or deleted below a directory since it was listed."""
        prefix = listing.prefix  # ends with a slash, behind which "0" comes
        end = prefix[:-1] + "0" if prefix.endswith("/") else prefix + "\U0010ffff"
        since = listing.validated_sec, self._owner, prefix, end
        return [(row[0], _belief(row).info) for row in self._rows(CHANGED_BY_OTHERS, *since)]

    def drop_listing(self, prefix: str) -> None:
        self._write("DELETE FROM listings WHERE prefix = ?", [(prefix,)])

    def save_patch(
        self, listing: Listing, name: str, info: ObjectInfo | None, *, present: bool
    ) -> None:
        """One name appeared in, or went from, a directory; ``info`` is ``None`` for a prefix.

        It is laid over this listing, and over the one that another mount made meanwhile.
        """
        version = (info.size, info.etag, info.modified_sec) if info else (None, None, None)
        row = self._row("SELECT number FROM listings WHERE prefix = ?", listing.prefix)
        numbers = {listing.number, row[0] if row else listing.number}
        self._write(
            "INSERT OR REPLACE INTO patches VALUES (?, ?, ?, ?, ?, ?)",
            [(number, name, present, *version) for number in numbers],
        )

    # --- facts about the server ---------------------------------------------------------------

    def fact(self, name: str) -> tuple[str, float] | None:
        """(value, validated) of something else worth remembering, such as what a probe found."""
        row = self._row("SELECT value, validated FROM facts WHERE name = ?", name)
        return (row[0], row[1]) if row else None

    def save_fact(self, name: str, value: str, validated_sec: float) -> None:
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", [(name, value, validated_sec)])

    def close(self) -> None:
        self.flush()
        for table in ("pages", "patches"):
            numbers = [(number,) for number in self._unfinished]
            self._write(f"DELETE FROM {table} WHERE number = ?", numbers)
        self._base.close()

    # --- inside -------------------------------------------------------------------------------

    def _row(self, query: str, *values: str | float) -> tuple[Any, ...] | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    def _rows(self, query: str, *values: str | float) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            log.debug("beliefs not read: %s", error)
            return []

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            log.debug("beliefs not written: %s", error)


def _object_row(key: str, belief: Belief) -> tuple[Any, ...]:
    info = belief.info
    version = (info.size, info.etag, info.modified_sec) if info else (None, None, None)
    return (key, belief.validated_sec, *version)


def _belief(row: tuple[Any, ...]) -> Belief:
    key, validated_sec, size, etag, modified_sec = row
    return Belief(ObjectInfo(key, size, etag, modified_sec) if etag else None, validated_sec)


def _attributes_row(seen: tuple[ObjectInfo, float]) -> tuple[Any, ...]:
    info, seen_sec = seen
    metadata = json.dumps(dict(info.metadata or {}))
    return info.key, info.etag, info.modified_sec, metadata, info.content_type, seen_sec


def _described(info: ObjectInfo, row: tuple[Any, ...]) -> tuple[ObjectInfo, float] | None:
    """A version with the metadata of a row, if it is of this version."""
    _, etag, modified_sec, text, content_type, seen_sec = row
    if (etag, modified_sec) != (info.etag, info.modified_sec):
        return None
    try:
        metadata = dict(json.loads(text))
        return info._replace(metadata=metadata, content_type=content_type), float(seen_sec)
    except (ValueError, TypeError) as error:
        log.warning("the attributes of %r are damaged and asked for anew: %s", info.key, error)
        return None
