"""Journals of mounts that died, whole or damaged: adopted once, set aside, never lost."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from qarnotfs.errors import FileError, NoSpace
from qarnotfs.store.base import Attributes, Condition, ObjectInfo
from qarnotfs.writeback.adoption import JournalLock, claim
from qarnotfs.writeback.debts import Debt
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import Records
from qarnotfs.writeback.uploads import Upload

ABSENT = Condition(absent=True)
STARTERS = 4


def put(journal: Journal, key: str, data: bytes) -> Debt:
    """A file that was written and closed."""
    staged = journal.staging.create(None)
    staged.write(0, data)
    debt = journal.open(key, staged, Attributes(), ABSENT)
    journal.record(debt, staged.seal())
    journal.release(debt, 0.0)
    staged.close()
    return debt


def die(*mounts: tuple[Journal, JournalLock]) -> None:
    for journal, lock in mounts:
        journal.close()
        lock.release()


def held(journal: Journal) -> dict[str, bytes | None]:
    """What the bucket will hold of each key with a debt; ``None``: nothing."""
    return {
        debt.key: (debt.staged.read_data(0, debt.size) if debt.staged else b"")
        if debt.present
        else None
        for debt in journal.all()
    }


def set_aside(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.rglob("quarantine/**/*") if path.is_file()]


def start_and_stay(root: Path, together: Barrier, kept: Path) -> None:
    """A mount that begins with others at the same moment, and notes what it owes."""
    together.wait()
    journal, _ = claim(root)
    lines = [f"{debt.key}\n" for debt in journal.all()]
    with kept.open("a") as file:
        file.write("".join(lines))
    together.wait()  # nobody ends, and so gives its lock back, before all have claimed


def test_mounts_that_start_at_once_adopt_each_debt_once(tmp_path: Path) -> None:
    root, kept = tmp_path / "journals", tmp_path / "kept"
    mounts = [claim(root) for _ in range(3)]
    for number, (journal, _) in enumerate(mounts):
        put(journal, f"file{number}", b"%d" % number)
    die(*mounts)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(STARTERS)
    starters = [
        context.Process(target=start_and_stay, args=(root, together, kept)) for _ in range(STARTERS)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert sorted(kept.read_text().split()) == ["file0", "file1", "file2"]


def test_who_waits_for_whom_is_inherited(tmp_path: Path) -> None:
    """Also of a younger debt, and also when that is renamed afterwards."""
    heir, dead = claim(tmp_path), claim(tmp_path)
    file = put(dead[0], "old", b"x")
    file.expected = Condition()
    waited = dead[0].move(file, "new", ABSENT)
    younger = dead[0].move(waited, "newer", ABSENT)
    assert younger.id > waited.id
    die(heir, dead)
    journal, _ = claim(tmp_path)
    debt, deletion = journal.latest("newer"), journal.latest("old")
    assert debt is not None
    assert deletion is not None
    assert not journal.is_next(deletion)
    moved = journal.move(debt, "newest", ABSENT)
    assert not journal.is_next(deletion)
    journal.paid(moved, ObjectInfo("newest", 1, "e" * 32, 0))
    assert journal.is_next(deletion)


def test_a_debt_that_is_in_both_journals_is_one(tmp_path: Path) -> None:
    """The heir died after it had recorded everything, and before it was removed there."""
    heir, dead = claim(tmp_path), claim(tmp_path)
    put(dead[0], "a", b"1")
    dead[0].owe_delete("b", Condition())
    rows = dead[0]._records.rows()
    die(heir, dead)
    die(claim(tmp_path))
    for path in (heir[0].directory / "staged").iterdir():
        os.link(path, dead[0].directory / "staged" / path.name)
    records = Records(dead[0].directory / "journal.db")
    records.change(rows, [])
    records.close()
    journal, _ = claim(tmp_path)
    assert held(journal) == {"a": b"1", "b": None}
    assert [debt.key for debt in journal.all()].count("a") == 1
    assert list((dead[0].directory / "staged").iterdir()) == []


def test_what_cannot_be_adopted_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heir, dead = claim(tmp_path), claim(tmp_path)
    put(dead[0], "a", b"1")
    die(heir, dead)

    def full(*_: object, **__: object) -> None:
        raise NoSpace("The disk that holds the journal is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "change", full)
        journal, lock = claim(tmp_path)
        assert held(journal) == {}
        assert "disk that holds the journal is full" in journal.findings[0]
        die((journal, lock))
    assert held(claim(tmp_path)[0]) == {"a": b"1"}


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "middle"])
def test_a_journal_that_is_none_any_more_is_set_aside_whole(
    tmp_path: Path, damage: str, whose: str
) -> None:
    """The bucket can still be mounted, and the other journal's debts arrive."""
    ours, theirs = claim(tmp_path), claim(tmp_path)
    victim, other = (ours, theirs) if whose == "ours" else (theirs, ours)
    for number in range(200):  # some pages of rows
        victim[0].owe_delete(f"deleted {number}", Condition(etag="e" * 32))
    put(victim[0], "lost its name", b"precious")
    put(other[0], "fine", b"fine")
    die(ours, theirs)
    database = victim[0].directory / "journal.db"
    whole = database.read_bytes()
    match damage:
        case "garbage":
            broken = b"garbage" * 1000
        case "cut":
            broken = whole[: len(whole) // 2]
        case _:
            broken = whole[:4096] + b"\xff" * 8192 + whole[12288:]
    database.write_bytes(broken)
    journal, _ = claim(tmp_path)
    assert held(journal) == {"fine": b"fine"}
    assert "damaged" in journal.findings[0]
    assert broken in set_aside(tmp_path)
    assert b"precious" in set_aside(tmp_path)


def test_a_journal_that_cannot_be_opened_now_is_left_alone(tmp_path: Path) -> None:
    """A disk in trouble is no damage: what is there may be whole."""
    die(claim(tmp_path))
    database = tmp_path / "0" / "journal.db"
    database.unlink()
    database.mkdir()
    with pytest.raises(FileError, match="see to its disk"):
        claim(tmp_path)
    assert set_aside(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "missing"])
@pytest.mark.parametrize("adopted", [False, True])
def test_a_staged_file_that_is_not_all_there_is_not_believed(
    tmp_path: Path, damage: str, adopted: bool
) -> None:
    first, second = claim(tmp_path), claim(tmp_path)
    victim = second[0] if adopted else first[0]
    debt = put(victim, "damaged", b"12345")
    put(victim, "fine", b"fine")
    assert debt.staged is not None
    if damage == "cut":
        os.truncate(debt.staged.path, 3)
    else:
        debt.staged.path.unlink()
    die(first, second)
    journal, _ = claim(tmp_path)
    assert held(journal) == {"fine": b"fine"}
    assert journal.findings
    assert any(b'"damaged"' in content for content in set_aside(tmp_path))
    if damage == "cut":
        assert b"123" in set_aside(tmp_path)


def test_a_second_record_set_aside_does_not_replace_the_first(tmp_path: Path) -> None:
    for name in (b"one", b"two"):
        journal, lock = claim(tmp_path)
        put(journal, "a", name)
        die((journal, lock))
        with sqlite3.connect(tmp_path / "0" / "journal.db") as db:
            db.execute("UPDATE debts SET record = record || ?", (name.decode(),))
        db.close()
        die(claim(tmp_path))
    kept = set_aside(tmp_path)
    assert sum(content.endswith(b"}one") for content in kept) == 1
    assert sum(content.endswith(b"}two") for content in kept) == 1
    assert {b"one", b"two"} < set(kept)


def test_stray_files_beside_journals_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not a journal")
    journal, _ = claim(tmp_path)
    assert held(journal) == {}


# --- two dead mounts that changed one key ---


class Contested:
    """Two mounts of one bucket, ``ours`` and ``theirs``, and who adopts them when they died."""

    def __init__(self, root: Path) -> None:
        self._root, self._mounts = root, (claim(root), claim(root))
        self.ours, self.theirs = (journal for journal, _ in self._mounts)

    def adopted(self) -> Journal:
        die(*self._mounts)
        return claim(self._root)[0]


@pytest.fixture
def two(tmp_path: Path) -> Contested:
    return Contested(tmp_path)


def test_both_versions_are_kept(two: Contested) -> None:
    put(two.ours, "a", b"ours")
    put(two.theirs, "a", b"theirs")
    journal = two.adopted()
    (beside,) = (debt for debt in journal.all() if debt.key != "a")
    assert beside.key.startswith("a.conflict-")
    assert (beside.expected, beside.perhaps) == (ABSENT, {})
    assert held(journal) == {"a": b"ours", beside.key: b"theirs"}


def test_of_a_contested_key_only_the_youngest_bytes_are_wanted(two: Contested) -> None:
    put(two.ours, "a", b"ours")
    put(two.ours, "b", b"ours")
    two.theirs.begin(put(two.theirs, "a", b"older"))
    put(two.theirs, "a", b"younger")
    renamed = put(two.theirs, "b", b"renamed")
    two.theirs.begin(renamed)
    two.theirs.move(renamed, "c", ABSENT)
    kept = held(journal := two.adopted())
    assert (kept.pop("a"), kept.pop("b"), kept.pop("c")) == (b"ours", b"ours", b"renamed")
    assert list(kept.values()) == [b"younger"]
    assert len(list(journal.staging.directory.iterdir())) == 4


def test_three_versions_of_one_second_are_kept(tmp_path: Path) -> None:
    mounts = [claim(tmp_path) for _ in range(3)]
    for number, (journal, _) in enumerate(mounts):
        put(journal, "a", b"%d" % number)
    die(*mounts)
    kept = held(claim(tmp_path)[0])
    assert kept.pop("a") == b"0"
    assert sorted(str(data) for data in kept.values()) == ["b'1'", "b'2'"]


def test_bytes_survive_the_deletion_by_another(two: Contested) -> None:
    put(two.ours, "a", b"ours")
    two.theirs.owe_delete("a", Condition(etag="e" * 32))
    two.ours.owe_delete("b", Condition(etag="e" * 32))
    put(two.theirs, "b", b"theirs")
    journal = two.adopted()
    kept = held(journal)
    assert (kept.pop("a"), kept.pop("b")) == (b"ours", None)
    assert list(kept.values()) == [b"theirs"]
    (finding,) = journal.findings
    assert finding.startswith("'a' was deleted by one mount that died")


def test_attributes_of_another_version_are_reported(two: Contested) -> None:
    """They never come behind a file that is refused, and take its place."""
    refused = put(two.ours, "a", b"ours")
    two.ours.begin(refused)
    two.ours.fail(refused, "Not allowed.")
    two.theirs.owe_attributes("a", Attributes({"mode": "1"}))
    journal = two.adopted()
    (debt,) = journal.all()
    journal.begin(debt)
    journal.fail(debt, "Not allowed.")
    assert held(journal) == {"a": b"ours"}
    assert "got other attributes" in journal.findings[0]


def test_what_both_owe_alike_is_no_finding(two: Contested) -> None:
    for journal in (two.ours, two.theirs):
        journal.owe_delete("a", Condition(etag="e" * 32))
        journal.owe_attributes("b", Attributes({"mode": "1"}))
    journal = two.adopted()
    assert sorted(debt.key for debt in journal.all()) == ["a", "b"]
    assert journal.findings == []


def test_an_upload_to_a_contested_name_is_given_up(two: Contested) -> None:
    put(two.ours, "a", b"ours")
    debt = put(two.theirs, "a", b"theirs")
    assert debt.staged is not None
    upload = Upload("id", "a", debt.staged.path.name, 8 << 20, None)
    two.theirs.uploads.begin(upload)
    two.theirs.take_upload(debt, upload)
    journal = two.adopted()
    assert all(debt.upload is None for debt in journal.all())
    assert [upload.id for upload in journal.uploads.strays()] == ["id"]


def test_a_full_disk_does_not_bring_back_what_was_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heir has recorded everything; the dead mount's rows cannot be removed any more."""
    heir, dead = claim(tmp_path), claim(tmp_path)
    put(dead[0], "a", b"1")
    die(heir, dead)
    change = Records.change

    def only_new_rows(
        records: Records, written: list[object], removed: list[object], **more: object
    ) -> None:
        if removed:
            raise NoSpace("The disk that holds the journal is full.")
        change(records, written, removed, **more)  # type: ignore[arg-type]  # handed on as they are

    with monkeypatch.context() as patch:
        patch.setattr(Records, "change", only_new_rows)
        journal, lock = claim(tmp_path)
    (debt,) = journal.all()
    journal.paid(debt, ObjectInfo("a", 1, "e" * 32, 0))
    die((journal, lock))
    assert held(claim(tmp_path)[0]) == {}


def test_an_empty_file_of_a_dead_mount_has_no_staged_file(tmp_path: Path) -> None:
    first, second = claim(tmp_path), claim(tmp_path)
    journal, _ = second
    staged = journal.staging.create(None)
    journal.record(journal.open("empty", staged, Attributes(), ABSENT), staged.seal())
    assert not staged.path.exists()
    put(journal, "full", b"bytes")
    die(first, second)
    heir, lock = claim(tmp_path)
    assert {debt.key: debt.size for debt in heir.all()} == {"empty": 0, "full": 5}
    assert not heir.findings
    lock.release()
