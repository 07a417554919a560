"""Of which file a version is another one: what builds upon what, as the journal knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qarnotfs.store.base import Attributes, Condition, ObjectInfo
from qarnotfs.writeback.journal import Journal
from tests.s4_writeback.test_crash_adoption import Contested
from tests.s4_writeback.test_journal import ABSENT, put, put_over

BASE = ObjectInfo("a", 4, "b" * 32, 1)
STORED = ObjectInfo("a", 4, "e" * 32, 2)


def test_what_a_renamed_copy_builds_upon_is_not_replaced(tmp_path: Path) -> None:
    """A file is changed, renamed and sent; what is changed meanwhile is renamed once more."""
    journal = Journal(tmp_path)
    sent = journal.move(put_over(journal, BASE), "b", ABSENT)
    journal.begin(sent)
    renamed = journal.move(put_over(journal, BASE, "b", once_more=sent), "c", ABSENT)
    assert journal.builders("b") == []
    stored = ObjectInfo("b", 4, "e" * 32, 2)
    journal.paid(sent, stored)
    assert renamed.staged is not None
    assert renamed.staged.base == stored
    assert journal.builders("b") == [renamed]
    another = put(journal, "b", b"another file", Condition(etag=stored.etag))
    another.after = 0
    assert not journal.is_next(another)
    assert journal.is_next(renamed)


def test_what_arrives_of_a_file_that_is_renamed_meanwhile_is_its_base_on_disk_too(
    tmp_path: Path,
) -> None:
    """Both debts have one staged file: there is no copy of it."""
    journal = Journal(tmp_path)
    sent = put_over(journal, BASE)
    journal.begin(sent)
    journal.move(sent, "b", ABSENT)
    journal.paid(sent, STORED)
    again = Journal(tmp_path).latest("b")
    assert again is not None
    assert again.staged is not None
    assert again.staged.base == STORED


def test_what_another_program_changed_in_the_same_version_is_no_base(tmp_path: Path) -> None:
    """It opened the file before somebody else replaced it, and is stored beside it."""
    journal = Journal(tmp_path)
    sent = put_over(journal, BASE)
    beside = put_over(journal, BASE, "beside")
    journal.begin(sent)
    journal.paid(sent, STORED)
    assert beside.staged is not None
    assert beside.staged.base == BASE


@pytest.mark.parametrize("is_next_life", [False, True])
def test_a_try_without_an_answer_is_of_one_lineage(is_next_life: bool, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    sent = put_over(journal, BASE)
    journal.begin(sent)
    journal.perhaps_stored(sent, STORED.etag, recorded=True)
    changed = put_over(journal, BASE, "renamed", once_more=sent)
    beside = put_over(journal, BASE, "beside")
    put(journal, "a", b"anew", Condition(etag=BASE.etag))  # which inherits what was tried
    journal.postpone(sent, 0.0, "No answer.")
    if is_next_life:
        journal = Journal(tmp_path)
    for debt, tries in ((changed, {STORED.etag}), (beside, set[str]())):
        there = journal.latest(debt.key)
        assert there is not None
        assert there.staged is not None
        assert journal.perhaps_at("a", there.staged.lineage) == tries


def test_what_two_dead_mounts_changed_in_the_same_version_stays_apart(tmp_path: Path) -> None:
    two = Contested(tmp_path)
    for journal in (two.ours, two.theirs):
        put_over(journal, BASE)
    journal = two.adopted()
    ours = journal.latest("a")
    (beside,) = (debt for debt in journal.all() if debt is not ours)
    assert ours is not None
    journal.begin(ours)
    journal.paid(ours, STORED)
    assert beside.staged is not None
    assert beside.staged.base == BASE


def test_the_end_of_a_name_waits_for_what_had_it_first(tmp_path: Path) -> None:
    """``mv a t; mv b a; mv a c``: the object ``a`` is what ``t`` was."""
    journal = Journal(tmp_path)
    first = journal.move(put(journal, "a", b"first", Condition(etag="e" * 32)), "t", ABSENT)
    second = journal.move(put(journal, "b", b"second"), "a", Condition(etag="e" * 32))
    journal.move(second, "c", ABSENT)
    deletion = journal.latest("a")
    assert deletion is not None
    assert deletion.after == first.id
    journal.paid(first, ObjectInfo("t", 5, "1" * 32, 0))
    assert journal.is_next(deletion)


def test_a_base_that_others_replaced_is_kept_for_nobody(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    changed = put_over(journal, BASE, "renamed")
    another = put(journal, "a", b"anew", Condition(etag=BASE.etag))
    assert not journal.is_next(another)
    assert changed.staged is not None
    changed.staged.gone = changed.staged.base
    assert journal.is_next(another)


def test_what_could_not_be_recorded_leaves_the_order_as_it_was(tmp_path: Path) -> None:
    """The file was removed after it had begun to be sent, which then failed."""
    journal = Journal(tmp_path)
    sent = put(journal, "a", b"one")
    journal.begin(sent)
    end = journal.owe_delete("a", ABSENT)
    younger = journal.open("a", journal.staging.create(None), Attributes(), ABSENT)
    journal.postpone(sent, 0.0, "no")
    journal.undo(younger)
    assert journal.latest("a") is end
