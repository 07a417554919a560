"""How debts are incurred: by writing, creating, removing and renaming.

Used as the base of `journal`. A debt is on disk before the call that promised it returns; what
it takes the place of stays there until then.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace

from qarnotfs.errors import FileError
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition
from qarnotfs.writeback.debts import ANY, NO_TRIES, Debt, Kind, State, Tries
from qarnotfs.writeback.heir import Heir
from qarnotfs.writeback.owed import with_replaced
from qarnotfs.writeback.plan import parts
from qarnotfs.writeback.staging import Seal, Staged

PERHAPS_MAX = 256  # tries of different bytes without an answer that are remembered


class Incurred(Heir):
    """What is owed, and how it comes to be. Every method is one synchronous stretch."""

    def open(self, key: str, staged: Staged, attributes: Attributes, expected: Condition) -> Debt:
        """A file that is being written. In memory only until `record`."""
        debt = self._incur(Kind.PUT, key, attributes, expected)
        debt.staged, debt.state = staged, State.OPEN
        self._note_base(debt)
        self._note_copy(debt)
        return debt

    def reopen(self, debt: Debt) -> None:
        """A program writes again to a file whose bytes are recorded but not being sent."""
        assert debt.state not in (State.PAYING, State.OPEN)
        assert debt.staged is not None
        before = debt.state, debt.error
        self._note_former(debt)
        debt.state, debt.error = State.OPEN, None
        try:
            self._write(debt)  # from here a replay must not compare the checksum
        except FileError:
            debt.state, debt.error = before
            raise
        debt.staged.unseal()

    def record(self, debt: Debt, seal: Seal | None) -> None:
        """Put a debt on disk. From here its bytes survive the death of the daemon."""
        before = debt.state, debt.seal
        debt.state, debt.seal = State.HELD, seal
        try:
            self._write(debt)
        except FileError:
            debt.state, debt.seal = before
            raise

    def truncating(self, debt: Debt, size: int) -> None:
        """An open file is about to be cut or extended: a replay must not look for more."""
        if debt.recorded and debt.staged:
            before, debt.seal = debt.seal, debt.staged.draft_of(size)
            try:
                self._write(debt)
            except FileError:
                debt.seal = before
                raise

    def release(self, debt: Debt, not_before_sec: float) -> None:
        """Nobody writes to the file any more: it may be sent from ``not_before_sec``."""
        if debt.state is State.HELD:
            debt.state, debt.not_before_sec = State.QUEUED, not_before_sec
            debt.attempts = 0  # of other bytes

    def owe_empty(self, key: str, attributes: Attributes, expected: Condition) -> Debt:
        """An object without bytes: a directory marker."""
        debt = self._incur(Kind.PUT, key, attributes, expected)
        self._write_or_undo(debt)
        return debt

    def owe_attributes(self, key: str, attributes: Attributes) -> Debt:
        """New attributes: they join a put, also one that is being sent, else a copy onto itself.

        Who has sent older ones with a put is not done before these are stored, too.
        """
        debt = self.latest(key)
        if debt is None or (debt.state is State.PAYING and debt.kind is not Kind.PUT):
            return self.owe_copy(key, attributes)
        before = debt.attributes, debt.state, debt.error
        debt.attributes = attributes
        if debt.kind is Kind.META and debt.state is State.FAILED:
            debt.state, debt.error, debt.attempts = State.QUEUED, None, 0
        try:
            if debt.recorded:
                self._write(debt)
        except FileError:
            debt.attributes, debt.state, debt.error = before
            raise
        return debt

    def owe_copy(self, key: str, attributes: Attributes) -> Debt:
        """The object is to be copied onto itself, with these attributes."""
        debt = self._incur(Kind.META, key, attributes, UNCONDITIONAL)
        self._write_or_undo(debt)
        return debt

    def owe_delete(
        self,
        key: str,
        expected: Condition,
        *,
        perhaps: Tries = NO_TRIES,
        certain: bool = False,
    ) -> Debt | None:
        """The end of a key, where we believe the bucket has ``expected``, or ``perhaps`` these.

        ``None`` where a put that never began is all there was; but a directory's end is always
        owed, and hides what is still to be deleted in it. ``certain``: its new name has the
        bytes already, and a full disk cannot undo that.
        """
        pending = self._pending(key)
        is_new = pending and pending.kind is Kind.PUT and self._never_existed(pending)
        if pending and is_new and not key.endswith("/"):
            self._forget(pending)
            return None
        debt = self._end(key, expected, perhaps)
        if is_new:
            debt.expected = expected
        if certain:
            self._write_certain(debt)
        else:
            self._write_or_undo(debt)
        return debt

    def _end(self, key: str, expected: Condition, perhaps: Tries, after: int = 0) -> Debt:
        debt = self._incur(Kind.DELETE, key, Attributes(), expected)
        debt.perhaps = {**debt.perhaps, **perhaps}
        if after:
            debt.after = after
            self._awaited.add(after)
            self._break_circle(debt)
        return debt

    def move(self, debt: Debt, key: str, expected: Condition, *, certain: bool = False) -> Debt:
        """A file that is not uploaded yet gets another key; what was owed there is dropped.

        A debt being paid cannot change: its (sealed) bytes are owed again under the new key. The
        deletion of the old key, where there may be an object, is recorded at the same moment: it
        knows what we sent there. ``certain``: on a full disk it is moved in memory, and a crash
        would find it under its old name. Of a file that is written anew, and is not closed yet,
        what was closed before moves on disk.
        """
        assert debt.kind is Kind.PUT
        self._note_former(debt)
        closed = _closed_before(debt)
        was_sent = debt.begun or bool(debt.perhaps) or not debt.expected.absent
        moved = self._incur(Kind.PUT, key, debt.attributes, expected)
        moved.staged, moved.seal, moved.error = debt.staged, debt.seal, debt.error
        self._note_base(moved)
        moved.state, moved.not_before_sec = debt.state, debt.not_before_sec
        if moved.staged:
            moved.staged.pin()
        there = moved.replaced
        if closed:
            closed = self._moved_along(closed, moved, [*there, *debt.replaced])
            moved.replaced = [closed]
            self._note_base(moved)
        else:
            self._replace(debt, moved)
        self._wait_for(moved, instead_of=debt.id)
        if moved.state is State.OPEN and moved.staged and not (moved.seal or closed):
            moved.seal = moved.staged.draft()  # the old name goes: its bytes must not
        if debt.state is not State.PAYING:
            self._take_out(debt)
        both = [closed or moved]
        if was_sent or self.latest(debt.key):  # something older is still to be sent there
            # The bucket may still have what had this name before, and is not sent either.
            after = debt.after if self._after(debt) else moved.id
            both.append(self._end(debt.key, debt.expected, debt.perhaps, after))
        if certain:
            self._write_certain(*both)
        else:
            try:
                self._write(*both)
            except FileError:
                if closed:
                    moved.replaced = there
                    self._release([closed])
                self._undo_move(debt, moved, *both[1:])
                raise
        if debt.state is not State.PAYING:
            self.stray_upload(debt)
        if closed:
            self._release([debt])  # it is on no record, and in nobody's place
        self.recount(moved)
        return moved

    def _moved_along(self, closed: Debt, moved: Debt, instead_of: list[Debt]) -> Debt:
        """The same bytes as a new debt: what is owed for a key is replayed by age."""
        twin = replace(closed, id=self._next_id, key=moved.key, expected=moved.expected)
        self._next_id += 1
        twin.perhaps, twin.after, twin.replaced = moved.perhaps, moved.after, instead_of
        twin.recorded, twin.upload, twin.beside, twin.counted_bytes = False, None, "", 0
        if twin.staged:
            twin.staged.pin()
        return twin

    def _replace(self, debt: Debt, moved: Debt) -> None:
        """One debt has the bytes of another, and takes its place if it can."""
        if debt.state is not State.PAYING:
            moved.replaced.append(debt)
            return
        moved.state = State.QUEUED
        if moved.staged:
            moved.staged.shared = True

    def _undo_move(self, debt: Debt, moved: Debt, *ends: Debt) -> None:
        for end in ends:
            self.undo(end)
        if debt in moved.replaced:
            moved.replaced.remove(debt)
        if not self.has(debt.id):
            self._remember(debt)
        self._wait_for(debt, instead_of=moved.id)
        self.undo(moved)

    def drop(self, key: str) -> None:
        """Another object has the key now: whatever was owed for it is not wanted any more.

        On a disk that is full it stays until something else can be recorded.
        """
        for debt in list(self._by_key.get(key, ())):
            if debt.state is not State.PAYING:
                try:
                    self._forget(debt)
                except FileError:
                    self._unwanted += [one.id for one in with_replaced(debt) if one.recorded]
                    self._take_out(debt)
                    self._not_late(with_replaced(debt))

    def perhaps_stored(self, debt: Debt, etag: str, *, recorded: bool = False) -> None:
        """A request that stores this under the debt's key is about to be sent.

        For a small file it is not worth a row before it is known that no answer came.
        """
        if etag not in debt.perhaps:
            tries = {**debt.perhaps, etag: debt.staged.lineage if debt.staged else ""}
            debt.perhaps = dict([*tries.items()][-PERHAPS_MAX:])
            if recorded:
                self._rewrite(debt)

    def _rewrite(self, debt: Debt) -> None:
        """Record what is known better now, if it can be: what is on disk is older, but safe."""
        if debt.recorded:
            with suppress(FileError):
                self._write(debt)

    # --- inside -----------------------------------------------------------------------------

    def _incur(self, kind: Kind, key: str, attributes: Attributes, expected: Condition) -> Debt:
        """A new debt takes the place of a pending one, and what that knew of the bucket.

        On disk the pending one stays, with its bytes, until the new one is recorded.
        """
        pending = self._pending(key)
        debt = Debt(self._next_id, kind, key, attributes, expected=expected)
        self._next_id += 1
        if pending:
            if pending.kind is not Kind.META:
                debt.expected = pending.expected
            self._note_former(pending)
            debt.begun, debt.after = pending.begun and kind is pending.kind, pending.after
            debt.perhaps = pending.perhaps
            debt.replaced = [pending]
            self.stray_upload(pending)
            self._take_out(pending)
        self._remember(debt)
        if pending:
            self._wait_for(debt, instead_of=pending.id)
        return debt

    def _note_former(self, debt: Debt) -> None:
        """Its bytes or its name are about to change, and a former life may have stored them.

        That life did not note it of whole small files: see `perhaps_stored`.
        """
        staged = debt.staged
        if ANY in debt.perhaps and staged and staged.whole and parts(staged.layers) is None:
            with suppress(OSError):
                digest = hashlib.md5(staged.read_data(0, staged.size), usedforsecurity=False)
                self.perhaps_stored(debt, digest.hexdigest())
                debt.perhaps = {etag: whose for etag, whose in debt.perhaps.items() if etag != ANY}


def _closed_before(debt: Debt) -> Debt | None:
    """What is on record of a file that is written anew, and was not closed since."""
    if debt.recorded or debt.state is not State.OPEN:
        return None
    before = [one for one in debt.replaced if one.kind is Kind.PUT and one.promised]
    return max(before, key=lambda one: one.id, default=None)
