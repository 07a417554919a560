"""The book of debts: what was promised to programs and is not in the bucket yet.

Used by the core (which incurs debts) and `uploader` (which pays them). One journal belongs to one
mount at a time, by a file lock. It is a SQLite file beside the staged files; a debt is on disk,
whole, before the call that promised it returns, and stays there until the bucket confirmed it. The
same debts are kept in memory, by key, and `overlay` says what they do to directories. Never talks
to the bucket.

What survives what: the death of the daemon loses nothing that was recorded. A machine that loses
power may lose the last seconds, never half a record, and a staged file whose bytes did not reach
the disk is found out by its checksum and kept, not uploaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from qarnotfs.store.base import Condition, ObjectInfo
from qarnotfs.writeback.debts import Debt, Kind, State
from qarnotfs.writeback.incurred import Incurred


class Journal(Incurred):
    """The debts of one mount. Every method is one synchronous stretch."""

    def begin(self, debt: Debt) -> None:
        debt.state, debt.begun = State.PAYING, True
        if debt.staged:
            debt.staged.sends += 1

    def perhaps_copied(self, debt: Debt, etag: str) -> None:
        """A copy of something else may be under its key: the debt takes its place all the same."""
        debt.perhaps = {**debt.perhaps, etag: ""}
        self._rewrite(debt)

    def sends_beside(self, debt: Debt, key: str) -> None:
        """Its name is taken: it is about to be stored under this one."""
        debt.beside = key
        self._rewrite(debt)

    def postpone(self, debt: Debt, not_before_sec: float, reason: str) -> None:
        """It did not work this time. Where there are younger bytes, only those are sent."""
        self._ended(debt)
        debt.state, debt.not_before_sec, debt.error = State.QUEUED, not_before_sec, reason
        debt.attempts += 1
        younger = self.behind(debt)
        if younger and younger.kind is debt.kind is Kind.PUT:
            younger.attempts, younger.not_before_sec = debt.attempts, not_before_sec
            self._give_way(debt, younger)
        elif debt.perhaps:  # what was sent without an answer
            self._rewrite(debt)

    def fail(self, debt: Debt, reason: str) -> None:
        """It will never work as it is. The bytes stay; the file says so.

        A younger debt of the key takes its place: nothing is to wait for this one for ever.
        """
        self._ended(debt)
        self.stray_upload(debt)
        debt.state, debt.error = State.FAILED, reason
        younger = self.behind(debt)
        bytes_stay = debt.kind is Kind.PUT and younger and younger.kind is Kind.META
        if younger is None or bytes_stay:
            self._rewrite(debt)
        else:
            self._give_way(debt, younger)

    def _give_way(self, debt: Debt, younger: Debt) -> None:
        """A younger debt takes the place of one that was begun, and what that knew."""
        if debt.kind is not Kind.META:  # it knows nothing
            younger.expected, younger.perhaps = debt.expected, debt.perhaps
        younger.begun |= younger.kind is debt.kind
        younger.replaced.append(debt)
        self.stray_upload(debt)
        self._take_out(debt)
        self._wait_for(younger, instead_of=debt.id)
        self._rewrite(younger)

    def deleted(self, debts: Sequence[Debt]) -> None:
        """The bucket has nothing of ours under the keys of these debts: as `paid`, all or none."""
        absent = Condition(absent=True)
        younger = [one for debt in debts for one in self._build_upon(absent, self.behind(debt))]
        self._forget(*debts, better=younger)
        for debt in debts:
            debt.paid = True

    def paid(self, debt: Debt, info: ObjectInfo | None) -> None:
        """The bucket has it. A younger debt of the key now builds upon that version.

        Both at once, on disk too: a life that knew the one and not the other would take what
        it stored itself for somebody else's.
        """
        better: list[Debt] = []
        if info is not None and debt.staged and debt.staged.base:
            better += self.rebase(debt.staged, info)
        # Of new attributes we do not know whose bytes have them by now.
        if info is None or (info.key == debt.key and debt.kind is not Kind.META):
            there = Condition(etag=info.etag) if info else Condition(absent=True)
            better += self._build_upon(there, self.behind(debt))
        elif info.key != debt.key and (end := self.behind(debt)) and end.kind is Kind.DELETE:
            better += self._build_upon(Condition(absent=True), end)  # what is there is another's
        better += self._note_copy(self.behind(debt))
        self._forget(debt, completed=debt.upload, better=better)
        self._ended(debt)
        debt.paid = True
