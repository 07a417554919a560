"""Who a journal belongs to, and what becomes of the one a crashed mount left.

Used by `session` when it mounts. A living mount holds its journal's file lock; one whose
lock is free has no mount, and its debts are taken over by the next one of the bucket.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from qarnotfs.errors import Corrupt, FileError
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.quarantine import Quarantine

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
    journal = _opened(mine.directory)
    for other in sorted(root.iterdir()):
        if other == mine.directory or not other.is_dir() or not (lock := JournalLock.take(other)):
            continue
        try:
            if count := adopt(journal, other):
                log.warning("adopted %d debts of a mount that died (%s)", count, other)
        except (FileError, OSError) as error:
            journal.report(f"What a mount that died left in {other} was not adopted: {error}")
        finally:
            lock.release()
    return journal, mine


def _opened(directory: Path) -> Journal:
    """The journal there. One that is damaged is set aside whole, and a new one begun."""
    try:
        return Journal(directory)
    except Corrupt as error:
        aside = Quarantine(directory / "quarantine")
        aside.set_journal_aside(directory, str(error))
        journal = Journal(directory)
        journal.findings.extend(aside.findings)
        return journal


def adopt(journal: Journal, other: Path) -> int:
    """Take over the debts of a crashed mount, whose lock the caller holds; how many.

    Dying at any step leaves every byte in one of the two journals, or in both.
    """
    if not (other / "journal.db").exists():
        return 0
    theirs = _opened(other)
    try:
        journal.findings.extend(theirs.findings)
        journal.inherit(theirs)
        theirs.give_up()
        return len(list(theirs.all()))
    finally:
        theirs.close()
