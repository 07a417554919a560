"""What is being renamed: which key becomes which, on disk until all have moved.

Used by `core.renaming` and `core.moving`. An object is copied before its old key goes, so dying
in between leaves two names. What is recorded here lets the next life finish it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from qarnotfs.errors import FileError
from qarnotfs.writeback.records import MoveRow, Records


class Moves:
    """The moves of one journal. ``left``: those of former lives."""

    def __init__(self, records: Records, waits: Callable[[], bool]) -> None:
        self._records = records
        self._waits = waits  # whether what has moved is not on record yet
        self.left = records.moves()
        self.over: set[str] = set()  # to go from the disk together with the next debt

    def begin(self, moves: Iterable[MoveRow]) -> None:
        """These keys are about to be copied, or their debts moved; recorded when it returns."""
        rows = list(moves)
        self._records.change_moves(rows, [])
        self.over.difference_update(row.key for row in rows)

    def end(self, keys: Iterable[str]) -> None:
        """They have moved, or never will."""
        self.over.update(keys)
        if self._waits():
            return
        with suppress(FileError):  # together with the next debt, then: see `Recorded`
            self._records.change_moves([], list(self.over))
            self.over.clear()
