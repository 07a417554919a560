"""The debts on disk: rows, staged files, and what a new life makes of them.

Used as the base of `heir` and `journal`, which says what can be owed. Here it is written, replayed
and forgotten: rows first, staged files afterwards. What cannot be read is quarantined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from qarnotfs.errors import Corrupt, FileError
from qarnotfs.index.listing import ancestors_of
from qarnotfs.store.base import ObjectInfo
from qarnotfs.writeback.debts import ANY, Debt, Kind, Record, State, pack, unpack
from qarnotfs.writeback.moves import Moves
from qarnotfs.writeback.owed import Owed, with_replaced
from qarnotfs.writeback.plan import PART_BYTES, parts
from qarnotfs.writeback.quarantine import Quarantine
from qarnotfs.writeback.records import MoveRow, Records
from qarnotfs.writeback.staging import Seal, Staged, Staging
from qarnotfs.writeback.uploads import Upload, Uploads


class Recorded(Owed):
    """What is owed, and the same on disk. Every method is one synchronous stretch."""

    def __init__(self, directory: Path) -> None:
        """Open or create the journal in ``directory``; its lock must be held by the caller."""
        super().__init__()
        self.directory = directory
        self.staging = Staging(directory / "staged")
        self.quarantine = directory / "quarantine"
        self._aside = Quarantine(self.quarantine)
        self._records = Records(directory / "journal.db")
        self.uploads = Uploads(self._records)
        self.moves = Moves(self._records, lambda: bool(self._late or self._unwanted))
        self._next_id = 1
        self._shared: WeakValueDictionary[str, Staged] = WeakValueDictionary()  # by name
        self._at_once: list[Debt] | None = None  # what waits to be recorded; see `at_once`
        self._late: list[Debt] = []  # what has happened, and a full disk does not say
        self._unwanted: list[int] = []  # rows that a full disk did not let go
        self._replay()
        self._hold_unmoved(self.moves.left)

    @property
    def findings(self) -> list[str]:
        """What was set aside, a sentence each."""
        return self._aside.findings

    def is_next(self, debt: Debt) -> bool:
        """Whether nothing must be paid, or aborted, before this debt."""
        return super().is_next(debt) and not self.uploads.has_stray(debt.key)

    def write(self, debt: Debt) -> None:
        """Record a debt as it stands."""
        self._write(debt)

    def begin_moves(self, moves: Iterable[MoveRow]) -> None:
        """These keys are about to be copied, or their debts moved; recorded when it returns.

        An earlier row of a key may be all that says what a full disk did not take.
        """
        self._write(begun=list(moves))

    def close(self) -> None:
        """Close the database. Nothing may be changed afterwards."""
        self._records.close()

    # --- multipart uploads --------------------------------------------------------------------

    def take_upload(self, debt: Debt, upload: Upload) -> None:
        """The debt's file is sent by this multipart upload."""
        assert debt.staged is not None
        self.uploads.keep(upload)
        debt.upload, debt.staged.watcher = upload, upload.changed
        self.recount(debt)

    def stray_upload(self, debt: Debt) -> None:
        """The debt needs its upload no more, if it has one: it is to be aborted."""
        if debt.upload is not None:
            self.uploads.stray(debt.upload)
            debt.upload = None
            self.recount(debt)

    # --- writing and forgetting ---------------------------------------------------------------

    def _write_or_undo(self, debt: Debt) -> None:
        try:
            self._write(debt)
        except FileError:
            self.undo(debt)
            raise

    def undo(self, debt: Debt) -> None:
        """A debt that could not be recorded was never incurred."""
        self.stray_upload(debt)
        self._take_out(debt)
        for pending in sorted(debt.replaced, key=lambda one: one.id):
            self._remember(pending)
            self._wait_for(pending, instead_of=debt.id)
        if debt.staged:
            debt.staged.unpin()

    def _forget(
        self, *debts: Debt, completed: Upload | None = None, better: Iterable[Debt] = ()
    ) -> None:
        """Debts go, from the disk first, and with them what they took the place of.

        ``better``: debts of which more is known now; recorded at the same moment.
        """
        gone = [one for debt in debts for one in with_replaced(debt)]
        rows = [*self._unwanted, *(one.id for one in gone if one.recorded)]
        written = [(one.id, pack(one)) for one in better if one.recorded and one.id not in rows]
        self._records.change(written, rows, ended=[completed.id] if completed else [])
        self._unwanted.clear()
        for debt in debts:
            if debt.upload is not completed:
                self.stray_upload(debt)
            debt.upload = None
            self._take_out(debt)
        self._release(gone)

    def _release(self, gone: list[Debt]) -> None:
        """The staged files of debts that are no longer on disk may go."""
        self._not_late(gone)
        for debt in gone:
            if debt.staged:
                debt.staged.unpin()

    def _not_late(self, debts: list[Debt]) -> None:
        """These need not be recorded any more."""
        if self._late:
            ended = set(debts)
            self._late = [one for one in self._late if one not in ended]

    def _write(self, *debts: Debt, begun: Sequence[MoveRow] = ()) -> None:
        """Record debts and, in the same transaction, the end of those they took the place of.

        Also what a full disk did not take before: else what is promised now would be undone by a
        life that goes on from what the disk says.
        """
        late = self._still_owed(self._late)
        for one in late:
            if one.state is State.OPEN and one.staged:
                one.seal = one.staged.draft()
        wanted = dict.fromkeys((*late, *debts))
        gone = dict.fromkeys(one for debt in wanted for one in with_replaced(debt)[1:])
        debts = tuple(debt for debt in wanted if debt not in gone)
        awaited = self._awaited.intersection(debt.id for debt in debts)
        waiting = self.all() if awaited else iter(())
        rows = [(one.id, pack(one)) for one in waiting if one.recorded and one.after in awaited]
        removed = [*self._unwanted, *(one.id for one in gone if one.recorded)]
        self.moves.touch(debt.key for debt in debts if not debt.recorded)
        written = [*rows, *((debt.id, pack(debt)) for debt in debts)]
        self._records.change(written, removed, moved=self.moves.over, begun=begun)
        self._late.clear()
        self._unwanted.clear()
        self.moves.over.clear()
        for debt in debts:
            debt.recorded = True
            self.recount(debt)
            debt.replaced = []
        for one in gone:
            if one.id in self._debts:
                self._take_out(one)
        self._release([*gone])

    def _write_certain(self, *debts: Debt) -> None:
        """Record what has happened already: a full disk cannot undo it."""
        if self._at_once is not None:
            self._at_once += debts
            return
        self._write_or_later(*debts)

    def _write_or_later(self, *debts: Debt) -> None:
        try:
            self._write(*debts)
        except FileError:
            self._late += debts

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is certain is recorded at the end of a block, in one transaction.

        Until then it is as on a full disk: what it took the place of is still there.
        """
        self._at_once = []
        try:
            yield
        finally:
            debts, self._at_once = self._at_once, None
            self._write_or_later(*self._still_owed(debts))

    def _still_owed(self, debts: list[Debt]) -> list[Debt]:
        """Of these, also what is on disk until the open file that took its place is closed."""
        tops = self.all() if debts else ()
        kept = {one for top in tops for one in with_replaced(top)}
        return [debt for debt in debts if debt in kept]

    # --- replaying --------------------------------------------------------------------------

    def _replay(self) -> None:
        damaged: set[str | None] = set()  # names of staged files whose records are useless
        for debt_id, text in self._records.rows():
            self._next_id = max(self._next_id, debt_id + 1)
            try:
                record = unpack(text)
                # On disk it waits for that number for good, whoever has it.
                self._next_id = max(self._next_id, record.after + 1)
                damaged.add(record.staged_name)
                self._revive(debt_id, record)
                damaged.discard(record.staged_name)
            except (Corrupt, OSError) as error:
                self._set_record_aside(debt_id, text, str(error))
        for debt in self._debts.values():
            if debt.after not in self._debts:  # it was paid
                debt.after = 0
        self._untie()
        known = {debt.staged.path.name for debt in self._debts.values() if debt.staged}
        for path in self.staging.directory.iterdir():
            if path.name not in known:
                try:
                    self._aside.set_file_aside(path, known=path.name in damaged)
                except OSError as error:
                    self.report(f"{path} belongs to no record, and could not be moved: {error}.")

    def _untie(self) -> None:
        """Of a former life: a deletion is not to wait for what is behind it under its key.

        It was never begun, then, and what is behind it takes its place.
        """
        for debt in self.all():
            self._break_circle(debt)
            younger = self.behind(debt)
            if debt.kind is Kind.DELETE and younger and debt in self._before(debt.after):
                younger.expected = debt.expected
                younger.perhaps = {**younger.perhaps, **debt.perhaps}
                younger.replaced.append(debt)
                self._take_out(debt)
                self._wait_for(younger, instead_of=debt.id)

    def _before(self, debt_id: int) -> set[Debt]:
        """A debt, what is owed before it under its key, and all that these wait for."""
        found, rest = set[Debt](), [self._debts.get(debt_id)]
        while rest:
            one = rest.pop()
            if one and one not in found:
                found.add(one)
                debts = self._by_key[one.key]
                rest += [self._debts.get(one.after), *debts[: debts.index(one)]]
        return found

    def _set_record_aside(self, debt_id: int, text: str, reason: str) -> None:
        try:
            self._aside.set_record_aside(debt_id, text, reason)
            self._records.change([], [debt_id])
        except (OSError, FileError) as error:  # a full disk: it stays where it is
            self.report(f"{reason} Its record could not be moved to quarantine: {error}")

    def _revive(self, debt_id: int, record: Record) -> None:
        debt = Debt(debt_id, record.kind, record.key, record.attributes, recorded=True)
        debt.expected, debt.after, debt.seal = record.expected, record.after, record.seal
        debt.begun, debt.perhaps = True, record.perhaps  # perhaps sent in its former life
        debt.beside = record.beside
        self._awaited.add(debt.after)
        if record.staged_name and record.seal:
            debt.staged = self._staged(record.staged_name, record.base, record.seal, record.lineage)
            _require_length(debt.staged, record.seal)
            if record.was_open:  # written on after the last close: the newest bytes count
                debt.seal = debt.staged.seal()
        if debt.kind is Kind.PUT and not _notes_tries(debt.staged):
            debt.perhaps = {**debt.perhaps, ANY: ""}
        self._remember(debt)
        self._revive_upload(debt, record)

    def _staged(
        self, name: str, base: ObjectInfo | None, seal: Seal, lineage: str | None
    ) -> Staged:
        """The staged file of a record. One that was renamed while it was sent has two."""
        staged = self._shared.get(name)
        if staged is not None:
            staged.shared = True
            return staged.pin()
        staged = self._shared[name] = self.staging.recover(name, base, seal, lineage)
        return staged

    def _revive_upload(self, debt: Debt, record: Record) -> None:
        if debt.staged is None:
            return
        upload = self.uploads.find(debt.key, debt.staged.path.name)
        if upload is not None:
            self.take_upload(debt, upload)
        if record.upload:
            key, upload_id = record.upload
            self.uploads.stray(Upload(upload_id, key, debt.staged.path.name, PART_BYTES, None))

    def report(self, sentence: str) -> None:
        """Something a person should know of."""
        self._aside.report(sentence)

    # --- renames of former lives ------------------------------------------------------------

    def _hold_unmoved(self, moves: Iterable[MoveRow]) -> None:
        """What a rename that was cut off moves or replaces is as it is until that is over."""
        keys: dict[str, None] = {}
        for move in moves:
            keys |= dict.fromkeys((move.key, move.new_key))
            keys |= dict.fromkeys(filter(self._ends, ancestors_of(move.new_key)))
        for key in keys:
            debts = self._by_key.get(key, [])
            if len(debts) == 1 and debts[0].kind is not Kind.META:
                self._held_keys[key] += 1
                (self.unsure if self._ends(key) else self._unmoved).append(key)

    def _ends(self, key: str) -> bool:
        return self.overlay.get(key) is False

    def release_ends(self) -> None:
        """It is known: these deletions may be carried out."""
        self._held_keys -= Counter(self.unsure)
        self.unsure.clear()

    def release_unmoved(self) -> None:
        """These renames are over, or wait for the next life."""
        self._held_keys -= Counter(self._unmoved)
        self._unmoved.clear()


def _notes_tries(staged: Staged | None) -> bool:
    """Whether what is stored of it is on record before: see `Sender`. Else its bytes tell."""
    return staged is not None and not (staged.whole and parts(staged.layers) is None)


def _require_length(staged: Staged, seal: Seal) -> None:
    """Found out before anybody reads it; whether every byte is right, only before it is sent."""
    end = seal.extents[-1][1] if seal.extents else 0
    if end and staged.path.stat().st_size < end:
        raise Corrupt(f"The staged file {staged.path} is shorter than what was written.")
