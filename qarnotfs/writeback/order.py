"""In which order debts are paid: by key, and which waits for which. In memory.

Used by `owed`, which counts and changes them, and by everybody through `journal`. Pure: it
never writes a row, never touches a staged file and never waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from weakref import WeakSet

from qarnotfs.writeback.copies import Copies
from qarnotfs.writeback.debts import Debt, Kind, State, conflict_key
from qarnotfs.writeback.overlay import Overlay
from qarnotfs.writeback.staging import Staged


class Order:
    """The debts of one mount, in the order they must be paid. Changed by `owed` alone."""

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
        self._unmoved: list[str] = []  # held until the renames of former lives are over
        self.unsure: list[str] = []  # held until it is known whether their end is still wanted
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

    def each(self) -> Iterable[Debt]:
        """As `all`, for who takes none away before the end, and may not look at thousands."""
        return self._debts.values()

    @property
    def debt_count(self) -> int:
        """How many there are, recorded or not."""
        return len(self._debts)

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
            and one.key != debt.key
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

    def waits_for_next_life(self, debt: Debt) -> bool:
        """Whether it is not paid before a rename is over that this life could not finish."""
        left = {*self._unmoved, *self.unsure}
        return any(one.key in left for one in self._awaited_by(debt)) if left else False

    def payable(self, *, lingering: bool) -> Iterator[Debt]:
        """What can be paid in this life; ``lingering``: also deletions of what is still read."""
        held = set[Debt]() if lingering else self._held_open()
        return (
            debt
            for debt in self.all()
            if self.stuck_behind(debt) is None
            and held.isdisjoint(self._awaited_by(debt))
            and not self.waits_for_next_life(debt)
        )

    def builders(self, key: str) -> list[Debt]:
        """Debts of other keys that need bytes of the object ``key`` as it is in the bucket.

        They were begun under that name, and renamed.
        """
        known = self._builders.pop(key, set())
        found = {debt for debt in known if debt.id in self._debts and needs(debt, key)}
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


def needs(debt: Debt, key: str) -> bool:
    """Whether a file needs bytes of the object ``key``, as it is in the bucket."""
    if any(needs(one, key) for one in debt.replaced):
        return True
    staged = debt.staged
    if staged is None or staged.base is None or staged.base.key != key:
        return False
    if staged.base is staged.gone:
        return False
    return bool(staged.base_limit) and not staged.whole
