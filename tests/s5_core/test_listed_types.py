"""What a directory says its files are, and what that costs."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from qarnotfs.core.kinds import LINK_BYTES_MAX, LOOKS_MAX, SMALLEST, SPREAD
from qarnotfs.core.walk import FILES_MAX
from qarnotfs.errors import Refused
from qarnotfs.index.listing import PAGE_NAMES
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, entered, put

LINK, PLAIN = str(stat.S_IFLNK | 0o777), str(stat.S_IFREG | 0o644)
COUNT = 500
LOOKS = SMALLEST + SPREAD
LONG_AGO_SEC = 1_600_000_000.0


def filled(count: int = COUNT, size: int = 100, **metadata: str) -> MemoryStore:
    store = MemoryStore(clock=lambda: LONG_AGO_SEC)
    for number in range(count):
        put(store, f"d/{number:05}", b"x" * size, **metadata)
    return store


def living(
    store: MemoryStore, path: Path, story: Callable[[World], Awaitable[None]], **changes: Any
) -> None:
    async def main() -> None:
        store.calls.clear()
        async with entered(store, path, **changes) as world:
            await story(world)

    trio.run(main)


async def types(world: World, directory: str = "d") -> dict[str, int]:
    """What `readdir` answers for each file; 0: that nobody knows."""
    number, found = world.fs.opendir(await world.inode(directory)), dict[str, int]()
    while True:
        parent, nodes = await world.fs.entries(number, len(found))
        for node in nodes:
            inode = world.fs.lookup.known(parent, node)
            mode = inode.posix.mode if inode else world.fs.lookup.kind(node)
            found[node.name.decode()] = stat.S_IFMT(mode)
        if not nodes:
            return found


def heads(store: MemoryStore) -> int:
    return sum(method == "head" for method, _ in store.calls)


def test_who_may_be_asked_of_files_is_told_when_their_directory_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, told = filled(5), list[None]()
    monkeypatch.setattr(store, "prepare_heads", lambda: told.append(None))

    async def story(world: World) -> None:
        await types(world)
        assert told
        told.clear()
        await types(world)
        assert not told

    async def other(world: World) -> None:
        await types(world)
        assert not told

    living(store, tmp_path / "a", story)
    living(store, tmp_path / "b", other, attrs="listing")


@pytest.mark.decision(8)
def test_files_of_programs_that_keep_no_modes_are_regular(tmp_path: Path) -> None:
    store = filled()

    async def first(world: World) -> None:
        assert set((await types(world)).values()) == {stat.S_IFREG}
        assert heads(store) <= LOOKS
        store.calls.clear()
        assert set((await types(world)).values()) == {stat.S_IFREG}
        assert store.calls == []

    async def again(world: World) -> None:
        assert set((await types(world)).values()) == {stat.S_IFREG}
        assert store.calls == []

    living(store, tmp_path, first)
    living(store, tmp_path, again)


async def settled(world: World) -> None:
    """Nothing is being asked for, nor about to be."""
    index, quiet = world.house.index, 0
    with trio.fail_after(10):
        while quiet < 100:  # between two questions a task may be on its way
            quiet = 0 if len(index._once) or index._ahead.waiting else quiet + 1
            await trio.sleep(0)


def lists(store: MemoryStore) -> int:
    return sum(method == "list_page" for method, _ in store.calls)


def looked_at(store: MemoryStore, page: int) -> list[str]:
    """The files of one page of the directory that were asked for, each as often as it was."""
    names = range(page * PAGE_NAMES, (page + 1) * PAGE_NAMES)
    keys = {f"d/{number:05}" for number in names}
    return [key for method, key in store.calls if method == "head" and key in keys]


def test_the_next_page_is_looked_at_while_this_one_is_shown(tmp_path: Path) -> None:
    store = filled(3 * PAGE_NAMES + 10)

    async def story(world: World) -> None:
        number, shown = world.fs.opendir(await world.inode("d")), 0
        for page in range(3):
            shown += len((await world.fs.entries(number, shown))[1])
            assert page * PAGE_NAMES < shown <= (page + 1) * PAGE_NAMES
            assert not looked_at(store, page + 2)  # one page ahead, and no more
            if not page:  # many programs come for no second one
                await settled(world)
                assert not looked_at(store, 1)
                assert lists(store) <= 3  # the root, this page and the next one
                continue
            with trio.fail_after(10):
                while len(looked_at(store, page + 1)) < LOOKS:
                    await trio.sleep(0.001)
        assert (await world.fs.entries(number, shown))[1]
        assert [len(looked_at(store, page)) for page in range(4)] == [LOOKS] * 4  # none twice

    living(store, tmp_path, story)


def test_what_is_owed_is_not_looked_at_ahead(tmp_path: Path) -> None:
    store = filled(3 * PAGE_NAMES)

    suspects = list[str]()

    async def first(world: World) -> None:
        await types(world)
        suspects.extend(looked_at(store, 2))

    async def then(world: World) -> None:
        for key in suspects:
            await world.write(key, b"new")
        store.calls.clear()
        number, shown = world.fs.opendir(await world.inode("d")), 0
        for _ in range(2):
            shown += len((await world.fs.entries(number, shown))[1])
        with trio.fail_after(10):
            while len(looked_at(store, 2)) < LOOKS:
                await trio.sleep(0.001)
        assert not {*looked_at(store, 2)} & {*suspects}

    living(store, tmp_path / "a", first)
    assert len(suspects) == LOOKS
    living(store, tmp_path / "b", then, upload_delay_sec=NEVER_SEC)


def test_what_changes_between_two_pages_is_shown_as_it_is_where_nothing_is_believed(
    tmp_path: Path,
) -> None:
    store, last = filled(3 * PAGE_NAMES), f"d/{3 * PAGE_NAMES - 1:05}"

    async def story(world: World) -> None:
        known = await world.inode(last)
        known.lookups += 1
        number, shown = world.fs.opendir(await world.inode("d")), 0
        for _ in range(2):
            shown += len((await world.fs.entries(number, shown))[1])
        await settled(world)
        await world.write(last, b"new")
        assert await world.drain()
        assert (await world.inode(last)) is known
        while nodes := (await world.fs.entries(number, shown))[1]:
            shown += len(nodes)
            parent = world.fs.lookup.inodes.root.children[b"d"]
            found = {node.name: world.fs.lookup.known(parent, node) for node in nodes}
        assert found[last[2:].encode()] is known

    living(store, tmp_path, story, cache_ttl_sec=0)


def test_where_nothing_is_believed_no_file_is_looked_at_twice(tmp_path: Path) -> None:
    store, pages = filled(4 * PAGE_NAMES), 4

    async def story(world: World) -> None:
        number, shown = world.fs.opendir(await world.inode("d")), 0
        while nodes := (await world.fs.entries(number, shown))[1]:
            shown += len(nodes)
            await settled(world)  # what is asked for ahead has been asked for
        assert [len(looked_at(store, page)) for page in range(pages)] == [LOOKS] * pages

    living(store, tmp_path, story, cache_ttl_sec=0)


@pytest.mark.decision(8)
def test_a_huge_directory_costs_no_more_looks(tmp_path: Path) -> None:
    store = filled(6500)

    async def story(world: World) -> None:
        for _ in range(2):
            assert set((await types(world)).values()) == {stat.S_IFREG}
            assert heads(store) <= LOOKS_MAX

    living(store, tmp_path, story)


def test_a_link_among_many_files_is_known_as_one(tmp_path: Path) -> None:
    store = filled()
    for name in ("first", "latest"):
        put(store, f"d/{name}", b"00499", mode=LINK)

    async def story(world: World) -> None:
        found = await types(world)
        assert {found.pop("first"), found.pop("latest")} == {stat.S_IFLNK}
        assert set(found.values()) == {stat.S_IFREG}

    living(store, tmp_path, story)


@pytest.mark.decision(8)
def test_nothing_is_guessed_where_modes_are_kept(tmp_path: Path) -> None:
    store = filled(mode=PLAIN)
    put(store, "d/long", b"t" * 101, mode=LINK)
    put(store, "d/large", b"x" * (LINK_BYTES_MAX + 1), mode=PLAIN)

    async def story(world: World) -> None:
        found = await types(world)
        assert found["large"] == stat.S_IFREG
        assert found["long"] == 0
        assert sum(kind == 0 for kind in found.values()) >= COUNT - LOOKS
        assert heads(store) <= LOOKS
        for name in found:
            await world.inode(f"d/{name}")
        found = await types(world)
        assert found.pop("long") == stat.S_IFLNK
        assert set(found.values()) == {stat.S_IFREG}

    living(store, tmp_path, story)


def test_where_modes_are_kept_files_that_will_be_read_are_fetched_for_them(tmp_path: Path) -> None:
    """By a program that has read the last directory through; not more than it reads soon."""
    store, count = filled(10, mode=PLAIN), FILES_MAX + 20
    for number in range(count):
        put(store, f"e/{number:05}", b"x" * 100, mode=PLAIN)
    put(store, "e/empty", b"", mode=PLAIN)

    async def story(world: World) -> None:
        for name in await types(world):
            await world.read(f"d/{name}")
        store.calls.clear()
        found = await types(world, "e")
        assert sum(kind == stat.S_IFREG for kind in found.values()) >= FILES_MAX
        assert sum(kind == 0 for kind in found.values()) >= count - FILES_MAX - LOOKS
        assert heads(store) <= 1  # of the empty one
        gets = sum(method == "get" for method, _ in store.calls)
        assert FILES_MAX <= gets <= FILES_MAX + LOOKS

    living(store, tmp_path, story)


def test_a_file_as_long_as_no_link_is_regular(tmp_path: Path) -> None:
    store = filled(20, size=LINK_BYTES_MAX + 1, mode=PLAIN)

    async def story(world: World) -> None:
        assert set((await types(world)).values()) == {stat.S_IFREG}
        assert not heads(store)

    living(store, tmp_path, story)
    assert os.pathconf("/", "PC_PATH_MAX") == LINK_BYTES_MAX + 1  # which counts the byte at its end


def test_of_a_few_files_every_one_is_looked_at(tmp_path: Path) -> None:
    store = filled(SMALLEST - 1)
    put(store, "d/link", b"t" * 1000, mode=LINK)

    async def story(world: World) -> None:
        found = await types(world)
        assert found.pop("link") == stat.S_IFLNK
        assert set(found.values()) == {stat.S_IFREG}

    living(store, tmp_path, story)


def test_a_file_that_was_guessed_is_what_it_is_when_looked_at(tmp_path: Path) -> None:
    store = filled()
    put(store, "d/99999", b"t" * 200, mode=LINK)

    async def story(world: World) -> None:
        assert (await types(world))["99999"] == stat.S_IFREG
        inode = await world.inode("d/99999")
        assert stat.S_ISLNK(inode.posix.mode)
        assert (await types(world))["99999"] == stat.S_IFLNK

    living(store, tmp_path, story)


def test_what_is_listed_ahead_is_looked_at_ahead(tmp_path: Path) -> None:
    """Else `find` waits for these looks in each directory."""
    store = MemoryStore(clock=lambda: LONG_AGO_SEC)
    for directory in range(20):
        for number in range(30):
            put(store, f"d/{directory:02}/{number}", b"x" * 100)

    async def story(world: World) -> None:
        for directory in range(20):
            before = len(store.calls)
            number = world.fs.opendir(await world.inode(f"d/{directory:02}"))
            await world.fs.entries(number, 0)
            waited.append(len(store.calls) - before)
            await settled(world)

    waited: list[int] = []
    living(store, tmp_path, story)
    assert heads(store) <= 20 * LOOKS
    assert sum(count > 0 for count in waited) < 10  # in the others everything was there


def test_what_cannot_be_looked_at_is_not_guessed(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        assert set((await types(world)).values()) == {0}

    store.faults = lambda method, _: Refused("no") if method == "head" else None
    living(store, tmp_path, story)


@pytest.mark.decision(8)
def test_without_attributes_nothing_is_looked_at(tmp_path: Path) -> None:
    """`--attrs listing`: one LIST tells everything, also of the directories in it."""
    store = filled(mode=PLAIN)
    for directory in range(10):
        put(store, f"d/{directory}/x")

    async def story(world: World) -> None:
        found = await types(world)
        assert sorted(set(found.values())) == [stat.S_IFDIR, stat.S_IFREG]
        for name in found:
            inode = await world.inode(f"d/{name}")
            await world.fs.lookup.getattr(inode)
        assert store.calls == [("list_page", ""), ("list_page", "d/")]

    living(store, tmp_path, story, attrs="listing")
