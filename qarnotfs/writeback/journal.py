"""The book of debts: what was promised to programs and is not in the bucket yet.

Used by the core (which incurs debts) and `uploader` (which pays them). One journal
belongs to one mount at a time, by a file lock. It is a SQLite file beside the staged
files; a debt is on disk, whole, before the call that promised it returns, and stays
there until the bucket confirmed it. The same debts are kept in memory, by key, and
`overlay` says what they do to directories. Never talks to the bucket.

What survives what: the death of the daemon loses nothing that was recorded. A machine
that loses power may lose the last seconds, never half a record, and a staged file whose
bytes did not reach the disk is found out by its checksum and kept, not uploaded.
"""

from __future__ import annotations

import logging
from pathlib import Path

from qarnotfs.errors import Corrupt, FileError
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition, ObjectInfo
from qarnotfs.writeback.debts import Debt, Kind, Record, State, pack, unpack
from qarnotfs.writeback.owed import Owed
from qarnotfs.writeback.records import Records
from qarnotfs.writeback.staging import Seal, Staged, Staging

log = logging.getLogger(__name__)


class Journal(Owed):
    """The debts of one mount. Every method is one synchronous stretch."""

    def __init__(self, directory: Path) -> None:
        """Open or create the journal in ``directory``; its lock must be held by the caller."""
        super().__init__()
        self.directory = directory
        self.staging = Staging(directory / "staged")
        self.quarantine = directory / "quarantine"
        self.findings: list[str] = []
        self._records = Records(directory / "journal.db")
        self._replay()
        self._next_id = max(self._debts, default=0) + 1

    # --- incurring ------------------------------------------------------------------------

    def open(self, key: str, staged: Staged, attributes: Attributes, expected: Condition) -> Debt:
        """A file that is being written. In memory only until `record`."""
        debt = self._incur(Kind.PUT, key, attributes, expected)
        debt.staged, debt.state = staged, State.OPEN
        return debt

    def reopen(self, debt: Debt) -> None:
        """A program writes again to a file whose bytes are recorded but not being sent."""
        assert debt.state not in (State.PAYING, State.OPEN)
        assert debt.staged is not None
        before = debt.state, debt.error
        debt.state, debt.error = State.OPEN, None
        try:
            if debt.recorded:
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

    def release(self, debt: Debt, not_before_sec: float) -> None:
        """Nobody writes to the file any more: it may be sent from ``not_before_sec``."""
        if debt.state is State.HELD:
            debt.state, debt.not_before_sec = State.QUEUED, not_before_sec

    def owe_empty(self, key: str, attributes: Attributes, expected: Condition) -> Debt:
        """An object without bytes: a directory marker."""
        debt = self._incur(Kind.PUT, key, attributes, expected)
        self._write_or_undo(debt)
        return debt

    def owe_attributes(self, key: str, attributes: Attributes) -> Debt:
        """New attributes: joins a put that is not being sent, else a copy onto itself."""
        debt = self.latest(key)
        if debt is None or debt.state is State.PAYING:
            debt = self._incur(Kind.META, key, attributes, UNCONDITIONAL)
            self._write_or_undo(debt)
            return debt
        before, debt.attributes = debt.attributes, attributes
        try:
            if debt.recorded:
                self._write(debt)
        except FileError:
            debt.attributes = before
            raise
        return debt

    def owe_delete(self, key: str, expected: Condition, *, after: int = 0) -> Debt | None:
        """The end of a key, where we believe the bucket has ``expected``.

        ``None`` where a put that never began is all there was.
        """
        pending = self._pending(key)
        if pending and pending.kind is Kind.PUT and self._never_existed(pending):
            self._forget(pending)
            return None
        debt = self._incur(Kind.DELETE, key, Attributes(), expected)
        if after:
            debt.after = after
            self._awaited.add(after)
            self._break_circle(debt)
        self._write_or_undo(debt)
        return debt

    def move(self, debt: Debt, key: str, expected: Condition) -> Debt:
        """A file that is not uploaded yet gets another key; what was owed there is dropped.

        A debt being paid cannot change: its (sealed) bytes are owed again under the new key.
        The caller owes the deletion of the old key where there is an object.
        """
        assert debt.kind is Kind.PUT
        moved = self._incur(Kind.PUT, key, debt.attributes, expected)
        moved.staged, moved.seal = debt.staged, debt.seal
        moved.state, moved.not_before_sec = debt.state, debt.not_before_sec
        if moved.staged:
            moved.staged.pin()
        if moved.state is State.PAYING:
            moved.state = State.QUEUED
        else:
            moved.replaced.append(debt)
        self._wait_for(moved, instead_of=debt.id)
        if moved.state is State.OPEN and moved.staged and moved.staged.base and not moved.seal:
            moved.seal = moved.staged.draft()  # the base's name goes: its bytes must not
        if debt.recorded or moved.seal:
            try:
                self._write(moved)
            except FileError:
                self._wait_for(debt, instead_of=moved.id)
                if debt in moved.replaced:
                    moved.replaced.remove(debt)
                self._undo(moved)
                raise
        if debt.state is not State.PAYING and debt.id in self._debts:
            self._take_out(debt)
        return moved

    def drop(self, debt: Debt) -> None:
        """The bytes are not wanted any more (deleted or replaced by their owner)."""
        if debt.state is not State.PAYING:
            self._forget(debt)

    # --- paying ---------------------------------------------------------------------------

    def begin(self, debt: Debt) -> None:
        debt.state, debt.begun = State.PAYING, True
        if debt.staged:
            debt.staged.sends += 1

    def note_upload(self, debt: Debt, upload: tuple[str, str] | None) -> None:
        """A multipart upload (key, id) was begun, or (``None``) ended: it must not be left."""
        debt.upload = upload
        if self.has(debt.id) and debt.recorded:
            self._write(debt)

    def postpone(self, debt: Debt, not_before_sec: float, reason: str) -> None:
        """It did not work this time."""
        self._ended(debt)
        debt.state, debt.not_before_sec, debt.error = State.QUEUED, not_before_sec, reason
        debt.attempts += 1

    def fail(self, debt: Debt, reason: str) -> None:
        """It will never work as it is. The bytes stay; the file says so.

        A younger debt of the key takes its place: nothing is to wait for this one for ever.
        """
        self._ended(debt)
        debt.state, debt.error = State.FAILED, reason
        younger = self.latest(debt.key)
        if younger is None or younger is debt:
            return
        younger.expected, younger.begun = debt.expected, True
        younger.replaced.append(debt)
        self._take_out(debt)
        if younger.recorded:
            self._write(younger)

    def paid(self, debt: Debt, info: ObjectInfo | None) -> None:
        """The bucket has it. A younger debt of the key now builds upon that version."""
        self._ended(debt)
        debt.paid = True
        self._forget(debt)
        if info is not None and debt.staged and debt.staged.base:
            self._rebase(debt.staged.base, info)
        younger = self.latest(debt.key)
        if younger is None or (info is not None and info.key != debt.key):
            return
        if debt.kind is not Kind.META or info is None:  # the bytes may be somebody else's by now
            younger.expected = Condition(etag=info.etag) if info else Condition(absent=True)
        if younger.recorded:
            self._write(younger)

    def _rebase(self, base: ObjectInfo, info: ObjectInfo) -> None:
        """What was sent replaced ``base``, and is what its copies build upon: the same bytes."""
        for other in self.all():
            below = other.staged.base if other.staged else None
            if below and below.key == base.key and below.same_version(base):
                assert other.staged is not None
                other.staged.base = info
                if other.recorded:
                    self._write(other)

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
            debt.begun, debt.after = pending.begun, pending.after
            debt.replaced = [pending]
            self._take_out(pending)
        self._remember(debt)
        if pending:
            self._wait_for(debt, instead_of=pending.id)
        return debt

    def _write_or_undo(self, debt: Debt) -> None:
        try:
            self._write(debt)
        except FileError:
            self._undo(debt)
            raise

    def _undo(self, debt: Debt) -> None:
        """A debt that could not be recorded was never incurred."""
        self._take_out(debt)
        for pending in debt.replaced:
            self._remember(pending)
            self._wait_for(pending, instead_of=debt.id)
        if debt.staged:
            debt.staged.unpin()

    def _forget(self, debt: Debt) -> None:
        """The debt goes, from the disk first, and with it what it took the place of."""
        gone = _with_replaced(debt)
        self._records.change([], [one.id for one in gone if one.recorded])
        self._take_out(debt)
        self._release(gone)

    def _release(self, gone: list[Debt]) -> None:
        """The staged files of debts that are no longer on disk may go."""
        for debt in gone:
            self.bytes_owed -= debt.counted_bytes
            debt.counted_bytes = 0
            if debt.staged:
                debt.staged.unpin()

    def _write(self, debt: Debt) -> None:
        """Record a debt and, in the same transaction, the end of those it took the place of."""
        gone = _with_replaced(debt)[1:]
        waiting = self.all() if debt.id in self._awaited else iter(())
        rows = [(one.id, pack(one)) for one in waiting if one.recorded and one.after == debt.id]
        removed = [one.id for one in gone if one.recorded]
        self._records.change([(debt.id, pack(debt)), *rows], removed)
        self.bytes_owed += debt.size - debt.counted_bytes
        debt.counted_bytes = debt.size
        debt.recorded = True
        debt.replaced = []
        for one in gone:
            if one.id in self._debts:
                self._take_out(one)
        self._release(gone)

    # --- replaying --------------------------------------------------------------------------

    def _replay(self) -> None:
        for debt_id, text in self._records.rows():
            try:
                self._revive(debt_id, unpack(text))
            except (Corrupt, OSError) as error:
                self._set_aside(debt_id, text, str(error))
        known = {debt.staged.path.name for debt in self._debts.values() if debt.staged}
        for path in self.staging.directory.iterdir():
            if path.name not in known:
                self._quarantine_file(path)

    def _revive(self, debt_id: int, record: Record) -> None:
        debt = Debt(debt_id, record.kind, record.key, record.attributes, recorded=True)
        debt.expected, debt.after, debt.seal = record.expected, record.after, record.seal
        debt.upload, debt.begun = record.upload, True  # perhaps sent in its former life
        self._awaited.add(debt.after)
        if record.staged_name and record.seal:
            debt.staged = self.staging.recover(record.staged_name, record.base, record.seal)
            if record.was_open:  # written on after the last close: the newest bytes count
                debt.seal = debt.staged.seal()
            debt.counted_bytes = debt.size
            self.bytes_owed += debt.size
        self._remember(debt)

    def _set_aside(self, debt_id: int, text: str, reason: str) -> None:
        self.quarantine.mkdir(mode=0o700, exist_ok=True)
        target = self.quarantine / f"record-{debt_id}.json"
        target.write_text(text)
        self._records.change([], [debt_id])
        self.report(f"{reason} It was moved to {target}.")

    def _quarantine_file(self, path: Path) -> None:
        """A staged file of no debt: its program never closed it before the daemon died."""
        if path.stat().st_size == 0 or path.stat().st_nlink > 1:
            path.unlink()
            return
        self.quarantine.mkdir(mode=0o700, exist_ok=True)
        kept = path.rename(self.quarantine / path.name)
        self.report(f"A file was not closed when the daemon died; what it had is {kept}.")

    def report(self, sentence: str) -> None:
        log.warning("%s", sentence)
        self.findings.append(sentence)

    def take_over(self, record: Record) -> Debt:
        """A debt of another journal becomes one of ours; its staged file is here already."""
        self._revive(self._next_id, record)
        debt = self._debts[self._next_id]
        self._next_id += 1
        return debt

    def write(self, debt: Debt) -> None:
        """Record a debt as it stands."""
        self._write(debt)

    def close(self) -> None:
        self._records.close()


def _with_replaced(debt: Debt) -> list[Debt]:
    """A debt and, behind it, all that it took the place of and that is still on disk."""
    found = [debt]
    for replaced in debt.replaced:
        found += _with_replaced(replaced)
    return found
