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
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from qarnotfs.errors import Corrupt, FileError, NoSpace
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition, ObjectInfo
from qarnotfs.writeback.debts import Debt, Kind, Record, State, pack, unpack
from qarnotfs.writeback.overlay import Overlay
from qarnotfs.writeback.staging import Seal, Staged, Staging

log = logging.getLogger(__name__)

SCHEMA = "CREATE TABLE IF NOT EXISTS debts (id INTEGER PRIMARY KEY, record TEXT NOT NULL)"


class Journal:
    """The debts of one mount. Every method is one synchronous stretch."""

    def __init__(self, directory: Path) -> None:
        """Open or create the journal in ``directory``; its lock must be held by the caller."""
        self.directory = directory
        self.staging = Staging(directory / "staged")
        self.quarantine = directory / "quarantine"
        self.overlay = Overlay()
        self.findings: list[str] = []
        self._debts: dict[int, Debt] = {}
        # Invariant: the debts of one key in the order they must be paid. At most one is
        # PAYING, and then it is the first; at most one comes behind it.
        self._by_key: dict[str, list[Debt]] = {}
        self._awaited: set[int] = set()  # ids that some debt's ``after`` has named
        self.bytes_owed = 0  # of all recorded debts; each carries its share in ``counted_bytes``
        self._db = connect(directory / "journal.db")
        self._replay()
        self._next_id = max(self._debts, default=0) + 1

    # --- asking ---------------------------------------------------------------------------

    def latest(self, key: str) -> Debt | None:
        """The last debt of a key: what the bucket will hold in the end."""
        debts = self._by_key.get(key)
        return debts[-1] if debts else None

    def all(self) -> Iterator[Debt]:
        """Every debt, in the order they were incurred; safe against changes meanwhile."""
        return iter(list(self._debts.values()))

    def has(self, debt_id: int) -> bool:
        return debt_id in self._debts

    def is_next(self, debt: Debt) -> bool:
        """Whether nothing older must be paid before this debt."""
        return self._by_key[debt.key][0] is debt and debt.after not in self._debts

    @property
    def count(self) -> int:
        """How many debts were recorded and are not paid."""
        return sum(debt.recorded for debt in self._debts.values())

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
        debt.state, debt.error = State.OPEN, None
        if debt.recorded:
            self._write(debt)  # from here a replay must not compare the checksum
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
        self._write(debt)
        return debt

    def owe_attributes(self, key: str, attributes: Attributes) -> Debt:
        """New attributes: joins a put that is not being sent, else a copy onto itself."""
        debt = self.latest(key)
        if debt is None or debt.state is State.PAYING:
            debt = self._incur(Kind.META, key, attributes, UNCONDITIONAL)
        debt.attributes = attributes
        if debt.recorded or debt.kind is Kind.META:
            self._write(debt)
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
        debt.after = after
        self._awaited.add(after)
        self._write(debt)
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
            moved.staged.shared |= debt.state is State.PAYING
        if moved.state is State.PAYING:
            moved.state = State.QUEUED
        if debt.recorded:
            self._write(moved)
        if debt.id in self._awaited:
            self._wait_for(moved, instead_of=debt.id)
        if debt.state is not State.PAYING:
            self._forget(debt)
        return moved

    def drop(self, debt: Debt) -> None:
        """The bytes are not wanted any more (deleted or replaced by their owner)."""
        if debt.state is not State.PAYING:
            self._forget(debt)

    # --- paying ---------------------------------------------------------------------------

    def begin(self, debt: Debt) -> None:
        debt.state = State.PAYING

    def note_upload(self, debt: Debt, upload: tuple[str, str] | None) -> None:
        """A multipart upload (key, id) was begun, or (``None``) ended: it must not be left."""
        debt.upload = upload
        if self.has(debt.id) and debt.recorded:
            self._write(debt)

    def postpone(self, debt: Debt, not_before_sec: float, reason: str) -> None:
        """It did not work this time."""
        debt.state, debt.not_before_sec, debt.error = State.QUEUED, not_before_sec, reason
        debt.attempts += 1

    def fail(self, debt: Debt, reason: str) -> None:
        """It will never work as it is. The bytes stay; the file says so."""
        debt.state, debt.error = State.FAILED, reason

    def paid(self, debt: Debt, info: ObjectInfo | None) -> None:
        """The bucket has it. A younger debt of the key now builds upon that version."""
        self._forget(debt)
        younger = self.latest(debt.key)
        if younger is None or (info is not None and info.key != debt.key):
            return
        younger.expected = Condition(etag=info.etag) if info else Condition(absent=True)
        sent, waiting = debt.staged, younger.staged
        if info and sent and waiting and waiting.base and waiting.base == sent.base:
            waiting.base = info  # it is a clone of what was sent: the same bytes below it
        if younger.recorded:
            self._write(younger)

    # --- inside -----------------------------------------------------------------------------

    def _pending(self, key: str) -> Debt | None:
        debt = self.latest(key)
        return debt if debt and debt.state is not State.PAYING else None

    def _never_existed(self, pending: Debt) -> bool:
        return pending.expected.absent and self._by_key[pending.key][0] is pending

    def _incur(self, kind: Kind, key: str, attributes: Attributes, expected: Condition) -> Debt:
        """A new debt takes the place of a pending one, and what that knew of the bucket."""
        pending = self._pending(key)
        if pending and pending.kind is not Kind.META:
            expected = pending.expected
        debt = Debt(self._next_id, kind, key, attributes, expected=expected)
        self._next_id += 1
        if pending:
            self._forget(pending)
        self._remember(debt)
        return debt

    def _remember(self, debt: Debt) -> None:
        self._debts[debt.id] = debt
        self._by_key.setdefault(debt.key, []).append(debt)
        self.overlay.set(debt.key, debt.present)

    def _wait_for(self, debt: Debt, *, instead_of: int) -> None:
        for waiting in self.all():
            if waiting.after == instead_of:
                waiting.after = debt.id
                self._awaited.add(debt.id)
                self._write(waiting)

    def _forget(self, debt: Debt) -> None:
        if debt.recorded:
            self._execute("DELETE FROM debts WHERE id = ?", (debt.id,))
        self.bytes_owed -= debt.counted_bytes
        del self._debts[debt.id]
        debts = self._by_key[debt.key]
        debts.remove(debt)
        if debts:
            self.overlay.set(debt.key, debts[-1].present)
        else:
            del self._by_key[debt.key]
            self.overlay.drop(debt.key)
        if debt.staged:
            debt.staged.unpin()

    def _write(self, debt: Debt) -> None:
        self._execute("INSERT OR REPLACE INTO debts VALUES (?, ?)", (debt.id, pack(debt)))
        self.bytes_owed += debt.size - debt.counted_bytes
        debt.counted_bytes = debt.size
        debt.recorded = True

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            if "full" in str(error):
                raise NoSpace("The disk that holds the journal is full.") from error
            raise FileError(f"The journal cannot be written: {error}.") from error

    # --- replaying --------------------------------------------------------------------------

    def _replay(self) -> None:
        rows = self._db.execute("SELECT id, record FROM debts ORDER BY id").fetchall()
        for debt_id, text in rows:
            try:
                self._revive(debt_id, unpack(text))
            except Corrupt as error:
                self._set_aside(debt_id, text, str(error))
        known = {debt.staged.path.name for debt in self._debts.values() if debt.staged}
        for path in self.staging.directory.iterdir():
            if path.name not in known:
                self._quarantine_file(path)

    def _revive(self, debt_id: int, record: Record) -> None:
        debt = Debt(debt_id, record.kind, record.key, record.attributes, recorded=True)
        debt.expected, debt.after, debt.seal = record.expected, record.after, record.seal
        debt.upload = record.upload
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
        self._db.execute("DELETE FROM debts WHERE id = ?", (debt_id,))
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
        self._db.close()


def connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(SCHEMA)
    return db
