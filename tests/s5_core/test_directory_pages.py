"""Directories of many names: page by page, each name once, whatever happens meanwhile."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.core.tree import Merge, Node, children
from qarnotfs.index.listing import OPEN_PAGES, PAGE_NAMES, Entry
from qarnotfs.store.base import ListPage, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from qarnotfs.writeback.overlay import Overlay
from tests.s5_core.house import World, entered, put

COUNT = 20_000

keys = st.text(st.sampled_from("ab-./"), min_size=1, max_size=5)
views = st.builds(View, st.sampled_from(["", "a", "a/", "ab"]), st.sampled_from(["", "a", "a/"]))
directories = st.sampled_from(["", "a/", "b/", "a/b/"])


@given(st.frozensets(keys), st.dictionaries(keys, st.booleans()), views, directories, st.data())
def test_pages_make_the_same_directory(
    stored: frozenset[str], owed: dict[str, bool], view: View, directory: str, data: st.DataObject
) -> None:
    debts = Debts()
    for key, present in owed.items():
        debts.set(key, present)
    scopes = [scope.prefix for scope in view.scopes(directory)]
    listed = {scope: listing(stored, scope) for scope in scopes}
    whole = children(view, directory, listed, debts)
    if len(scopes) != 1:
        return
    [scope] = scopes
    merge, found, rest = Merge(view, directory, scopes, debts), list[Node](), iter(listed[scope])
    while page := list(islice(rest, data.draw(st.integers(1, 3)))):
        merge.add(scope, page, page[-1][0])
        found += merge.take(page[-1][0])
    merge.add(scope, [])
    found += merge.taken()
    assert {node.name: node for node in found} == whole
    assert len(found) == len(whole)


class Debts(Overlay):
    """Half of what is put has bytes."""

    def put_size(self, key: str) -> int | None:
        return len(key) % 2 if self.get(key) else None


def listing(stored: frozenset[str], prefix: str) -> list[Entry]:
    """What a server lists with delimiter ``/``."""
    entries: dict[str, ObjectInfo | None] = {}
    for key in sorted(stored):
        if key.startswith(prefix):
            at = key.find("/", len(prefix))
            name = key if at < 0 else key[: at + 1]
            entries[name] = ObjectInfo(key, 1, "e" * 32, 0) if at < 0 else None
    return list(entries.items())


def filled(count: int = COUNT) -> MemoryStore:
    store = MemoryStore()
    for number in range(count):
        put(store, f"d/{number:06}")
    store.calls.clear()
    return store


def lists(store: MemoryStore) -> int:
    return sum(method == "list_page" for method, _ in store.calls)


@pytest.mark.decision(6)
def test_the_first_page_is_answered_before_the_second_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled()
    real, may_come = store.list_page, threading.Event()

    def list_page(prefix: str, **given: Any) -> ListPage:
        if given["after"] or given["start_after"]:
            assert may_come.wait(10)
        return real(prefix, **given)

    monkeypatch.setattr(store, "list_page", list_page)

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            directory = await world.inode("d")
            number = world.fs.opendir(directory)
            _, nodes = await world.fs.entries(number, 0)
            assert len(nodes) == PAGE_NAMES - 1  # a directory of the last one's name may follow
            may_come.set()
            assert (await world.fs.entries(number, len(nodes)))[1]

    trio.run(main)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_full_page_is_the_last_one(more: int, tmp_path: Path) -> None:
    """What `readdir` shows at once; a rest of one name would cost a look at it, a round trip."""
    store = filled(PAGE_NAMES + more)

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            number = world.fs.opendir(await world.inode("d"))
            pages = list[int]()
            while nodes := (await world.fs.entries(number, sum(pages)))[1]:
                pages.append(len(nodes))
            assert pages == ([PAGE_NAMES + more] if more < 1 else [PAGE_NAMES - 1, 2])

    trio.run(main)


def test_a_huge_directory_is_held_packed(tmp_path: Path) -> None:
    """Not as 20,000 objects: two pages of the listing, and one page of nodes."""
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            number = world.fs.opendir(await world.inode("d"))
            read = 0
            while nodes := (await world.fs.entries(number, read))[1]:
                read += len(nodes)
                assert len(nodes) <= PAGE_NAMES
            assert read == COUNT
            listing = world.house.index.fresh_listing("d/")
            assert listing is not None
            unpacked = sum(len(page.entries) for page in listing._pages)
            assert unpacked <= OPEN_PAGES * PAGE_NAMES
            pages = COUNT // PAGE_NAMES + 1  # and one for the root
            assert pages <= lists(store) <= pages + 40  # to find out where it may be cut
            store.calls.clear()
            assert len(await world.names("d")) == COUNT
            assert (await world.inode("d/000777")).size == 1
            assert store.calls == [("head", "d/000777")] or len(store.calls) <= 5  # its neighbours'

    trio.run(main)


def test_a_huge_listing_survives_the_mount(tmp_path: Path) -> None:
    store = filled(5 * PAGE_NAMES)

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            assert len(await world.names("d")) == 5 * PAGE_NAMES
            await world.write("d/new", b"x")
            await world.unlink("d/000042")
            assert await world.drain()
        store.calls.clear()
        async with entered(store, tmp_path) as world:
            names = await world.names("d")
            assert store.calls == []
        assert len(names) == 5 * PAGE_NAMES
        assert "new" in names
        assert "000042" not in names

    trio.run(main)


@pytest.mark.decision(6)
def test_names_that_stay_are_seen_once_while_others_come_and_go(tmp_path: Path) -> None:
    store = filled(3 * PAGE_NAMES)

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            number = world.fs.opendir(await world.inode("d"))
            seen: list[bytes] = []
            gone: set[bytes] = set()
            while nodes := (await world.fs.entries(number, len(seen)))[1]:
                seen += [node.name for node in nodes[:500]]
                gone |= await change(world, len(seen))
            assert len(seen) == len(set(seen))
            assert {b"%06d" % n for n in range(3 * PAGE_NAMES)} - gone <= set(seen)
            for start in (0, 700, 1999, len(seen) - 1):  # seekdir
                _, nodes = await world.fs.entries(number, start)
                assert [node.name for node in nodes] == seen[start : start + len(nodes)]
                assert nodes

    trio.run(main)


async def change(world: World, read: int) -> set[bytes]:
    """Create and delete, before and behind where the program reads; what was deleted."""
    gone = {f"{read - 500 + n:06}" for n in (0, 1)} | {f"{read + 500 + n:06}" for n in (0, 1)}
    gone &= set(await world.names("d"))
    for name in gone:
        await world.write(f"d/{name}-new", b"x")
        await world.unlink(f"d/{name}")
    assert await world.drain()
    return {name.encode() for name in gone}
