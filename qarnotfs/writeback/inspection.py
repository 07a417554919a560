"""What a journal directory holds, looked at from outside: every doubt is a `Finding`.

Used by ``qarnotfs check``. It changes nothing: the database of a journal that no mount uses
is read from a copy, that of a living mount through SQLite's read-only door, beside which the
mount writes on. Knows the disk only, never the bucket.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qarnotfs.errors import Corrupt
from qarnotfs.writeback.debts import Kind, Record, unpack
from qarnotfs.writeback.staging import Staged

MOUNT_AGAIN = "Mount the bucket with this cache directory:"


class Severity(Enum):
    """NOTE: all is well once the bucket is mounted again. ERROR: somebody must look at it."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know: what it is, where, and what to do next, in sentences.

    ``details`` is for programs: JSON values.
    """

    severity: Severity
    what: str
    where: Path
    next: str
    details: dict[str, Any] = field(default_factory=dict)


def is_in_use(directory: Path) -> bool:
    """Whether a living mount holds the lock of a journal directory."""
    try:
        fd = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@dataclass(frozen=True, slots=True)
class Inspected:
    """One journal directory: whether a living mount uses it, and what is to be said of it."""

    directory: Path
    in_use: bool
    findings: list[Finding]


def inspect(directory: Path) -> Inspected:
    """Look at one journal directory. Raises nothing: what cannot be read is a finding."""
    try:
        living = is_in_use(directory)
        found = list(_Inspection(directory, living=living).findings())
        if is_in_use(directory) != living:  # a mount began or ended meanwhile
            return inspect(directory)
    except OSError as error:
        return Inspected(directory, False, [_out_of_reach(directory, error)])
    return Inspected(directory, living, found)


def _out_of_reach(directory: Path, error: OSError) -> Finding:
    return Finding(
        Severity.ERROR,
        f"The journal cannot be looked at: {error.strerror}.",
        Path(error.filename or directory),
        "Run the check as the owner of the directory, and with its disk in order.",
    )


class _Inspection:
    """One look at one journal directory."""

    def __init__(self, directory: Path, *, living: bool) -> None:
        self._directory, self._living = directory, living
        self._staged = directory / "staged"
        self._records: dict[int, Record] = {}
        self._texts: dict[int, str] = {}
        self._uploads: list[tuple[str, str]] = []  # (id, key)
        self._moves: list[tuple[str, str]] = []  # (key, new key)

    def findings(self) -> Iterator[Finding]:
        if not (self._directory / "journal.db").exists():
            if not self._living:  # a mount that begins has none for a moment
                yield from self._orphans()
            yield from self._quarantined()
            return
        try:
            broken = self._read()
        except sqlite3.Error as error:
            yield self._unreadable(error)
            yield from self._quarantined()
            return
        yield from broken
        yield from self._debts()
        if not self._living:
            yield from self._waiting()
            yield from self._orphans()
        yield from self._quarantined()

    # --- the database -------------------------------------------------------------------------

    def _read(self) -> list[Finding]:
        """Take in every row; those that cannot be believed are findings."""
        broken = []
        with _opened(self._directory / "journal.db", living=self._living) as db:
            for debt_id, text in db.execute("SELECT id, record FROM debts ORDER BY id").fetchall():
                self._texts[debt_id] = text
                try:
                    self._records[debt_id] = unpack(text)
                except Corrupt as error:
                    broken.append(self._broken(debt_id, str(error)))
            if _has_table(db, "uploads"):
                self._uploads = db.execute("SELECT id, key FROM uploads").fetchall()
            if _has_table(db, "moving"):
                query = "SELECT key, new_key FROM moving WHERE new_key != ''"
                self._moves = db.execute(query).fetchall()
        return broken

    def _unreadable(self, error: Exception) -> Finding:
        return Finding(
            Severity.ERROR,
            f"The journal cannot be read ({error}). The files in {self._staged} may be all there"
            " is of what it owed.",
            self._directory / "journal.db",
            "Keep a copy of the whole directory. The next mount sets it aside in quarantine and"
            " begins a new one.",
        )

    def _broken(self, debt_id: int, reason: str) -> Finding:
        return Finding(
            Severity.ERROR,
            f"{reason[:-1]} (row {debt_id}): what it owed is unknown.",
            self._directory / "journal.db",
            "Nothing is deleted: the next mount moves the record, and the staged file that nobody"
            " else owns, to quarantine.",
            {"row": debt_id},
        )

    # --- debts --------------------------------------------------------------------------------

    def _debts(self) -> Iterator[Finding]:
        for debt_id, record in self._records.items():
            if doubt := self._doubt(record):
                if not self._living or self._still_says(debt_id):
                    yield self._damaged(record, doubt)
            elif record.error:
                yield self._refused(record)

    def _doubt(self, record: Record) -> str:
        """Why the staged file of a record is not what was accepted; empty: it is."""
        if not record.staged_name or not record.seal:
            return ""
        staged, seal = Staged(self._staged / record.staged_name, record.base), record.seal
        end = seal.extents[-1][1] if seal.extents else 0
        try:
            if not record.was_open:
                staged.verify(seal)
            elif end and staged.path.stat().st_size < end:  # its checksum is not known
                return f"The staged file {staged.path} is shorter than what was written."
        except Corrupt as error:
            return str(error)
        except OSError as error:
            return f"The staged file {staged.path} cannot be read: {error.strerror}."
        return ""

    def _still_says(self, debt_id: int) -> bool:
        """Whether a living mount has not paid, or reopened, the debt while we looked."""
        query = "SELECT record FROM debts WHERE id = ?"
        with _opened(self._directory / "journal.db", living=True) as db:
            return db.execute(query, (debt_id,)).fetchall() == [(self._texts[debt_id],)]

    def _damaged(self, record: Record, doubt: str) -> Finding:
        return Finding(
            Severity.ERROR,
            f"{doubt} It belongs to '{record.key}', and will not be uploaded.",
            self._staged / (record.staged_name or ""),
            "Look for another copy of the file. What is left of it is never deleted: the next mount"
            " keeps it in error, or in quarantine where it is too short.",
            self._described(record),
        )

    def _refused(self, record: Record) -> Finding:
        held = "It is in the staged file" if _is_whole(record) else _in_part(record)
        return Finding(
            Severity.ERROR,
            f"'{record.key}' could not be uploaded: {record.error} {held}.",
            self._staged / record.staged_name if record.staged_name else self._directory,
            "Remove the reason, then mount the bucket again: it is tried anew.",
            self._described(record),
        )

    def _waiting(self) -> Iterator[Finding]:
        if self._records:
            bytes_waiting = sum(
                record.seal.size for record in self._records.values() if record.seal
            )
            yield Finding(
                Severity.NOTE,
                f"{len(self._records)} changes ({bytes_waiting} bytes) are not in the bucket yet,"
                " and no mount is uploading them.",
                self._directory,
                f"{MOUNT_AGAIN} it uploads them first.",
                {"debts": [self._described(record) for record in self._records.values()]},
            )
        if self._moves:
            old, new = self._moves[0]
            yield Finding(
                Severity.NOTE,
                f"A rename was cut off ('{old}' to '{new}', {len(self._moves)} keys): some may be"
                " under both names.",
                self._directory,
                f"{MOUNT_AGAIN} it finishes the rename before it answers.",
                {"moves": dict(self._moves)},
            )
        for upload_id, key in self._uploads:
            yield Finding(
                Severity.NOTE,
                f"A multipart upload of '{key}' was cut off; its parts are in the bucket, where"
                " no listing shows them.",
                self._directory,
                f"{MOUNT_AGAIN} it goes on with the upload, or aborts it.",
                {"key": key, "upload": upload_id},
            )

    def _described(self, record: Record) -> dict[str, Any]:
        """A debt for programs. ``ranges``: what the staged file holds, the rest is the base's."""
        seal, base = record.seal, record.base
        return {
            "kind": record.kind.value,
            "key": record.key,
            "reason": record.error,
            "staged_file": str(self._staged / record.staged_name) if record.staged_name else None,
            "size": seal.size if seal else None,
            "ranges": [list(extent) for extent in seal.extents] if seal else [],
            "whole": _is_whole(record),
            "base_etag": base.etag if base else None,
        }

    # --- what no record names -------------------------------------------------------------------

    def _orphans(self) -> Iterator[Finding]:
        known = {record.staged_name for record in self._records.values()}
        for path in _files(self._staged):
            if path.name not in known and path.stat().st_size and path.stat().st_nlink == 1:
                yield Finding(
                    Severity.WARNING,
                    "No record names this staged file: its program had not closed it when the"
                    " mount died.",
                    path,
                    f"{MOUNT_AGAIN} it moves the file to quarantine.",
                )

    def _quarantined(self) -> Iterator[Finding]:
        for path in _files(self._directory / "quarantine"):
            yield Finding(
                Severity.WARNING,
                _story(path),
                path,
                "Save what you need of it; then delete it. No mount reads it again.",
            )


@contextmanager
def _opened(database: Path, *, living: bool) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing on disk."""
    with TemporaryDirectory(prefix="qarnotfs-check-") as room:
        if living:
            db = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        else:  # opening it would replay, and remove, its write-ahead log
            for name in (database.name, f"{database.name}-wal"):
                if (database.parent / name).exists():
                    shutil.copyfile(database.parent / name, Path(room, name))
            db = sqlite3.connect(Path(room, database.name))
        try:
            yield db
        finally:
            db.close()


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return db.execute(query, (name,)).fetchone() is not None


def _files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _is_whole(record: Record) -> bool:
    if record.kind is not Kind.PUT or record.seal is None:
        return record.kind is Kind.PUT
    return list(record.seal.extents) == ([(0, record.seal.size)] if record.seal.size else [])


def _in_part(record: Record) -> str:
    if record.kind is not Kind.PUT:
        return "No bytes wait for it"
    return "The staged file has only the ranges that were changed (--json lists them)"


def _story(path: Path) -> str:
    if path.is_dir():
        return "A journal that could not be read, set aside whole with its staged files."
    if path.suffix != ".json":
        return "A file that no record named when its mount had died: never closed, or half removed."
    try:
        return f"A record that could not be used, of '{unpack(path.read_text()).key}'."
    except (Corrupt, OSError, UnicodeDecodeError):
        return "A record that could not be read."
