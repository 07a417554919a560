"""Programs that go through a directory: what is fetched ahead of them, and when it stops."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.abc import Clock
from trio.testing import MockClock, wait_all_tasks_blocked

from qarnotfs.core.kinds import SMALLEST, SPREAD
from qarnotfs.core.walk import BYTES_MAX, FILES_MAX
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, entered, put

COUNT = 200
LONG_AGO_SEC = 1_600_000_000.0  # when everything was stored
LOOKS = SMALLEST + SPREAD  # at a page of a directory, for the types of its files
FIRST_LOOKS = 5  # files whose attributes are asked for before it is known what a program does


def filled(size: int = 100, count: int = COUNT, directories: int = 1) -> MemoryStore:
    store = MemoryStore(clock=lambda: LONG_AGO_SEC)
    for directory in range(directories):
        for number in range(count):
            put(store, f"d{directory}/{number:03}", bytes([number % 251]) * size)
    store.calls.clear()
    return store


def living(
    store: MemoryStore,
    directory: Path,
    story: Callable[[World], Awaitable[None]],
    clock: Clock | None = None,
    **changes: Any,
) -> None:
    async def main() -> None:
        async with entered(store, directory, **changes) as world:
            await story(world)

    trio.run(main, clock=clock)


def asked(store: MemoryStore) -> Counter[str]:
    return Counter(method for method, _ in store.calls)


async def landed(world: World) -> None:
    """Everything that is under way has arrived."""
    with trio.fail_after(10):
        while world.house.reader._flights:
            await trio.sleep(0.001)


@pytest.mark.decision(8)
def test_files_read_in_order_cost_one_request_each(tmp_path: Path) -> None:
    store = filled(directories=2)

    async def story(world: World) -> None:
        for directory in ("d0", "d1"):
            for name in await world.names(directory):
                assert await world.read(f"{directory}/{name}") == bytes([int(name) % 251]) * 100
                await landed(world)

    living(store, tmp_path, story)
    assert asked(store)["get"] == 2 * COUNT
    assert asked(store)["head"] <= LOOKS + FIRST_LOOKS  # and none in the second directory
    assert not [key for method, key in store.calls if method == "head" and key.startswith("d1")]


def test_the_next_files_are_there_before_they_are_asked_for(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        for number in range(COUNT):
            before = len(store.calls)
            await world.read(f"d0/{number:03}")
            if number > FIRST_LOOKS:
                assert all(key != f"d0/{number:03}" for _, key in store.calls[before:])
            await landed(world)

    living(store, tmp_path, story)


def test_the_first_surprise_ends_it(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        for number in (0, 1, 2, 3):
            await world.read(f"d0/{number:03}")
            await landed(world)
        ahead = asked(store)["get"]
        assert 4 < ahead <= 4 + 8
        for number in (60, 80, 100, 90):
            await world.read(f"d0/{number:03}")
            await landed(world)
        assert asked(store)["get"] == ahead + 4

    living(store, tmp_path, story)


def test_looking_without_reading_ends_it(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        for number in range(4):
            await world.read(f"d0/{number:03}")
            await landed(world)
        for number in range(4, COUNT):
            await world.inode(f"d0/{number:03}")
            await landed(world)
        assert asked(store)["get"] <= 4 + 8

    living(store, tmp_path, story)


def test_programs_that_do_not_go_in_order_pay_nothing(tmp_path: Path) -> None:
    store = filled()
    numbers = [*range(1, COUNT, 2), *range(COUNT - 2, 1, -2)]

    async def story(world: World) -> None:
        for number in numbers:
            await world.read(f"d0/{number:03}")
            await landed(world)

    living(store, tmp_path, story)
    assert asked(store)["get"] == len(numbers)


@pytest.mark.decision(8)
def test_what_is_fetched_ahead_is_bounded_in_files(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        for number in range(30):
            await world.read(f"d0/{number:03}")
            await landed(world)
            assert asked(store)["get"] <= number + 1 + FILES_MAX

    living(store, tmp_path, story)


def test_what_is_fetched_ahead_is_bounded_in_bytes(tmp_path: Path) -> None:
    store = filled(size=1 << 20, count=40)

    async def story(world: World) -> None:
        for number in range(15):
            await world.read(f"d0/{number:03}")
            await landed(world)
            assert asked(store)["get"] <= number + 1 + BYTES_MAX // (1 << 20)

    living(store, tmp_path, story, cache_bytes_max=1 << 30)


def test_a_file_replaced_after_it_was_listed_is_read_whole(tmp_path: Path) -> None:
    """What was fetched ahead belongs to a version: another one is never shown by it."""
    store = filled()

    async def story(world: World) -> None:
        for number in range(5):
            await world.read(f"d0/{number:03}")
            await landed(world)
        put(store, "d0/100", b"newer", mode="33188")
        for number in range(5, COUNT):
            found = await world.read(f"d0/{number:03}")
            assert found == (b"newer" if number == 100 else bytes([number % 251]) * 100)
            await landed(world)

    living(store, tmp_path, story)


def test_a_file_written_here_is_not_fetched(tmp_path: Path) -> None:
    store = filled()

    async def story(world: World) -> None:
        await world.write("d0/100", b"o" * 100)
        for number in range(COUNT):
            await world.read(f"d0/{number:03}")
            await landed(world)

    living(store, tmp_path, story, upload_delay_sec=1000)
    assert ("get", "d0/100") not in store.calls


async def settled(world: World) -> None:
    """Every question that was asked ahead has been answered."""
    with trio.fail_after(10):
        await trio.testing.wait_all_tasks_blocked()  # who asks has begun
        while world.house.index._ahead.waiting or len(world.house.index._once):
            await trio.sleep(0.001)
            await trio.testing.wait_all_tasks_blocked()


def test_attributes_are_fetched_ahead_while_a_directory_is_listed(tmp_path: Path) -> None:
    """`ls -l` looks at what the first pages tell before it reads on."""
    store = filled(size=0, count=2500)

    async def story(world: World) -> None:
        directory = await world.inode("d0")
        number = world.fs.opendir(directory)
        _, nodes = await world.fs.entries(number, 0)
        assert len(nodes) < 2500
        waited = 0
        for node in nodes[:900]:
            before = len(store.calls)
            await world.fs.lookup.lookup(directory, node.name)
            waited += ("head", node.key) in store.calls[before:]
            await settled(world)
        assert waited < 10

    living(store, tmp_path, story)


def test_files_are_fetched_ahead_while_a_directory_is_listed(tmp_path: Path) -> None:
    store = filled(count=2500)

    async def story(world: World) -> None:
        number = world.fs.opendir(await world.inode("d0"))
        _, nodes = await world.fs.entries(number, 0)
        for node in nodes[:100]:
            await world.read(f"d0/{node.name.decode()}")
            await landed(world)

    living(store, tmp_path, story)
    assert (
        asked(store)["head"] < 20
    )  # of 100: the first ones, and what was foreseen before any read


def tree(*fan_out: int) -> MemoryStore:
    store, prefixes = MemoryStore(), [""]
    for width in fan_out:
        prefixes = [f"{prefix}d{number:02}/" for prefix in prefixes for number in range(width)]
    for prefix in prefixes:
        put(store, prefix + "file", b"x")
    store.calls.clear()
    return store


async def find(world: World, path: str, listed: Callable[[str], None]) -> None:
    directory = await world.inode(path)
    listed(path)
    if directory.is_directory:
        for name in await world.names(path):
            await find(world, str(Path(path) / name), listed)
            await settled(world)


@pytest.mark.decision(8)
def test_find_lists_ahead_and_each_directory_once(tmp_path: Path) -> None:
    store, waited = tree(20, 5), []

    async def story(world: World) -> None:
        before = 0

        def listed(path: str) -> None:
            nonlocal before
            prefix = "" if path == "" else f"{path}/"
            if ("list_page", prefix) in store.calls[before:]:
                waited.append(prefix)
            before = len(store.calls)

        await find(world, "", listed)

    living(store, tmp_path, story)
    lists = Counter(key for method, key in store.calls if method == "list_page")
    assert max(lists.values()) == 1
    assert len(lists) == 1 + 20 + 20 * 5
    assert len(waited) < len(lists) / 2  # the others had been listed before they were wanted


def test_a_program_that_looks_into_one_directory_lists_one(tmp_path: Path) -> None:
    store = tree(20)

    async def story(world: World) -> None:
        await world.names("d07")
        await settled(world)
        await world.names("d03")
        await settled(world)

    living(store, tmp_path, story)
    assert [key for method, key in store.calls if method == "list_page"] == ["", "d07/", "d03/"]


def test_opening_says_that_what_is_cached_is_current(tmp_path: Path) -> None:
    """So that what nobody asks for any more is evicted before it."""
    store = filled(count=1)

    async def story(world: World) -> None:
        await world.read("d0/000")
        await landed(world)
        info = (await world.inode("d0/000")).info
        assert info is not None
        entry = world.house.disk._entry(info)
        assert entry is not None
        entry.validated_at_sec = 0.0
        await world.read("d0/000")
        assert entry.validated_at_sec > 0.0

    living(store, tmp_path, story)


def test_what_is_listed_again_stays_exact_until_it_changes(tmp_path: Path) -> None:
    """The kernel keeps the attributes of `ls -l` as long as we say that they are exact."""
    store = filled(size=5000, count=3)
    put(store, "d0/001", b"x" * 5000, mode=str(stat.S_IFREG | 0o640))

    async def listed(world: World) -> list[bool]:
        directory = await world.inode("d0")
        number = world.fs.opendir(directory)
        parent, nodes = await world.fs.entries(number, 0)
        inodes = [world.fs.lookup.known(parent, node) for node in nodes]
        world.fs.releasedir(number)
        return [inode is not None and inode.exact for inode in inodes]

    async def story(world: World) -> None:
        assert await listed(world) == [False] * 3
        for name in ("000", "001", "002"):
            await world.inode(f"d0/{name}")
        assert await listed(world) == [True] * 3
        assert await listed(world) == [True] * 3
        store.clock = lambda: LONG_AGO_SEC + 60
        put(store, "d0/001", b"x" * 5000, mode=str(stat.S_IFREG | 0o600))  # the same etag
        index = world.house.index
        now = index._now
        index._now = lambda: now() + index.ttl_sec + 1
        assert await listed(world) == [True, False, True]
        inode = await world.inode("d0/001")
        assert inode.exact
        assert stat.S_IMODE(inode.posix.mode) == 0o600
        assert await listed(world) == [True] * 3

    living(store, tmp_path, story)


def test_inodes_whose_time_is_over_are_renewed_by_one_listing(tmp_path: Path) -> None:
    """The kernel may open a file by its inode, a moment after what it believes of it ended."""
    store = filled(count=20)

    async def story(world: World) -> None:
        inodes = [await world.inode(f"d0/{number:03}") for number in range(20)]
        for inode in inodes:
            await world.fs.lookup.getattr(inode)
        index = world.house.index
        with trio.fail_after(10):
            await wait_all_tasks_blocked(0.01)
            while index._ahead.waiting or len(index._once):  # what was foreseen
                await wait_all_tasks_blocked(0.01)
        store.calls.clear()
        now = index._now
        index._now = lambda: now() + index.ttl_sec + 1
        for inode in inodes:
            await world.fs.lookup.getattr(inode)

    living(store, tmp_path, story)
    assert store.calls == [("list_page", "d0/")]


def test_a_server_that_hangs_is_waited_for_once(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that has read one directory through, when it lists the next one."""
    store = filled(count=20, directories=2)

    async def story(world: World) -> None:
        await world.house.index.listing("d1/")
        for name in await world.names("d0"):
            await world.read(f"d0/{name}")
        with monkeypatch.context() as patch, trio.fail_after(3.0):
            patch.setattr(store, "get", lambda *_, **__: Flight())
            assert len(await world.names("d1")) == 20

    living(store, tmp_path, story, clock, io_timeout_sec=1.0)
