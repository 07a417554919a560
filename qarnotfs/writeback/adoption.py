"""Who a journal belongs to, and what becomes of the one a crashed mount left.

Used by `session` when it mounts. A living mount holds its journal's file lock; one whose
lock is free has no mount, and its debts are taken over by the next one of the bucket.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from qarnotfs.errors import Corrupt
from qarnotfs.writeback.debts import Record, unpack
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import Records

log = logging.getLogger(__name__)


class JournalLock:
    """The right to use one journal directory; given back by `release` or by dying."""

    def __init__(self, directory: Path, fd: int) -> None:
        self.directory, self._fd = directory, fd

    @classmethod
    def take(cls, directory: Path) -> JournalLock | None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(directory, fd)

    def release(self) -> None:
        os.close(self._fd)


def claim(root: Path) -> tuple[Journal, JournalLock]:
    """The first journal under ``root`` that no living mount uses, with all debts of dead ones."""
    number = 0
    while (mine := JournalLock.take(root / str(number))) is None:
        number += 1
    journal = Journal(mine.directory)
    for other in sorted(root.iterdir()):
        if other == mine.directory or not (lock := JournalLock.take(other)):
            continue
        if (other / "journal.db").exists():
            count = adopt(journal, other)
            if count:
                log.warning("adopted %d debts of a mount that died (%s)", count, other)
        lock.release()
    return journal, mine


def adopt(journal: Journal, other: Path) -> int:
    """Take over the debts of a crashed mount, whose lock the caller holds; how many.

    Dying at any step leaves every byte in one of the two journals, or in both: a debt that
    is paid twice finds its own bytes in the bucket.
    """
    source = Records(other / "journal.db")
    new_ids: dict[int, int] = {}
    for debt_id, text in source.rows():
        try:
            record = unpack(text)
            _bring(record, other, journal)
            debt = journal.take_over(record)
        except (Corrupt, OSError) as error:
            journal.report(f"A debt of the crashed mount in {other} could not be adopted: {error}")
            continue
        debt.after = new_ids.get(record.after, 0)
        new_ids[debt_id] = debt.id
        journal.write(debt)
        _remove(source, debt_id, record, other)
    source.close()
    return len(new_ids)


def _bring(record: Record, other: Path, journal: Journal) -> None:
    """The staged file of a record gets a second name, in our journal."""
    if record.staged_name:
        theirs = other / "staged" / record.staged_name
        ours = journal.staging.directory / record.staged_name
        if theirs.exists() and not ours.exists():
            os.link(theirs, ours)


def _remove(source: Records, debt_id: int, record: Record, other: Path) -> None:
    source.change([], [debt_id])
    if record.staged_name:
        (other / "staged" / record.staged_name).unlink(missing_ok=True)
