"""Beliefs on disk: a SQLite file shared by every mount on one cache directory.

Used by `index` only. Every method is one short statement or transaction. The file is
disposable: when it is broken or of another format it is made anew, and while it cannot
be written (a full disk, a lock held too long) beliefs simply live in memory alone.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qarnotfs.store.base import Attributes, ObjectInfo

log = logging.getLogger(__name__)

FORMAT = 1
BUSY_MS = 200  # another process writes: rather forget a belief than hold up the mount
SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, validated REAL NOT NULL,
    size INTEGER, etag TEXT, modified INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attributes (key TEXT, etag TEXT, modified INTEGER,
    metadata TEXT NOT NULL, content_type TEXT, PRIMARY KEY (key, etag, modified)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (prefix TEXT PRIMARY KEY,
    validated REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (prefix TEXT, name TEXT, size INTEGER, etag TEXT,
    modified INTEGER, PRIMARY KEY (prefix, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT, validated REAL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Belief:
    """A version, or (``None``) that there is no object; validated at a time since 1970."""

    info: ObjectInfo | None
    validated_sec: float


@dataclass(slots=True)
class Listing:
    """A directory: its objects by key and its common prefixes (full, ending in ``/``).

    ``prefix`` is what was listed with delimiter ``/``. Changed in place by `index` alone.
    """

    prefix: str
    validated_sec: float
    objects: dict[str, ObjectInfo]
    prefixes: set[str]


class Beliefs:
    """The database. No method raises for a database that does not work."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            log.warning("the beliefs in %s cannot be read (%s) and are made anew", path, error)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_MS / 1000)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            db.close()
            raise sqlite3.DatabaseError(f"format {found}, not {FORMAT}")
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA user_version = {FORMAT}")
        return db

    # --- single objects -----------------------------------------------------------------------

    def object(self, key: str) -> Belief | None:
        row = self._row("SELECT validated, size, etag, modified FROM objects WHERE key = ?", key)
        if row is None:
            return None
        return Belief(ObjectInfo(key, row[1], row[2], row[3]) if row[2] else None, row[0])

    def save_object(self, key: str, belief: Belief) -> None:
        info = belief.info
        version = (info.size, info.etag, info.modified_sec) if info else (None, None, None)
        self._write(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
            [(key, belief.validated_sec, *version)],
        )

    def attributes(self, info: ObjectInfo) -> Attributes | None:
        """Metadata of exactly this version, once seen."""
        row = self._row(
            "SELECT metadata, content_type FROM attributes"
            " WHERE key = ? AND etag = ? AND modified = ?",
            info.key, info.etag, info.modified_sec,
        )  # fmt: skip
        return Attributes(json.loads(row[0]), row[1]) if row else None

    def save_attributes(self, info: ObjectInfo) -> None:
        metadata = json.dumps(dict(info.metadata or {}))
        self._write(
            "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?)",
            [(info.key, info.etag, info.modified_sec, metadata, info.content_type)],
        )

    # --- listings -----------------------------------------------------------------------------

    def listing(self, prefix: str) -> Listing | None:
        row = self._row("SELECT validated FROM listings WHERE prefix = ?", prefix)
        if row is None:
            return None
        listing = Listing(prefix, row[0], {}, set())
        for name, size, etag, modified in self._rows(
            "SELECT name, size, etag, modified FROM entries WHERE prefix = ?", prefix
        ):
            if etag is None:
                listing.prefixes.add(name)
            else:
                listing.objects[name] = ObjectInfo(name, size, etag, modified)
        return listing

    def save_listing(self, listing: Listing) -> None:
        """Replace what is known of a directory, as one transaction."""
        with suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("DELETE FROM entries WHERE prefix = ?", (listing.prefix,))
                self._db.execute(
                    "INSERT OR REPLACE INTO listings VALUES (?, ?)",
                    (listing.prefix, listing.validated_sec),
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                    [_entry(listing.prefix, info.key, info) for info in listing.objects.values()]
                    + [_entry(listing.prefix, name, None) for name in listing.prefixes],
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def save_entry(self, prefix: str, name: str, info: ObjectInfo | None, *, present: bool) -> None:
        """One name appeared in, or went from, a directory; ``info`` is ``None`` for a prefix."""
        if present:
            self._write(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                [_entry(prefix, name, info)],
            )
        else:
            self._write("DELETE FROM entries WHERE prefix = ? AND name = ?", [(prefix, name)])

    # --- facts about the server ---------------------------------------------------------------

    def fact(self, name: str) -> tuple[str, float] | None:
        """(value, validated) of something else worth remembering, such as what a probe found."""
        row = self._row("SELECT value, validated FROM facts WHERE name = ?", name)
        return (row[0], row[1]) if row else None

    def save_fact(self, name: str, value: str, validated_sec: float) -> None:
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", [(name, value, validated_sec)])

    def close(self) -> None:
        self._db.close()

    # --- inside -------------------------------------------------------------------------------

    def _row(self, query: str, *values: str | int) -> tuple[Any, ...] | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    def _rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
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


def _entry(
    prefix: str, name: str, info: ObjectInfo | None
) -> tuple[str, str, int | None, str | None, int | None]:
    if info is None:
        return prefix, name, None, None, None
    return prefix, name, info.size, info.etag, info.modified_sec
