"""Who waits for whom, in the lives after: nobody for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from qarnotfs.store.base import Condition, ObjectInfo
from qarnotfs.writeback.adoption import adopt
from qarnotfs.writeback.journal import Journal
from tests.s4_writeback.test_journal import ABSENT, put, put_over


def test_the_number_of_what_was_waited_for_is_not_anothers(tmp_path: Path) -> None:
    """The deletion's row names a debt that was paid, and no life writes the row again."""
    journal = Journal(tmp_path)
    journal.move(put(journal, "x", b"1", Condition(etag="e" * 32)), "t", ABSENT)
    anew = put(journal, "t", b"anew")
    journal.paid(anew, ObjectInfo("t", 4, "1" * 32, 0))
    journal.close()
    journal = Journal(tmp_path)
    younger = put(journal, "x", b"made again")
    journal.close()
    journal = Journal(tmp_path)
    deletion = next(debt for debt in journal.all() if debt.id != younger.id)
    assert journal.is_next(deletion)


@pytest.mark.parametrize("detour", [False, True], ids=["itself", "through another key"])
def test_a_deletion_that_waits_for_what_is_behind_it(detour: bool, tmp_path: Path) -> None:
    """A former life left it so. The base of what is behind is not deleted."""
    journal = Journal(tmp_path)
    base = ObjectInfo("b", 4, "e" * 32, 1)
    older = put_over(journal, base)
    journal.begin(older)
    deletion = journal.owe_delete("b", Condition())
    assert deletion is not None
    deletion.begun = True  # so that what comes next is behind it
    younger = put_over(journal, base, once_more=older)
    deletion.after = younger.id
    if detour:
        other = put(journal, "c", b"other")
        other.after, deletion.after = younger.id, other.id
        journal.write(other)
    journal.write(deletion)
    journal.close()
    journal = Journal(tmp_path)
    for stored in (ObjectInfo("b", 4, "1" * 32, 2), ObjectInfo("b", 4, "2" * 32, 3)):
        debt = next(debt for debt in journal.all() if journal.is_next(debt))
        assert debt.staged is not None
        assert debt.staged.base in (base, ObjectInfo("b", 4, "1" * 32, 2))
        journal.begin(debt)
        journal.paid(debt, stored)
    assert [debt.key for debt in journal.all()] == ["c"] * detour
    journal.close()
    assert [debt.key for debt in Journal(tmp_path).all()] == ["c"] * detour


def test_names_that_changed_places_wait_for_each_other_no_longer(tmp_path: Path) -> None:
    """A circle that was broken in memory alone."""
    journal = Journal(tmp_path)
    one, two, three = (put(journal, key, b"x") for key in "abc")
    one.after, two.after, three.after = two.id, three.id, one.id
    for debt in (one, two, three):
        journal.write(debt)
    journal.close()
    journal = Journal(tmp_path)
    assert any(journal.is_next(debt) for debt in journal.all())


def test_a_circle_is_not_inherited(tmp_path: Path) -> None:
    dead = Journal(tmp_path / "dead")
    deletion = dead.owe_delete("b", Condition(etag="e" * 32))
    assert deletion is not None
    deletion.begun = True
    deletion.after = put(dead, "b", b"younger").id
    dead.write(deletion)
    dead.close()
    heir = Journal(tmp_path / "heir")
    put(heir, "ours", b"1")
    adopt(heir, tmp_path / "dead")
    for debt in heir.all():
        heir.write(debt)
    heir.close()
    assert [debt.key for debt in Journal(tmp_path / "heir").all()] == ["ours", "b"]
    assert list(Journal(tmp_path / "dead").all()) == []
