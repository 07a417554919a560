"""What ``check`` finds in a journal directory: every kind of finding, made for real."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from qarnotfs.store.base import Attributes, Condition, ObjectInfo
from qarnotfs.writeback.adoption import JournalLock
from qarnotfs.writeback.debts import Debt
from qarnotfs.writeback.inspection import Finding, Severity, inspect
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import MoveRow

ABSENT = Condition(absent=True)
BASE = ObjectInfo("based", 100, "e" * 32, 0)


def put(journal: Journal, key: str, data: bytes, base: ObjectInfo | None = None) -> Debt:
    """A file that was written and closed."""
    staged = journal.staging.create(base)
    staged.write(10 if base else 0, data)
    debt = journal.open(key, staged, Attributes(), ABSENT)
    journal.record(debt, staged.seal())
    journal.release(debt, 0.0)
    staged.close()
    return debt


def staged_path(debt: Debt) -> Path:
    assert debt.staged is not None
    return debt.staged.path


def one(directory: Path, severity: Severity) -> Finding:
    """The only finding of a kind."""
    [finding] = [found for found in inspect(directory).findings if found.severity is severity]
    return finding


def fingerprint(directory: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_nothing_owed_is_nothing_found(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert inspect(tmp_path).findings == []


def test_a_key_that_is_renamed_again_before_its_last_rename_is_off_the_disk(tmp_path: Path) -> None:
    """That goes with the next record, which is the new one."""
    journal = Journal(tmp_path)
    journal.begin_moves([MoveRow("a", "b", "1", ""), MoveRow("c", "d", "1", "")])
    journal.moves.over.update("ac")
    journal.begin_moves([MoveRow("a", "y", "2", "")])
    journal.close()
    again = Journal(tmp_path)
    assert again.moves.left == [MoveRow("a", "y", "2", "")]
    again.close()


def test_a_rename_that_was_cut_off_is_explained(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin_moves([MoveRow("old/", "", None), MoveRow("old/a", "new/a", "1")])
    journal.close()
    finding = one(tmp_path, Severity.NOTE)
    assert "('old/a' to 'new/a', 1 keys)" in finding.what
    assert finding.details == {"moves": {"old/a": "new/a"}}


def test_what_waits_is_counted_and_listed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"12345")
    journal.owe_delete("b", Condition())
    note = one(tmp_path, Severity.NOTE)
    assert "2 changes (5 bytes)" in note.what
    assert [debt["key"] for debt in note.details["debts"]] == ["a", "b"]
    assert len(inspect(tmp_path).findings) == 1


def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    """The journal of a dead mount still has its write-ahead log, and keeps it."""
    journal = Journal(tmp_path)
    put(journal, "a", b"12345")
    before = fingerprint(tmp_path)
    assert (tmp_path / "journal.db-wal").stat().st_size
    inspect(tmp_path)
    assert fingerprint(tmp_path) == before
    journal.close()


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_staged_file_is_found(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path)
    path = staged_path(put(journal, "precious", b"12345"))
    put(journal, "other", b"fine")
    match damage:
        case "cut":
            os.truncate(path, 3)
        case "changed":
            path.write_bytes(b"12X45")
        case _:
            path.unlink()
    error = one(tmp_path, Severity.ERROR)
    assert "'precious'" in error.what
    assert error.where == path


def test_a_file_that_was_open_is_only_measured(tmp_path: Path) -> None:
    """Its newest bytes count, whose checksum nobody knows."""
    journal = Journal(tmp_path)
    debt = put(journal, "a", b"12345")
    journal.reopen(debt)
    staged_path(debt).write_bytes(b"54321")
    assert [found.severity for found in inspect(tmp_path).findings] == [Severity.NOTE]
    os.truncate(staged_path(debt), 2)
    assert "shorter" in one(tmp_path, Severity.ERROR).what


def test_a_refused_file_is_named_with_its_reason_and_ranges(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "based", b"XYZ", BASE)
    journal.begin(debt)
    journal.fail(debt, "Access was denied.")
    error = one(tmp_path, Severity.ERROR)
    assert "Access was denied." in error.what
    assert "only the ranges" in error.what
    assert error.where == staged_path(debt)
    assert (error.details["ranges"], error.details["whole"]) == ([[10, 13]], False)
    assert error.details["base_etag"] == BASE.etag


def test_a_broken_record_is_found_and_its_file_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    path = staged_path(put(journal, "a", b"12345"))
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("UPDATE debts SET record = replace(record, 'put', 'pot')")
    db.close()
    assert "wrong checksum" in one(tmp_path, Severity.ERROR).what
    assert one(tmp_path, Severity.WARNING).where == path


@pytest.mark.parametrize("content", [b"garbage" * 1000, b""], ids=["garbage", "empty"])
def test_a_journal_that_is_none(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"12345")
    journal.close()
    for path in tmp_path.glob("journal.db*"):
        path.write_bytes(content)
    assert one(tmp_path, Severity.ERROR).where == tmp_path / "journal.db"


def test_a_file_that_was_never_closed_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    staged = journal.staging.create(None)
    staged.write(0, b"half")
    journal.open("a", staged, Attributes(), ABSENT)
    assert one(tmp_path, Severity.WARNING).where == staged.path


def test_what_was_set_aside_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    staged = journal.staging.create(None)
    staged.write(0, b"half")
    staged.close()
    journal.close()
    Journal(tmp_path).close()
    warning = one(tmp_path, Severity.WARNING)
    assert warning.where.read_bytes() == b"half"
    assert warning.where.parent == tmp_path / "quarantine"


def test_a_living_mount_is_no_finding(tmp_path: Path) -> None:
    lock = JournalLock.take(tmp_path)
    assert lock is not None
    journal = Journal(tmp_path)
    put(journal, "a", b"12345")
    staged = journal.staging.create(None)
    staged.write(0, b"being written")
    assert inspect(tmp_path).findings == []
    put(journal, "b", b"6")  # the journal was not locked by it
    lock.release()
    assert {found.severity for found in inspect(tmp_path).findings} == {
        Severity.NOTE,
        Severity.WARNING,
    }
    journal.close()
