"""Attributes of many keys, asked for before somebody wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qarnotfs.index.index import HEADS_TOGETHER, Index
from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import ask, put

KEYS = [f"d/{number:02}" for number in range(20)]


class ByGroups:
    """A store's `heads`: which groups it was asked for; each waits until it may go on."""

    def __init__(self, store: MemoryStore, says: Callable[[str], bool] = lambda key: True) -> None:
        self.groups: list[list[str]] = []
        self.go_on = threading.Event()
        self._real, self._says = store.heads, says
        store.heads = self._heads  # type: ignore[method-assign]  # the network's part

    def _heads(self, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        self.groups.append(list(keys))
        found = self._real([key for key in keys if self._says(key)])
        self.go_on.wait(30)
        return found


def foresee(index: Index, groups: ByGroups, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Foresee `KEYS`; ``meanwhile`` something happens; then somebody wants them all."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(index.run)
            index.foresee(KEYS)
            with trio.fail_after(30):
                while sum(map(len, groups.groups)) < len(KEYS):
                    await trio.sleep(0.001)
            meanwhile()
            async with trio.open_nursery() as readers:
                for key in KEYS:
                    readers.start_soon(index.find, key)
                await wait_all_tasks_blocked(0.01)
                groups.go_on.set()
            nursery.cancel_scope.cancel()

    trio.run(main)


def heads_of(store: MemoryStore) -> list[str]:
    return sorted(key for method, key in store.calls if method == "head")


def test_they_are_asked_for_together_and_once(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """Who wants one meanwhile waits for it, and asks nothing himself."""
    for key in KEYS[1:]:
        put(store, key, mode="33188")
    index, groups = make(), ByGroups(store)
    store.calls.clear()
    foresee(index, groups)
    whole, rest = divmod(len(KEYS), HEADS_TOGETHER)
    assert sorted(map(len, groups.groups)) == [rest, *[HEADS_TOGETHER] * whole]
    assert heads_of(store) == KEYS
    assert ask(lambda: index.find(KEYS[0])) is None
    assert ask(lambda: index.info(KEYS[1])).metadata == {"mode": "33188"}
    assert heads_of(store) == KEYS


@pytest.mark.parametrize("says", [lambda key: False, lambda key: key > KEYS[5]])
def test_what_is_not_learned_together_is_asked_for_one_by_one(
    says: Callable[[str], bool], store: MemoryStore, make: Callable[..., Index]
) -> None:
    for key in KEYS:
        put(store, key, mode="33188")
    index, groups = make(), ByGroups(store, says)
    store.calls.clear()
    foresee(index, groups)
    assert heads_of(store) == KEYS
    for key in KEYS:
        assert ask(lambda key=key: index.info(key)).metadata == {"mode": "33188"}  # type: ignore[misc]  # a lambda's default has no type
    assert heads_of(store) == KEYS


def test_our_own_change_meanwhile_is_newer(store: MemoryStore, make: Callable[..., Index]) -> None:
    for key in KEYS:
        put(store, key, mode="33188")
    index, groups = make(), ByGroups(store)

    def store_another() -> None:
        store.put(KEYS[3], b"new", Attributes({"mode": "33152"})).result()
        index.remember(store.head(KEYS[3]).result())
        index.remember_missing(KEYS[4])

    foresee(index, groups, store_another)
    assert ask(lambda: index.info(KEYS[3])).metadata == {"mode": "33152"}
    assert ask(lambda: index.find(KEYS[4])) is None
