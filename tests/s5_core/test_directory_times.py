"""The times of directories do not go back when the kernel forgets them and asks anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qarnotfs.core import attributes, dates
from qarnotfs.core.attributes import Posix
from qarnotfs.core.dates import Dates
from qarnotfs.core.filesystem import Changes
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, put

PLACES = ["theirs", "ours"]  # without a marker, and with one


def forget(world: World) -> None:
    """As the kernel does when it is short of memory."""
    for inode in world.fs.lookup.inodes.all():
        world.fs.forget(inode.number, inode.lookups)
    assert len(world.fs.lookup.inodes) == 1


async def times(world: World, path: str) -> tuple[int, int]:
    inode = await world.fs.lookup.getattr(await world.inode(path))
    return inode.posix.mtime_ns, inode.posix.ctime_ns


@pytest.mark.decision(6)
@pytest.mark.parametrize("place", PLACES)
def test_what_came_or_went_is_remembered(
    store: MemoryStore, play: Callable[..., Any], place: str
) -> None:
    put(store, "theirs/x/file")

    async def scene(world: World) -> None:
        await world.mkdir("ours")
        await world.mkdir("ours/x")
        await world.write("ours/x/file", b"1")
        await world.drain()
        forget(world)
        before = await times(world, f"{place}/x")
        await world.write(f"{place}/x/new", b"1")
        changed = await times(world, f"{place}/x")
        assert changed > before
        await world.drain()
        forget(world)
        assert await times(world, f"{place}/x") == changed
        await world.rename(place, "renamed")
        dated = await times(world, "renamed")
        forget(world)
        assert await times(world, "renamed/x") == changed
        assert await times(world, "renamed") == dated
        await world.unlink("renamed/x/new")
        forget(world)
        assert await times(world, "renamed/x") > changed

    play(scene, cache_ttl_sec=0)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_set_since_counts(store: MemoryStore, play: Callable[..., Any], place: str) -> None:
    """Here, and by another machine, which sets them in the marker."""
    put(store, "theirs/file")

    async def scene(world: World) -> None:
        await world.mkdir("ours")
        await world.write(f"{place}/new", b"1")
        await world.fs.setattr(await world.inode(place), Changes(mtime_ns=5))
        await world.drain()
        forget(world)
        assert (await times(world, place))[0] == 5
        await world.write(f"{place}/newer", b"1")
        put(store, f"{place}/", b"", mtime="7", ctime="8")
        forget(world)
        assert await times(world, place) == (7 * attributes.NS, 8 * attributes.NS)

    play(scene, cache_ttl_sec=0)


def test_those_that_changed_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dates, "DIRECTORIES_MAX", 2)
    marker, changed = Posix(0, 0, 0, 1, 1, 1), Posix(0, 0, 0, 2, 1, 2)
    known = Dates()
    for prefix in ("a/", "b/", "a/", "c/"):
        known.keep(prefix, changed, marker)
    assert known.dated("b/", marker) == marker
    assert known.dated("a/", marker) == known.dated("c/", marker) == changed
