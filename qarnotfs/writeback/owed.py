"""The debts in memory: what they come to, and how they change.

Used by `journal`, which keeps the same on disk, and asked by everybody through it. Pure: it
never writes a row, never touches a staged file and never waits.
"""

from __future__ import annotations

from qarnotfs.store.base import Condition, ObjectInfo
from qarnotfs.writeback.debts import Debt, Kind, State
from qarnotfs.writeback.order import Order, needs
from qarnotfs.writeback.staging import Staged


class Owed(Order):
    """What is owed, as it stands now. Changed by `journal` alone."""

    @property
    def count(self) -> int:
        """How many debts were recorded and are not paid."""
        return sum(debt.recorded for debt in self._debts.values())

    @property
    def bytes_owed(self) -> int:
        """What has still to be sent of the debts that were recorded."""
        return sum(debt.counted_bytes for debt in self._debts.values() if debt.recorded)

    @property
    def failed(self) -> list[Debt]:
        """Those that the bucket refused for good: they wait for the next mount."""
        return [one for one in self.all() if one.state is State.FAILED]

    @property
    def bytes_failed(self) -> int:
        return sum(one.counted_bytes for one in self.failed)

    # --- changing: for `Journal` ---

    def recount(self, debt: Debt) -> None:
        """Bytes of a debt were written, cut off or sent."""
        if debt.id in self._debts:
            self.bytes_dirty += debt.unsent_bytes - debt.counted_bytes
            debt.counted_bytes = debt.unsent_bytes

    def _pending(self, key: str) -> Debt | None:
        """The last debt of a key, if a younger one may take its place.

        A deletion that was begun may be carried out late, and must not be overtaken: it is
        repeated until the bucket has answered.
        """
        debt = self.latest(key)
        if debt is None or debt.state is State.PAYING:
            return None
        under_way = debt.kind is Kind.DELETE and debt.begun and debt.state is State.QUEUED
        return None if under_way else debt

    def _never_existed(self, pending: Debt) -> bool:
        alone = self._by_key[pending.key][0] is pending
        return alone and pending.expected.absent and not (pending.begun or pending.perhaps)

    def _remember(self, debt: Debt) -> None:
        self._debts[debt.id] = debt
        debts = self._by_key.setdefault(debt.key, [])
        debts.append(debt)
        if len(debts) > 1:
            self._crowded.add(debt.key)
        self.overlay.set(debt.key, debt.present)
        self.recount(debt)
        self._note_base(debt)

    def _note_base(self, debt: Debt) -> None:
        for one in with_replaced(debt):
            base = one.staged.base if one.staged else None
            if base and base.key != debt.key:
                self._builders.setdefault(base.key, set()).add(debt)

    def _wait_for(self, debt: Debt, *, instead_of: int) -> None:
        """Recorded together with ``debt``; until then the other one is on disk."""
        if instead_of not in self._awaited:
            return
        for waiting in self.all():
            if waiting.after == instead_of:
                waiting.after = debt.id
                self._awaited.add(debt.id)
        self._break_circle(debt)

    def _break_circle(self, debt: Debt) -> None:
        """Names that changed places wait for each other: somebody must be the first.

        Nobody before a file that needs what he is to replace, if there is anybody else.
        """
        circle, at = dict[Debt, None](), self._debts.get(debt.id)
        while at is not None and at not in circle:
            circle[at] = None
            at = self._debts.get(at.after)
        if at is debt:
            free = (one for one in circle if not needs(self._debts[one.after], one.key))
            next(free, list(circle)[-1]).after = 0

    def _build_upon(self, there: Condition, younger: Debt | None) -> list[Debt]:
        """The bucket has this under a younger debt's key; what is on disk until that is, too."""
        found = [one for one in with_replaced(younger) if one.key == younger.key] if younger else []
        for one in found:
            one.expected = there
        return found

    def keep_base(self, staged: Staged) -> None:
        """Nothing is owed for it any more, but a program goes on with it."""
        self._nameless.add(staged)

    def _note_copy(self, debt: Debt | None) -> list[Debt]:
        """What it builds upon may have been copied onto itself, and have another etag now."""
        found = [one for one in with_replaced(debt) if self.copies.tries(one)] if debt else []
        for one in found:
            one.perhaps = {**one.perhaps, **self.copies.tries(one)}
        return found

    def rebase(self, sent: Staged, info: ObjectInfo) -> list[Debt]:
        """What was sent is what it and its copies build upon: but for changes, the same bytes."""
        if sent.pins == 1 and not sent.has_kin:  # no other debt has it, as of nearly all
            sent.base = info
            return []
        debts = [one for top in self.all() for one in with_replaced(top)]
        alike = [one for one in self._nameless if _is_alike(one, sent)]
        alike += [one.staged for one in debts if one.staged and _is_alike(one.staged, sent)]
        for staged in alike:
            staged.base = info
        found = [one for one in debts if one.staged in alike]
        for one in found:
            self._note_base(one)
        return found

    def _take_out(self, debt: Debt) -> None:
        """From memory alone."""
        del self._debts[debt.id]
        self.bytes_dirty -= debt.counted_bytes
        debt.counted_bytes = 0
        debts = self._by_key[debt.key]
        debts.remove(debt)
        if len(debts) < 2:
            self._crowded.discard(debt.key)
        if debts:
            self.overlay.set(debt.key, debts[-1].present)
        else:
            del self._by_key[debt.key]
            self.overlay.drop(debt.key)

    def _ended(self, debt: Debt) -> None:
        if debt.state is State.PAYING and debt.staged:
            debt.staged.sends -= 1


def _is_alike(mine: Staged, sent: Staged) -> bool:
    """Whether its bytes are ``sent``, or that with other changes: of one lineage and one base."""
    if mine.base is None or sent.base is None or mine.lineage != sent.lineage:
        return False
    return mine.base.key == sent.base.key and mine.base.same_version(sent.base)


def with_replaced(debt: Debt) -> list[Debt]:
    """A debt and, behind it, all that it took the place of and that is still on disk."""
    found = [debt]
    for replaced in debt.replaced:
        found += with_replaced(replaced)
    return found
