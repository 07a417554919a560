"""What becomes of the debts of a dead mount's journal: they are another one's from now on.

Used as the base of `journal`, by `adoption`, which has both. All are recorded in the one before
any is removed from the other.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from qarnotfs.errors import FileError
from qarnotfs.store.base import Condition
from qarnotfs.writeback.debts import NO_TRIES, Debt, Kind, pack
from qarnotfs.writeback.owed import with_replaced
from qarnotfs.writeback.recorded import Recorded


class Heir(Recorded):
    """The debts on disk, and those that are taken over."""

    def inherit(self, theirs: Heir) -> None:
        """The debts of a dead mount's journal become ours, and their staged files get links here.

        All are recorded here, at once, before any is removed there. Dying in between leaves
        them in both: a staged file that we know already is the same debt. Where both mounts
        changed one key, neither knew of the other, and both versions are kept.
        """
        self._separate_moves(theirs)
        known = {debt.staged.path.name: debt for debt in self.all() if debt.staged}
        ours: dict[int, Debt] = {}
        taken: set[str] = set()
        for debt in theirs.all():
            same = known.get(debt.staged.path.name) if debt.staged else None
            key = debt.key
            if not same and key in self._by_key:
                younger = theirs.behind(debt)
                if younger and younger.kind is not Kind.META:
                    continue  # that is what its program wants
                if debt.staged is None:
                    self._report_contested(debt)
                    continue
                key = self.beside(key, time.time(), taken)
            ours[debt.id] = same or self._like(debt, key)
            taken.add(key)
        new = [
            (debt, ours[debt.id])
            for debt in theirs.all()
            if debt.id in ours and not self.has(ours[debt.id].id)
        ]
        for debt, mine in new:
            mine.after = ours[debt.after].id if debt.after in ours else 0
            self._awaited.add(mine.after)
        self._take_uploads(theirs)
        # First: debts of both journals would be what one mount wrote and the other renamed.
        self.begin_moves(theirs.moves.left)
        self._records.change([(mine.id, pack(mine)) for _, mine in new], [])
        for debt, mine in new:
            self._remember(mine)
            if debt.upload is not None and mine.key == debt.key:
                self.take_upload(mine, debt.upload)
        self.moves.left += theirs.moves.left
        self._hold_unmoved(theirs.moves.left)

    def _take_uploads(self, theirs: Heir) -> None:
        """Before the debts: an upload of a debt that is here already would be nobody's."""
        kept = {debt.upload.id for debt in self.all() if debt.upload}
        owed = [debt.upload for debt in theirs.all() if debt.upload]
        for upload in [*owed, *theirs.uploads.strays()]:
            if upload.id not in kept:
                self.uploads.begin(upload)

    def _separate_moves(self, theirs: Heir) -> None:
        """What one mount wrote is not what a rename of the other replaces: that is not finished.

        But a debt that both journals have is of who renames.
        """
        both = _files(self) & _files(theirs)
        _leave(theirs, {debt.key for debt in self.all() if _file(debt) not in both})
        _leave(self, {debt.key for debt in theirs.all() if _file(debt) not in both})

    def _like(self, debt: Debt, key: str) -> Debt:
        """A debt of another journal as one of ours, with a second name of its staged file.

        Under another key, where we owe something for its own, it is a new file.
        """
        mine = replace(debt, id=self._next_id, upload=None, counted_bytes=0, replaced=[])
        if key != debt.key:
            mine.key, mine.expected = key, Condition(absent=True)
            mine.begun, mine.perhaps, mine.beside = False, NO_TRIES, ""
        self._next_id += 1
        if debt.staged and debt.seal:
            theirs = debt.staged
            here = self.staging.directory / theirs.path.name
            if theirs.path.exists() and not here.exists():
                os.link(theirs.path, here)
            mine.staged = self._staged(theirs.path.name, theirs.base, debt.seal, theirs.lineage)
        return mine

    def _report_contested(self, debt: Debt) -> None:
        """New attributes or a deletion mean another version than ours."""
        mine = self.latest(debt.key)
        if mine is None or (mine.kind, mine.attributes) != (debt.kind, debt.attributes):
            what = "was deleted" if debt.kind is Kind.DELETE else "got other attributes"
            self.report(
                f"{debt.key!r} {what} by one mount that died and changed by another: it stays."
            )

    def give_up(self) -> None:
        """Another journal has every debt and upload of ours: rows first, then staged files."""
        debts, uploads = list(self.all()), [row.id for row in self._records.uploads()]
        try:
            rows = [one.id for debt in debts for one in with_replaced(debt)]
            moved = [move.key for move in self.moves.left]
            self._records.change([], rows, ended=uploads, moved=moved)
        except FileError:  # a full disk: a whole file can go, and makes room
            self._records.remove()
        for debt in debts:
            if debt.staged:
                debt.staged.path.unlink(missing_ok=True)


def _file(debt: Debt) -> str:
    return debt.staged.path.name if debt.staged else ""


def _files(journal: Heir) -> set[str]:
    return {_file(debt) for debt in journal.all() if debt.staged}


def _leave(journal: Heir, keys: set[str]) -> None:
    """Renames of these keys, or to them, stay as they are."""
    left = [row for row in journal.moves.left if keys & {row.key, row.new_key}]
    journal.moves.end([row.key for row in left])
    journal.moves.left = [row for row in journal.moves.left if row not in left]
