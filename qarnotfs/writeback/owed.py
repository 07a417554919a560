"""The debts in memory: by key, in the order they must be paid, and which waits for which.

Used by `journal`, which keeps the same on disk, and asked by everybody through it. Pure: it
never writes a row, never touches a staged file and never waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from weakref import WeakSet

from qarnotfs.store.base import Condition, ObjectInfo
from qarnotfs.writeback.copies import Copies
from qarnotfs.writeback.debts import Debt, Kind, State, conflict_key
from qarnotfs.writeback.overlay import Overlay
from qarnotfs.writeback.staging import Staged


class Owed:
    """What is owed, as it stands now. Changed by `journal` alone."""

    def __init__(self) -> None:
        self.overlay = Overlay()
        self.copies = Copies()
        self._debts: dict[int, Debt] = {}
        # Invariant: the debts of one key in the order they must be paid. Only the first is
        # ever PAYING, or a deletion that may be under way; at most one comes behind those.
        self._by_key: dict[str, list[Debt]] = {}
        self._crowded: set[str] = set()  # keys with more than one
        self._awaited: set[int] = set()  # ids that some debt's ``after`` has named
        self._lingering: set[Debt] = set()  # deletions of files that programs have open
        self._held_keys: Counter[str] = Counter()  # see `holding`
        self._builders: dict[str, set[Debt]] = {}  # by the key of their base; see `builders`
        self._nameless = WeakSet[Staged]()  # of removed files that programs have open
        # Accepted from programs and not sent; each debt carries its share in ``counted_bytes``.
        self.bytes_dirty = 0

    # --- asking ---------------------------------------------------------------------------

    def latest(self, key: str) -> Debt | None:
        """The last debt of a key: what the bucket will hold in the end."""
        debts = self._by_key.get(key)
        return debts[-1] if debts else None

    def behind(self, debt: Debt) -> Debt | None:
        """The debt of the same key that is paid after this one; there may be more than one.

        A deletion that a former life may have begun has older bytes before it and younger behind.
        """
        debts = self._by_key.get(debt.key, [])
        return next(iter(debts[debts.index(debt) + 1 :]), None) if debt in debts else None

    def all(self) -> Iterator[Debt]:
        """Every debt, in the order they were incurred; safe against changes meanwhile."""
        return iter(list(self._debts.values()))

    def has(self, debt_id: int) -> bool:
        return debt_id in self._debts

    def is_next(self, debt: Debt) -> bool:
        """Whether nothing older must be paid before this debt."""
        if debt.key in self._held_keys or self._is_base(debt):
            return False
        if self._before_end_of(debt):
            return False
        return self._by_key[debt.key][0] is debt and self._after(debt) is None

    def _after(self, debt: Debt) -> Debt | None:
        """What it waits for. A file waits for none that can never be uploaded."""
        after = self._debts.get(debt.after)
        staged = after.staged if after and after.state is State.FAILED else None
        is_lost = staged is not None and staged.base is not None and staged.base is staged.gone
        return None if is_lost and debt.kind is Kind.PUT else after

    def _before_end_of(self, debt: Debt) -> list[Debt]:
        """Of a directory that is to be deleted, what is deleted in it, but cannot be at once.

        While its own deletion is owed nobody sees it, whatever a listing shows to be in it.
        """
        if debt.kind is not Kind.DELETE or not debt.key.endswith("/"):
            return []
        self._awaited.intersection_update(self._debts)
        held = self._held_open()
        if not self._awaited and not self._crowded and not held:
            return []
        below = (self.latest(key) for key in self.overlay.keys_below(debt.key))
        return [
            one
            for one in below
            if one
            and one is not debt
            and one.kind is Kind.DELETE
            and (one.after in self._debts or one.key in self._crowded or one in held)
        ]

    def stuck_behind(self, debt: Debt) -> Debt | None:
        """Why paying cannot help: itself or what it waits for, which failed or is being written."""
        for one in self._awaited_by(debt):
            for stuck in (one, self._by_key[one.key][0]):
                if stuck.state is State.FAILED or (stuck is one and one.state is State.OPEN):
                    return stuck
        return None

    def waits_for_held(self, debt: Debt) -> bool:
        """Whether it is not paid before a rename is over that holds a key; see `holding`."""
        return any(one.key in self._held_keys for one in self._awaited_by(debt))

    def payable(self, *, lingering: bool) -> Iterator[Debt]:
        """What can be paid; ``lingering``: also deletions of what is still read."""
        held = set[Debt]() if lingering else self._held_open()
        return (
            debt
            for debt in self.all()
            if self.stuck_behind(debt) is None and held.isdisjoint(self._awaited_by(debt))
        )

    def builders(self, key: str) -> list[Debt]:
        """Debts of other keys that need bytes of the object ``key`` as it is in the bucket.

        They were begun under that name, and renamed.
        """
        known = self._builders.pop(key, set())
        found = {debt for debt in known if debt.id in self._debts and _needs(debt, key)}
        if found:
            self._builders[key] = found
        return sorted(found, key=lambda debt: debt.id)

    def beside(self, key: str, now_sec: float, taken: Container[str] = ()) -> str:
        """A name beside ``key`` for a second version of it, which no other debt has."""
        names = (conflict_key(key, now_sec, number) for number in count(1))
        return next(name for name in names if name not in self._by_key and name not in taken)

    def closes_circle(self, debt: Debt, key: str) -> bool:
        """Whether, renamed to ``key``, the debt would need what others are to replace, and they
        what it is to replace: files that changed names, none of which is uploaded.
        """
        return any(debt in self._awaited_by(one) for one in self.builders(key) if one is not debt)

    def urge(self, debt: Debt) -> None:
        """It is to be paid now, and what must be before it."""
        for one in self._awaited_by(debt) if self.has(debt.id) else ():
            one.urgent = True

    def linger(self, debt: Debt) -> None:
        """A deletion waits until no program has the file open any more: see `Journal.release`."""
        debt.state = State.HELD
        self._held_open().add(debt)

    def _held_open(self) -> set[Debt]:
        self._lingering = {
            one for one in self._lingering if one.state is State.HELD and self.has(one.id)
        }
        return self._lingering

    def _is_base(self, debt: Debt) -> bool:
        """Whether another debt needs what this one will replace; not where both do so."""
        if debt.kind is Kind.META or debt.key not in self._builders:
            return False
        return any(debt not in self._awaited_by(one) for one in self.builders(debt.key))

    def _awaited_by(self, debt: Debt) -> list[Debt]:
        """A debt and all those, each once, that must be paid before it."""
        found, rest = dict[Debt, None](), [debt]
        while rest:
            one = rest.pop()
            if one not in found:
                found[one] = None
                after = self._after(one)
                rest += [*self._by_key[one.key][:1], *([after] if after else [])]
                rest += self.builders(one.key) if one.kind is not Kind.META else []
                rest += self._before_end_of(one)
        return list(found)

    @contextmanager
    def holding(self, keys: Iterable[str]) -> Iterator[None]:
        """No debt of these keys begins to be paid for the length of a block."""
        held = list(keys)
        self._held_keys.update(held)
        try:
            yield
        finally:
            self._held_keys -= Counter(held)

    def is_held(self, key: str) -> bool:
        return key in self._held_keys

    def deletion_under_way(self, key: str) -> Debt | None:
        """A deletion of the key that was begun and may be carried out at any time.

        Of a former life we do not know: it may have older bytes before it.
        """
        debts = self._by_key.get(key, ())
        return next((one for one in debts if one.kind is Kind.DELETE and one.begun), None)

    def perhaps_at(self, key: str, lineage: str) -> set[str]:
        """Etags that tries of this lineage without an answer may have stored under a key."""
        tries = (debt.perhaps.items() for debt in self._by_key.get(key, ()))
        return {etag for some in tries for etag, whose in some if whose == lineage}

    def is_paying(self, key: str) -> bool:
        debts = self._by_key.get(key)
        return bool(debts and debts[0].state is State.PAYING)

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
        base = debt.staged.base if debt.staged else None
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
        circle, at = list[Debt](), self._debts.get(debt.id)
        while at is not None and at not in circle:
            circle.append(at)
            at = self._debts.get(at.after)
        if at is debt:
            free = (one for one in circle if not _needs(self._debts[one.after], one.key))
            next(free, circle[-1]).after = 0

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


def _needs(debt: Debt, key: str) -> bool:
    staged = debt.staged
    if staged is None or staged.base is None or staged.base.key != key:
        return False
    if staged.base is staged.gone:
        return False
    return bool(staged.base_limit) and not staged.whole


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
