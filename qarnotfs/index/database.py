"""The file that beliefs are kept in: opened, shared, tidied up.

Used by `beliefs`. The file is disposable: when it is broken, of another format or of another
bucket it is made anew, and while it cannot be opened (a full disk, a lock held too long)
beliefs simply live in memory alone: other mounts may be using the file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = 4
BUSY_MS = 200  # another process writes: rather forget a belief than hold up the mount
OPEN_SEC = 5.0  # the same at the start, when nobody waits for a file yet
SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, validated REAL NOT NULL,
    size INTEGER, etag TEXT, modified INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attributes (key TEXT PRIMARY KEY, etag TEXT, modified INTEGER,
    metadata TEXT NOT NULL, content_type TEXT, seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (prefix TEXT PRIMARY KEY, validated REAL NOT NULL,
    number INTEGER NOT NULL, page_count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pages (number INTEGER, first TEXT, last TEXT NOT NULL,
    count INTEGER NOT NULL, checksum INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (number, first));
CREATE TABLE IF NOT EXISTS patches (number INTEGER, name TEXT, present INTEGER NOT NULL,
    size INTEGER, etag TEXT, modified INTEGER, PRIMARY KEY (number, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (changed REAL, key TEXT, owner INTEGER NOT NULL,
    PRIMARY KEY (changed, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changes_of_key ON changes (key);
CREATE TABLE IF NOT EXISTS doubts (key TEXT, owner INTEGER, PRIMARY KEY (key, owner)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT, validated REAL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Database:
    """``users``: a file that everybody who has the database open locks; of one in memory none."""

    db: sqlite3.Connection
    users: int | None = None

    def close(self) -> None:
        self.db.close()
        if self.users is not None:
            os.close(self.users)


def opened(path: Path) -> Database:
    """The database at a path, or one in memory where that cannot be used."""
    place = path.parent.name  # which tells of the bucket and its endpoint
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = _open_anew_if_broken(path, place)
        try:
            return Database(db, _joined(db, path.with_suffix(".users")))
        except BaseException:
            db.close()
            raise
    except (sqlite3.Error, OSError) as error:  # such as busy for long, or a full disk
        log.warning("%s cannot be used, beliefs end with this mount: %s", path, error)
        return Database(_open(":memory:", place))


def _joined(db: sqlite3.Connection, path: Path) -> int:
    """Use the database until we end, however that is, and tidy up after those who did not."""
    users = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        _tidy(db, is_alone=is_alone)
        db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        fcntl.flock(users, fcntl.LOCK_SH)
    except BaseException:
        os.close(users)
        raise
    return users


def _tidy(db: sqlite3.Connection, *, is_alone: bool) -> None:
    """What mounts that died left: a live one's doubts and growing listings are its own."""
    for key in db.execute("SELECT key FROM doubts").fetchall():
        forget(db, *key)
    if is_alone:
        db.execute("DELETE FROM doubts")
        db.execute("DELETE FROM changes")
        for table in ("pages", "patches"):
            db.execute(f"DELETE FROM {table} WHERE number NOT IN (SELECT number FROM listings)")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or none; within another one it is a part of that."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


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


def forget(db: sqlite3.Connection, key: str) -> None:
    """Believe nothing about a key, nor a listing that would tell of it."""
    db.execute("DELETE FROM objects WHERE key = ?", (key,))
    db.execute("DELETE FROM listings WHERE prefix = substr(?, 1, length(prefix))", (key,))
