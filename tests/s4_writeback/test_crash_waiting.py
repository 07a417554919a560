"""Who waits for whom, in the lives after: nobody for ever."""

from __future__ import annotations

from pathlib import Path

from qarnotfs.store.base import Condition, ObjectInfo
from qarnotfs.writeback.journal import Journal
from tests.s4_writeback.test_journal import ABSENT, put


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
