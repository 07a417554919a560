"""Beliefs on disk: a SQLite file shared by every mount on one cache directory.

Used by `index` only. Every method is one short statement or transaction. The file is
disposable: when it is broken, of another format or of another bucket it is made anew, and
while it cannot be opened or written (a full disk, a lock held too long) beliefs simply live
in memory alone: other mounts may be using the file.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo

log = logging.getLogger(__name__)

FORMAT = 3
BUSY_MS = 200  # another process writes: rather forget a belief than hold up the mount
OPEN_SEC = 5.0  # the same at the start, when nobody waits for a file yet
SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, validated REAL NOT NULL,
    size INTEGER, etag TEXT, modified INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attributes (key TEXT PRIMARY KEY, etag TEXT, modified INTEGER,
    metadata TEXT NOT NULL, content_type TEXT, seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (prefix TEXT PRIMARY KEY, validated REAL NOT NULL,
    number INTEGER NOT NULL, page_count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pages (number INTEGER, first TEXT, data BLOB NOT NULL,
    PRIMARY KEY (number, first));
CREATE TABLE IF NOT EXISTS patches (number INTEGER, name TEXT, present INTEGER NOT NULL,
    size INTEGER, etag TEXT, modified INTEGER, PRIMARY KEY (number, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubts (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT, validated REAL) WITHOUT ROWID;
"""
# Of two mounts that heard of one object, the one that asked later knows better.
SAVE_OBJECT = """
INSERT INTO objects VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET validated =
    excluded.validated, size = excluded.size, etag = excluded.etag, modified = excluded.modified
    WHERE excluded.validated >= objects.validated
"""
SAVE_ATTRIBUTES = "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?, ?)"
AMONG = "key IN (SELECT value FROM json_each(?))"
WAITING_MAX = 1000  # rows; more are written at once


@dataclass(frozen=True, slots=True)
class Belief:
    """A version, or (``None``) that there is no object; validated at a time since 1970."""

    info: ObjectInfo | None
    validated_sec: float


class Beliefs:
    """The database. No method raises for a database that does not work."""

    def __init__(self, path: Path) -> None:
        place = path.parent.name  # which tells of the bucket and its endpoint
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = _open_anew_if_broken(path, place)
        except (sqlite3.Error, OSError) as error:  # such as busy for long, or a full disk
            log.warning("%s cannot be used, beliefs end with this mount: %s", path, error)
            self._db = _open(":memory:", place)
        # Whether what was heard waits for `flush`, which writes many rows for the price of a few.
        self.delays = False
        self._heard: dict[str, Belief] = {}
        self._described: dict[str, tuple[ObjectInfo, float]] = {}  # and when it was seen

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
        with suppress(sqlite3.Error), _transaction(self._db):
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
        self._write("INSERT OR REPLACE INTO doubts VALUES (?)", [(key,)])

    def end_doubt(self, key: str) -> None:
        self._write("DELETE FROM doubts WHERE key = ?", [(key,)])

    def forget(self, key: str) -> None:
        """Believe nothing about a key, nor a listing that would tell of it."""
        self._heard.pop(key, None)
        with suppress(sqlite3.Error):
            _forget(self._db, key)

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
            for first, data in self._rows(
                "SELECT first, data FROM pages WHERE number = ? ORDER BY first", row[1]
            ):
                listing.extend_packed(first, data)
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
        self._write(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?)",
            [(listing.number, *listing.packed(number))],
        )

    def save_listing(self, listing: Listing) -> None:
        """A listing whose pages are all saved takes the place of what was known before."""
        with suppress(sqlite3.Error), _transaction(self._db):
            old = self._row("SELECT number FROM listings WHERE prefix = ?", listing.prefix)
            if old:
                self._db.execute("DELETE FROM pages WHERE number = ?", old)
                self._db.execute("DELETE FROM patches WHERE number = ?", old)
            self._db.execute(
                "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)",
                (listing.prefix, listing.validated_sec, listing.number, listing.page_count),
            )

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
        self._db.close()

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


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


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
        return replace(info, metadata=metadata, content_type=content_type), float(seen_sec)
    except (ValueError, TypeError) as error:
        log.warning("the attributes of %r are damaged and asked for anew: %s", info.key, error)
        return None


def _open_anew_if_broken(path: Path, place: str) -> sqlite3.Connection:
    try:
        return _open(path, place)
    except sqlite3.OperationalError:  # nothing is wrong with the file: others may have it open
        raise
    except sqlite3.DatabaseError as error:
        log.warning("the beliefs in %s cannot be read (%s) and are made anew", path, error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open(path, place)


def _open(path: Path | str, place: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=OPEN_SEC)
    try:
        _prepare(db, place)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, place: str) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found not in (0, FORMAT):
        raise sqlite3.DatabaseError(f"format {found}, not {FORMAT}")
    db.executescript(SCHEMA)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("INSERT OR IGNORE INTO facts VALUES ('place', ?, 0)", (place,))
    (whose,) = db.execute("SELECT value FROM facts WHERE name = 'place'").fetchone()
    if whose != place:
        raise sqlite3.DatabaseError(f"of {whose}, not {place}")
    for key in db.execute("SELECT key FROM doubts").fetchall():  # of a mount that died
        _forget(db, *key)
    for table in ("pages", "patches"):  # of listings that were never finished
        db.execute(f"DELETE FROM {table} WHERE number NOT IN (SELECT number FROM listings)")
    db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")


def _forget(db: sqlite3.Connection, key: str) -> None:
    db.execute("DELETE FROM objects WHERE key = ?", (key,))
    db.execute("DELETE FROM listings WHERE prefix = substr(?, 1, length(prefix))", (key,))
    db.execute("DELETE FROM doubts WHERE key = ?", (key,))
