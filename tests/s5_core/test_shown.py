"""A directory that is read again shows what it did, until something in it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qarnotfs.core.shown import NODES_MAX, Read, Shown
from qarnotfs.core.tree import Merge, Node
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, put

Play = Callable[..., Any]


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """As many as directories were put together anew."""
    found: list[None] = []
    add = Merge.add

    def counting(merge: Merge, *args: Any) -> None:
        found.append(None)
        add(merge, *args)

    monkeypatch.setattr(Merge, "add", counting)
    return found


def test_it_is_not_put_together_again(store: MemoryStore, play: Play, merged: list[None]) -> None:
    names = [f"{number:04}" for number in range(2500)]
    for name in names:
        put(store, f"d/{name}", b"x")

    async def scene(world: World) -> None:
        assert await world.names("d") == names
        before = len(merged)
        assert await world.names("d") == names
        assert len(merged) == before

    play(scene)


def test_every_change_is_seen(store: MemoryStore, play: Play) -> None:
    for name in "abc":
        put(store, f"d/{name}", b"x")

    async def scene(world: World) -> None:
        async def shows(*names: str) -> None:
            for _ in range(3):
                assert await world.names("d") == list(names)

        await shows("a", "b", "c")
        await world.write("d/new", b"x")
        await shows("a", "b", "c", "new")
        assert await world.drain()
        await shows("a", "b", "c", "new")
        await world.unlink("d/a")
        await shows("b", "c", "new")
        assert await world.drain()
        await shows("b", "c", "new")
        await world.mkdir("d/e")
        await shows("b", "c", "e", "new")
        await world.rename("d/b", "d/z")
        await shows("c", "e", "new", "z")
        assert await world.drain()
        await shows("c", "e", "new", "z")

    play(scene, upload_delay_sec=NEVER_SEC)


def test_it_is_believed_no_longer_than_its_listing(store: MemoryStore, play: Play) -> None:
    put(store, "d/a", b"x")

    async def scene(world: World) -> None:
        assert await world.names("d") == ["a"]
        put(store, "d/b", b"x")
        assert await world.names("d") == ["a", "b"]

    play(scene, cache_ttl_sec=0)


def listing(count: int) -> Listing:
    return Listing(
        "d/", 0.0, ((f"d/{n:06}", ObjectInfo(f"d/{n:06}", 1, "e", 0)) for n in range(count))
    )


def read(count: int, of: Listing) -> Read:
    return Read(of, of.changes, [[Node(b"%d" % n, False, "k")] for n in range(count)])


def test_little_is_kept() -> None:
    shown, whole, part = Shown(), listing(1), listing(1)
    shown.keep("a/", read(NODES_MAX, whole))
    assert shown.find("a/", whole) is None
    shown.keep("b/", read(NODES_MAX - 1, whole))
    assert shown.find("b/", whole) is not None
    shown.keep("c/", read(1, part))
    assert (shown.find("b/", whole), shown.find("c/", part)) == (None, [[Node(b"0", False, "k")]])


def test_another_listing_of_it_shows_something_else() -> None:
    shown, one, other = Shown(), listing(1), listing(1)
    shown.keep("a/", read(1, one))
    assert shown.find("a/", other) is None
    one.drop("d/000000")
    assert shown.find("a/", one) is None
