"""What cannot be read or belongs to nobody: moved aside, reported, never deleted.

Used by `journal`. What is found is a sentence for a person, shown by ``status``.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class Quarantine:
    """The directory of one journal for what is set aside; made when first needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.findings: list[str] = []

    def set_record_aside(self, debt_id: int, text: str, reason: str) -> None:
        """A record that cannot be read. The caller removes its row afterwards."""
        target = self._room() / f"record-{debt_id}.json"
        target.write_text(text)
        self.report(f"{reason} It was moved to {target}.")

    def set_file_aside(self, path: Path) -> None:
        """A staged file of no debt: its program never closed it before the daemon died.

        It is only removed where it holds nothing, or the cache has the same file.
        """
        if path.stat().st_size == 0 or path.stat().st_nlink > 1:
            path.unlink()
            return
        kept = path.rename(self._room() / path.name)
        self.report(f"A file was not closed when the daemon died; what it had is {kept}.")

    def report(self, sentence: str) -> None:
        log.warning("%s", sentence)
        self.findings.append(sentence)

    def _room(self) -> Path:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        return self.directory
