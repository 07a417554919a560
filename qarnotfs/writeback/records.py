"""The journal's rows on disk: one SQLite file, each change one transaction.

Used by `journal`, and by `adoption` for the journal of a mount that died. It knows rows,
not debts: a number and a text. Never deletes a row but when told to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qarnotfs.errors import FileError, NoSpace

SCHEMA = "CREATE TABLE IF NOT EXISTS debts (id INTEGER PRIMARY KEY, record TEXT NOT NULL)"
WRITE = "INSERT OR REPLACE INTO debts VALUES (?, ?)"
REMOVE = "DELETE FROM debts WHERE id = ?"


class Records:
    """The rows of one journal, whose lock the caller holds."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(SCHEMA)
            self._db.execute("SELECT count(*) FROM debts").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise FileError(
                f"The journal {path} cannot be read ({error}). Files that were not uploaded are "
                f"in {path.parent / 'staged'}: move {path.parent} away, keep it, and mount again."
            ) from error

    def rows(self) -> list[tuple[int, str]]:
        """Every row, in the order of their numbers."""
        return self._db.execute("SELECT id, record FROM debts ORDER BY id").fetchall()

    def change(self, written: Sequence[tuple[int, str]], removed: Sequence[int]) -> None:
        """Write and remove rows, all or none; `NoSpace` or `FileError`: none."""
        if not written and not removed:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(WRITE, written)
                self._db.executemany(REMOVE, [(number,) for number in removed])
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if "full" in str(error):
                raise NoSpace("The disk that holds the journal is full.") from error
            raise FileError(f"The journal cannot be written: {error}.") from error

    def close(self) -> None:
        self._db.close()
