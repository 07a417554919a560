"""The journal: coalescing of debts, replay after a crash, adoption, quarantine."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qarnotfs.errors import Corrupt, FileError, NoSpace
from qarnotfs.store.base import Attributes, Condition, ObjectInfo
from qarnotfs.writeback.adoption import JournalLock, adopt, claim
from qarnotfs.writeback.debts import Debt, Kind, State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import Records

ABSENT = Condition(absent=True)
ATTRIBUTES = Attributes({"mode": "33188"}, "text/plain")


def put(journal: Journal, key: str, data: bytes, expected: Condition = ABSENT) -> Debt:
    """A file that was written and closed."""
    staged = journal.staging.create(None)
    staged.write(0, data)
    debt = journal.open(key, staged, ATTRIBUTES, expected)
    journal.record(debt, staged.seal())
    journal.release(debt, 0.0)
    staged.close()
    return debt


def put_over(
    journal: Journal, base: ObjectInfo, key: str = "", once_more: Debt | None = None
) -> Debt:
    """A file of which the first byte was changed; renamed, if it has another ``key``."""
    former = once_more.staged if once_more else None
    staged = journal.staging.clone(former) if former else journal.staging.create(base)
    staged.write(0, b"!")
    debt = journal.open(key or base.key, staged, ATTRIBUTES, Condition(etag=base.etag))
    journal.record(debt, staged.seal())
    journal.release(debt, 0.0)
    return debt


def held(journal: Journal) -> dict[str, bytes | None]:
    """What the bucket will hold of each key with a debt; ``None``: nothing."""
    found: dict[str, bytes | None] = {}
    for debt in journal.all():
        staged = debt.staged
        content = staged.read_data(0, staged.size) if staged else b""
        found[debt.key] = content if debt.present else None
    return found


def test_a_recorded_debt_is_there_after_a_crash(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"bytes", Condition(etag="e" * 32))
    journal.owe_delete("b", Condition(etag="f" * 32))
    journal.owe_empty("d/", ATTRIBUTES, ABSENT)
    again = Journal(tmp_path)
    assert held(again) == {"a": b"bytes", "b": None, "d/": b""}
    debt = again.latest("a")
    assert debt is not None
    assert debt.staged is not None
    assert debt.seal is not None
    assert debt.attributes == ATTRIBUTES
    assert debt.expected == Condition(etag="e" * 32)
    debt.staged.verify(debt.seal)
    assert again.bytes_owed == 5
    assert not again.findings


def test_a_file_that_was_never_closed_is_set_aside_not_deleted(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    staged = journal.staging.create(None)
    staged.write(0, b"half")
    journal.open("a", staged, ATTRIBUTES, ABSENT)
    again = Journal(tmp_path)
    assert held(again) == {}
    assert [path.read_bytes() for path in again.quarantine.iterdir()] == [b"half"]
    assert len(again.findings) == 1


def test_a_file_written_after_its_record_is_replayed_with_its_newest_bytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "a", b"old!")
    assert debt.staged is not None
    journal.reopen(debt)
    debt.staged.write(0, b"new")
    again = Journal(tmp_path)
    replayed = again.latest("a")
    assert replayed is not None
    assert replayed.staged is not None
    assert replayed.seal is not None
    replayed.staged.verify(replayed.seal)
    assert held(again) == {"a": b"new!"}


@pytest.mark.parametrize("damage", ["", "garbage", "00000000{}", None])
def test_a_broken_record_is_quarantined(tmp_path: Path, damage: str | None) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"bytes")
    put(journal, "b", b"other")
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        if damage is None:
            db.execute("UPDATE debts SET record = replace(record, 'text/plain', 'text/plaim')"
                       " WHERE id = 1")  # fmt: skip
        else:
            db.execute("UPDATE debts SET record = ? WHERE id = 1", (damage,))
    again = Journal(tmp_path)
    assert held(again) == {"b": b"other"}
    kept = {path.name for path in again.quarantine.iterdir()}
    assert any(name.startswith("record-1-") for name in kept)
    assert b"bytes" in {path.read_bytes() for path in again.quarantine.iterdir()}
    assert len(again.findings) == 2


def test_delete_cancels_a_put_that_never_began(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "a", b"x")
    assert journal.owe_delete("a", Condition()) is None
    assert held(journal) == held(Journal(tmp_path)) == {}
    assert debt.staged is not None
    assert not debt.staged.path.exists()


def test_delete_of_what_is_in_the_bucket_is_owed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"x", Condition(etag="e" * 32))
    journal.owe_delete("a", Condition())
    assert held(journal) == {"a": None}
    assert journal.overlay.get("a") is False


def test_delete_of_what_is_being_sent_comes_behind_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "a", b"x")
    journal.begin(debt)
    deletion = journal.owe_delete("a", Condition())
    assert deletion is not None
    assert not journal.is_next(deletion)
    journal.paid(debt, ObjectInfo("a", 1, "e" * 32, 0))
    assert journal.is_next(deletion)


def test_create_delete_create_ends_with_the_last_bytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = put(journal, "a", b"1", Condition(etag="e" * 32))
    journal.owe_delete("a", Condition(etag="e" * 32))
    last = put(journal, "a", b"2")
    assert held(journal) == {"a": b"2"}
    assert last.expected == Condition(etag="e" * 32)  # what the bucket has, not what was shown
    assert not journal.has(first.id)


def test_a_put_behind_one_that_is_being_sent_replaces_what_that_stored(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = put(journal, "a", b"1")
    journal.begin(first)
    second = put(journal, "a", b"2")
    journal.paid(first, ObjectInfo("a", 1, "f" * 32, 0))
    assert second.expected == Condition(etag="f" * 32)
    again = Journal(tmp_path).latest("a")
    assert again is not None
    assert again.expected == Condition(etag="f" * 32)


def test_what_waits_on_disk_behind_a_file_being_written_knows_what_arrived(tmp_path: Path) -> None:
    """Three versions: one is sent, one is closed, one is being written when the first arrives."""
    journal = Journal(tmp_path)
    base = ObjectInfo("a", 4, "b" * 32, 1)
    first = put_over(journal, base)
    journal.begin(first)
    closed = put_over(journal, base, once_more=first)
    journal.open("a", journal.staging.create(None), ATTRIBUTES, ABSENT)
    assert not journal.has(closed.id)
    stored = ObjectInfo("a", 4, "e" * 32, 2)
    journal.paid(first, stored)
    after_a_crash = Journal(tmp_path).latest("a")
    assert after_a_crash is not None
    assert after_a_crash.id == closed.id
    assert after_a_crash.expected == Condition(etag="e" * 32)
    assert after_a_crash.staged is not None
    assert after_a_crash.staged.base == stored


def test_what_waits_on_disk_behind_a_file_being_written_knows_what_was_deleted(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    deletion = journal.owe_delete("a", Condition(etag="f" * 32))
    assert deletion is not None
    journal.begin(deletion)
    put(journal, "a", b"bytes", Condition(etag="f" * 32))
    journal.open("a", journal.staging.create(None), ATTRIBUTES, ABSENT)
    journal.deleted([deletion])
    after_a_crash = Journal(tmp_path).latest("a")
    assert after_a_crash is not None
    assert after_a_crash.expected == ABSENT


def test_rename_of_an_unsent_file_moves_the_debt(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "tmp", b"x")
    put(journal, "final", b"older", Condition(etag="e" * 32))
    moved = journal.move(debt, "final", Condition(etag="0" * 32))
    assert held(journal) == held(Journal(tmp_path)) == {"final": b"x"}
    assert moved.expected == Condition(etag="e" * 32)


def test_rename_of_a_file_that_is_being_sent_sends_it_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "tmp", b"x")
    journal.begin(debt)
    moved = journal.move(debt, "final", ABSENT)
    journal.paid(debt, ObjectInfo("tmp", 1, "e" * 32, 0))
    assert moved.state is State.QUEUED
    assert held(journal) == {"final": b"x", "tmp": None}


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_rename_is_one_record_with_the_end_of_the_old_name(
    is_sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which knows what was sent under it: whoever dies in between would take that for another's."""
    journal = Journal(tmp_path)
    debt = put_over(journal, ObjectInfo("old", 4, "b" * 32, 1))
    journal.perhaps_stored(debt, "e" * 32, recorded=True)
    if is_sent:
        journal.begin(debt)
    change, changes = Records.change, list[None]()

    def counting(*args: Any, **given: Any) -> None:
        changes.append(None)
        change(*args, **given)

    monkeypatch.setattr(Records, "change", counting)
    journal.move(debt, "new", ABSENT)
    assert len(changes) == 1
    after_a_crash = Journal(tmp_path)
    deletion = after_a_crash.latest("old")
    assert deletion is not None
    assert deletion.kind is Kind.DELETE
    assert "e" * 32 in after_a_crash.perhaps_at("old", debt.staged.lineage if debt.staged else "")
    assert not after_a_crash.is_next(deletion)


def test_a_rename_that_cannot_be_recorded_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    debt = put_over(journal, ObjectInfo("old", 4, "b" * 32, 1))
    replaced = put(journal, "new", b"other")

    def full(*_: Any, **__: Any) -> None:
        raise NoSpace("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "change", full)
        with pytest.raises(NoSpace):
            journal.move(debt, "new", ABSENT)
    assert journal.latest("old") is debt
    assert journal.latest("new") is replaced
    assert set(journal.all()) == {replaced, debt}
    assert journal.is_next(debt)
    assert journal.builders("old") == []
    moved = journal.move(debt, "new", ABSENT)
    assert journal.latest("new") is moved
    assert Journal(tmp_path).latest("new") is not None


def test_a_deletion_waits_for_the_debt_that_carries_the_bytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = journal.move(put(journal, "old", b"x", Condition()), "new", ABSENT)
    deletion = journal.latest("old")
    assert deletion is not None
    assert not journal.is_next(deletion)
    moved = journal.move(debt, "newer", ABSENT)
    assert not journal.is_next(deletion)
    journal.paid(moved, ObjectInfo("newer", 1, "e" * 32, 0))
    assert journal.is_next(deletion)


def test_attributes_join_a_put_that_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = put(journal, "a", b"x")
    other = Attributes({"mode": "33261"}, "text/plain")
    assert journal.owe_attributes("a", other) is debt
    again = Journal(tmp_path).latest("a")
    assert again is not None
    assert again.attributes == other
    journal.begin(debt)
    assert journal.owe_attributes("a", ATTRIBUTES) is debt  # who sends it compares afterwards
    assert journal.owe_copy("a", ATTRIBUTES).kind is Kind.META


def test_a_journal_belongs_to_one_mount(tmp_path: Path) -> None:
    _, lock = claim(tmp_path)
    other, other_lock = claim(tmp_path)
    assert lock.directory != other_lock.directory
    assert other.directory == other_lock.directory
    assert JournalLock.take(lock.directory) is None
    lock.release()
    assert JournalLock.take(lock.directory) is not None


def test_the_debts_of_dead_mounts_are_adopted(tmp_path: Path) -> None:
    first, first_lock = claim(tmp_path)
    second, second_lock = claim(tmp_path)
    put(first, "a", b"1")
    second.move(put(second, "c", b"2", Condition()), "b", ABSENT)
    first_lock.release()
    second_lock.release()
    heir, _ = claim(tmp_path)
    assert held(heir) == {"a": b"1", "b": b"2", "c": None}
    deletion = heir.latest("c")
    assert deletion is not None
    assert not heir.is_next(deletion)
    assert held(Journal(second.directory)) == {}
    assert held(Journal(heir.directory)) == {"a": b"1", "b": b"2", "c": None}


def test_adoption_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    """Dying after our record, before theirs is removed: both have it; nothing is lost."""
    dead, dead_lock = claim(tmp_path / "x")
    put(dead, "a", b"1")
    dead_lock.release()
    heir = Journal(tmp_path / "heir")
    database = dead.directory / "journal.db"
    copy = sqlite3.connect(database).execute("SELECT id, record FROM debts").fetchall()
    adopt(heir, dead.directory)
    heir.close()
    with sqlite3.connect(database) as db:
        db.executemany("INSERT INTO debts VALUES (?, ?)", copy)
    heir = Journal(tmp_path / "heir")
    adopt(heir, dead.directory)
    assert held(heir) == {"a": b"1"}


@pytest.mark.parametrize(
    ("message", "expected"), [("database or disk is full", NoSpace), ("disk I/O error", FileError)]
)
def test_a_record_that_cannot_be_written_is_an_error_and_changes_nothing(
    tmp_path: Path, message: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    staged = journal.staging.create(None)
    staged.write(0, b"x")
    debt = journal.open("a", staged, ATTRIBUTES, ABSENT)

    class Full:
        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError(message)

    seal = staged.seal()
    monkeypatch.setattr(journal._records, "_db", Full())
    with pytest.raises(expected):
        journal.record(debt, seal)
    assert debt.state is State.OPEN
    monkeypatch.undo()
    journal.record(debt, seal)
    assert held(Journal(tmp_path)) == {"a": b"x"}


def test_a_damaged_journal_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, "a", b"bytes")
    journal.close()
    (tmp_path / "journal.db").write_bytes(b"garbage" * 1000)
    for name in ("journal.db-wal", "journal.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(Corrupt, match="damaged"):
        Journal(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == b"garbage" * 1000
    assert [path.read_bytes() for path in (tmp_path / "staged").iterdir()] == [b"bytes"]
