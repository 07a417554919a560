"""A directory of very many files is listed, renamed and removed, and all of it is told apart.

The cost is the same for each file, some 0.7 ms of one core in all, most of it for the copy and
for the two records of its old name's end: so a hundred thousand take a minute, and five thousand
show as much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from qarnotfs.index.listing import PAGE_NAMES
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, put

COUNT = 5_000


def test_it_is_listed_renamed_and_removed(store: MemoryStore, play: Callable[..., Any]) -> None:
    names = [f"{number:06}" for number in range(COUNT)]
    for name in names:
        put(store, f"old/{name}")

    async def scene(world: World) -> None:
        assert await world.names("old") == names
        await world.rename("old", "new")
        assert await world.names() == ["new"]
        assert await world.names("new") == names
        await world.drain()
        assert {info.key for info in store.list_page("old/").objects} == set()
        new = await world.inode("new")
        for name in names:
            await world.fs.names.unlink(new, name.encode())
        await world.rmdir("new")
        await world.drain()

    play(scene)
    assert store.list_page("").objects == ()
    asked = Counter(method for method, _ in store.calls)
    assert asked["copy"] == COUNT
    assert asked["list_page"] <= 5 * COUNT // PAGE_NAMES
