"""What cannot be read or belongs to nobody: moved aside, reported, never deleted.

Used by `recorded` and `adoption`. What is found is a sentence for a person, shown by ``status``.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)


class Quarantine:
    """The directory of one journal for what is set aside; made when first needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.findings: list[str] = []

    def set_record_aside(self, debt_id: int, text: str, reason: str) -> None:
        """A record that cannot be used. The caller removes its row afterwards."""
        target = self._room() / f"record-{debt_id}-{uuid4().hex[:8]}.json"
        with target.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.report(f"{reason} It was moved to {target}.")

    def set_file_aside(self, path: Path, *, known: bool) -> None:
        """A staged file of no debt: not ``known`` to any record, or only to a useless one.

        It is only removed where it holds nothing, or the cache has the same file.
        """
        if path.stat().st_size == 0 or (path.stat().st_nlink > 1 and not known):
            path.unlink()
            return
        kept = path.rename(self._room() / path.name)
        if known:
            self.report(f"What is left of a damaged file is {kept}.")
        else:
            self.report(f"A file was not closed when the daemon died; what it had is {kept}.")

    def set_journal_aside(self, directory: Path, reason: str) -> None:
        """A database that is none any more, and every staged file, for nobody knows whose."""
        target = self._room() / f"journal-{uuid4().hex[:8]}"
        target.mkdir(mode=0o700)
        # The database last: until it is gone, the next life finds it damaged and goes on here.
        for path in [directory / "staged", *sorted(directory.glob("journal.db*"), reverse=True)]:
            if path.exists():
                path.rename(target / path.name)
        self.report(f"{reason} It was moved, with its staged files, to {target}.")

    def report(self, sentence: str) -> None:
        log.warning("%s", sentence)
        self.findings.append(sentence)

    def _room(self) -> Path:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        return self.directory
