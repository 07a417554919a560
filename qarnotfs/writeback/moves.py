"""What is being renamed: which key becomes which, on disk until all have moved.

Used by `core.renaming` and `core.moving`. An object is copied before its old key goes, so dying
in between leaves two names. What is recorded here lets the next life finish it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from qarnotfs.errors import FileError
from qarnotfs.writeback.records import Records


class Moves:
    """The moves of one journal. ``left``: those of former lives."""

    def __init__(self, records: Records, waits: Callable[[], bool]) -> None:
        self._records = records
        self._waits = waits  # whether what has moved is not on record yet
        self.left = records.moves()
        self.over: set[str] = set()  # to go from the disk together with the next debt
        self._given_up: dict[str, list[str]] = {}  # see `give_up`: key or new key -> keys

    def give_up(self, unsure: Collection[str]) -> None:
        """What is left waits for the next life, but for what programs change in this one.

        They go on from what they see, which the next life is not to take for a part of a rename;
        single files stay, but for those whose new name it is ``unsure`` is to lose what it has.
        """
        files = [row for row in self.left if row.replaced_etag is not None]
        self.end([row.key for row in files if row.new_key not in unsure])
        for row in self.left:
            for key in filter(None, (row.key, row.new_key)):
                self._given_up.setdefault(key, []).append(row.key)

    def touch(self, keys: Iterable[str]) -> None:
        """Something new is about to be recorded of these."""
        for key in keys if self._given_up else ():
            self.over.update(self._given_up.pop(key, ()))

    def end(self, keys: Iterable[str]) -> None:
        """They have moved, or never will."""
        self.over.update(keys)
        if self._waits():
            return
        with suppress(FileError):  # together with the next debt, then: see `Recorded`
            self._records.change([], [], moved=self.over)
            self.over.clear()
