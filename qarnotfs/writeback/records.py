"""The journal's rows on disk: one SQLite file, each change one transaction.

Used by `journal` and `uploads`, and by `adoption` for the journal of a mount that died. It
knows rows, not debts: a number and a text; and beside them the multipart uploads under way
and their parts. Never deletes a row but when told to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from qarnotfs.errors import Corrupt, FileError, NoSpace

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS debts (id INTEGER PRIMARY KEY, record TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, key TEXT NOT NULL,"
    " staged TEXT NOT NULL, part_bytes INTEGER NOT NULL, base_etag TEXT)",
    "CREATE TABLE IF NOT EXISTS parts (upload TEXT, number INTEGER, etag TEXT NOT NULL,"
    " copied INTEGER NOT NULL, PRIMARY KEY (upload, number)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS moving (key TEXT PRIMARY KEY, new_key TEXT NOT NULL,"
    " etag TEXT, replaced_etag TEXT) WITHOUT ROWID",
)
WRITE = "INSERT OR REPLACE INTO debts VALUES (?, ?)"
REMOVE = "DELETE FROM debts WHERE id = ?"
WRITE_UPLOAD = "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?)"
WRITE_MOVE = "INSERT OR REPLACE INTO moving VALUES (?, ?, ?, ?)"
END_MOVE = "DELETE FROM moving WHERE key = ?"
WRITE_PART = "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)"
END_UPLOAD = ("DELETE FROM uploads WHERE id = ?", "DELETE FROM parts WHERE upload = ?")


PRIMARY = 0xFF  # of an extended result code of SQLite
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class UploadRow(NamedTuple):
    """A multipart upload under way: of which staged file, over which version, to which key."""

    id: str
    key: str
    staged_name: str
    part_bytes: int
    base_etag: str | None


class PartRow(NamedTuple):
    """A part that arrived; ``copied`` on the server, from the base."""

    number: int
    etag: str
    copied: bool


class MoveRow(NamedTuple):
    """A key that is being renamed, or is below a directory that is, and which version it has.

    That is ``None`` where bytes are owed, of which any version may have been stored since. (The
    time would not tell: nobody says when what we upload is stored, and our clock is not theirs.)
    ``new_key`` is empty for a directory's name alone, which is to go. ``replaced_etag``: of
    what a single file is renamed over, empty for nothing; ``None`` below a directory.
    """

    key: str
    new_key: str
    etag: str | None
    replaced_etag: str | None = None


class Records:
    """The rows of one journal, whose lock the caller holds.

    Opening raises `Corrupt` for a file that is no journal any more, which is left as it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._db = _opened(path)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & PRIMARY in DAMAGED:
                raise Corrupt(f"The journal {path} is damaged: {error}.") from error
            raise FileError(
                f"The journal {path} cannot be opened ({error}): see to its disk, and mount again."
            ) from error

    def rows(self) -> list[tuple[int, str]]:
        """Every row, in the order of their numbers."""
        return self._db.execute("SELECT id, record FROM debts ORDER BY id").fetchall()

    def uploads(self) -> list[UploadRow]:
        """Every upload that was not ended."""
        return [UploadRow(*row) for row in self._db.execute("SELECT * FROM uploads")]

    def parts(self, upload_id: str) -> list[PartRow]:
        """The parts of an upload that arrived."""
        query = "SELECT number, etag, copied FROM parts WHERE upload = ?"
        return [PartRow(n, etag, bool(c)) for n, etag, c in self._db.execute(query, (upload_id,))]

    def change(
        self,
        written: Sequence[tuple[int, str]],
        removed: Sequence[int],
        *,
        ended: Sequence[str] = (),
        moved: Collection[str] = (),
        begun: Sequence[MoveRow] = (),
    ) -> None:
        """Write and remove rows, also of uploads that ended and of keys that moved, all or none.

        ``begun``: moves to write; they stay where a key has ``moved`` before. None when it raises
        `NoSpace` or `FileError`.
        """
        if not (written or removed or ended or moved or begun):
            return
        with self._transaction() as db:
            db.executemany(WRITE, written)
            db.executemany(REMOVE, [(number,) for number in removed])
            for upload_id in ended:
                for statement in END_UPLOAD:
                    db.execute(statement, (upload_id,))
            db.executemany(END_MOVE, [(key,) for key in moved])
            db.executemany(WRITE_MOVE, begun)

    def write_upload(self, upload: UploadRow, parts: Sequence[PartRow]) -> None:
        """An upload, with the parts it has already."""
        with self._transaction() as db:
            db.execute(WRITE_UPLOAD, upload)
            db.executemany(WRITE_PART, [(upload.id, *part) for part in parts])

    def write_part(self, upload_id: str, part: PartRow) -> None:
        """A part that arrived."""
        with self._transaction() as db:
            db.execute(WRITE_PART, (upload_id, *part))

    def moves(self) -> list[MoveRow]:
        """Every key that is being renamed."""
        return [MoveRow(*row) for row in self._db.execute("SELECT * FROM moving")]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if "full" in str(error):
                raise NoSpace("The disk that holds the journal is full.") from error
            raise FileError(f"The journal cannot be written: {error}.") from error

    def remove(self) -> None:
        """Every row, with the file itself; nothing may be asked or changed afterwards."""
        self._db.close()  # which may empty the log beside it; else that goes first
        for ending in ("-wal", "-shm", ""):
            Path(f"{self._path}{ending}").unlink(missing_ok=True)

    def close(self) -> None:
        self._db.close()


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        for table in SCHEMA:
            db.execute(table)
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Corrupt(f"The journal {path} is damaged: {verdict}.")
    except BaseException:
        db.close()
        raise
    return db
