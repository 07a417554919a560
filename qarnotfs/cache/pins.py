"""Which versions are never evicted: a small database in the cache directory.

Used by `disk`, in every process that uses the directory: what one pins, no other evicts.
Disposable like the cache itself: when it is lost, pinned bytes may be evicted and fetched again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from qarnotfs.errors import FileError

log = logging.getLogger(__name__)

BUSY_SEC = 5.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (prefix TEXT, name TEXT, bytes INTEGER NOT NULL,
    PRIMARY KEY (prefix, name)) WITHOUT ROWID
"""
BESIDES = "SELECT SUM(bytes) FROM (SELECT DISTINCT name, bytes FROM versions WHERE prefix != ?)"


class Pins:
    """Prefixes of keys, each with the cache entries of the versions that were found below it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, directory: Path) -> Pins:
        """The pins of a cache directory."""
        return cls(directory / "pins.db")

    def pin(self, prefix: str, versions: Iterable[tuple[str, int]]) -> None:
        """(entry, bytes) of every version below ``prefix``, instead of those pinned before."""
        with self._changed() as db:
            db.execute("DELETE FROM versions WHERE prefix = ?", (prefix,))
            rows = ((prefix, name, size) for name, size in versions)
            db.executemany("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", rows)

    def unpin(self, prefix: str) -> bool:
        """Forget a prefix; whether it was pinned. What is cached of it may be evicted then."""
        with self._changed() as db:
            return db.execute("DELETE FROM versions WHERE prefix = ?", (prefix,)).rowcount > 0

    def names(self) -> frozenset[str]:
        """Every entry that must stay."""
        return frozenset(name for (name,) in self._rows("SELECT DISTINCT name FROM versions"))

    def bytes_besides(self, prefix: str) -> int:
        """How much is pinned for other prefixes."""
        return sum(row[0] or 0 for row in self._rows(BESIDES, prefix))

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open()) as db, db:
                yield db
        except (OSError, sqlite3.Error) as error:
            raise FileError(f"{self._path} cannot be written: {error}.") from error

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            if not self._path.exists():
                return []
            with closing(self._open()) as db:
                return db.execute(query, values).fetchall()
        except (OSError, sqlite3.Error) as error:
            log.warning("%s cannot be read, nothing is pinned: %s", self._path, error)
            return []

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_SEC)
        try:
            db.execute(SCHEMA)
        except sqlite3.DatabaseError as error:
            db.close()
            if isinstance(error, sqlite3.OperationalError):  # busy, or a full disk
                raise
            log.warning("%s is damaged and made anew: %s", self._path, error)
            self._path.unlink(missing_ok=True)
            db = sqlite3.connect(self._path, timeout=BUSY_SEC)
            db.execute(SCHEMA)
        return db
