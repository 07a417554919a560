"""A directory of very many files is listed, renamed and removed, and all of it is told apart.

The cost is the same for each file, so five thousand show as much as a hundred thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qarnotfs.index.listing import PAGE_NAMES
from qarnotfs.store.base import DELETE_COUNT_MAX
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.records import Records
from tests.s5_core.house import World, put

COUNT = 5_000


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """The transactions of the journal within a block."""
    changes: list[None] = []
    change = Records.change

    def counting(*args: Any, **kwargs: Any) -> None:
        changes.append(None)
        change(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "change", counting)
        yield changes


def test_it_is_listed_renamed_and_removed(
    store: MemoryStore, play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:06}" for number in range(COUNT)]
    for name in names:
        put(store, f"old/{name}")

    async def scene(world: World) -> None:
        assert await world.names("old") == names
        with counted(monkeypatch) as changes:
            await world.rename("old", "new")
            assert len(changes) < 10  # in the stretch in which the mount answers nobody else
        assert await world.names() == ["new"]
        assert await world.names("new") == names
        await world.drain()
        assert {info.key for info in store.list_page("old/").objects} == set()
        new = await world.inode("new")
        for name in names:
            await world.fs.names.unlink(new, name.encode())
        await world.rmdir("new")
        with counted(monkeypatch) as changes:
            await world.drain()
            assert len(changes) < 10 * COUNT // DELETE_COUNT_MAX

    play(scene)
    assert store.list_page("").objects == ()
    asked = Counter(method for method, _ in store.calls)
    assert asked["copy_object"] == COUNT
    assert asked["list_page"] <= 5 * COUNT // PAGE_NAMES
