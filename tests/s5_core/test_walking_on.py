"""Programs that go from one directory to the next: what is asked for beyond the end of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from qarnotfs.core.walk import FILES_MAX
from qarnotfs.index.index import Index
from qarnotfs.store.base import ObjectInfo
from tests.s5_core.house import World, put
from tests.s5_core.test_walking import COUNT, asked, filled, landed, living, settled


@pytest.mark.decision(8)
@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_a_walk_goes_on_in_the_next_directories(tmp_path: Path, count: int) -> None:
    """Each file is fetched once, and after the first few directories none is waited for."""
    store = filled(count=count, directories=9)
    waited: list[str] = []

    async def story(world: World) -> None:
        await world.names("")
        for directory in range(9):
            for name in await world.names(f"d{directory}"):
                before = len(store.calls)
                await world.read(f"d{directory}/{name}")
                waited.extend(
                    key for _, key in store.calls[before:] if key == f"d{directory}/{name}"
                )
                await landed(world)
                await settled(world)

    living(store, tmp_path, story)
    gets = Counter(key for method, key in store.calls if method == "get")
    assert len(gets) == 9 * count
    assert set(gets.values()) == {1}
    assert not [key for key in waited if key > "d4"]


def test_the_lead_is_kept_from_one_directory_to_the_next(tmp_path: Path) -> None:
    store = filled(count=60, directories=5)

    async def story(world: World) -> None:
        for directory in range(5):
            await world.names(f"d{directory}")
        for number in range(4 * 60):
            await world.read(f"d{number // 60}/{number % 60:03}")
            await landed(world)
            if number >= 100:
                assert asked(store)["get"] > number + FILES_MAX // 2

    living(store, tmp_path, story)


def test_files_of_the_next_directory_are_bounded_and_fetched_in_order(tmp_path: Path) -> None:
    store = filled(count=10, directories=9)
    read = 0

    async def story(world: World) -> None:
        nonlocal read
        for directory in range(9):
            await world.names(f"d{directory}")
        for directory in range(4):
            for name in await world.names(f"d{directory}"):
                await world.read(f"d{directory}/{name}")
                read += 1
                await landed(world)
                assert asked(store)["get"] <= read + FILES_MAX

    living(store, tmp_path, story)
    keys = [key for method, key in store.calls if method == "get"]
    assert len(keys) > read
    assert keys == sorted(keys)


def test_who_reads_one_directory_leaves_the_next_one_alone(tmp_path: Path) -> None:
    store = filled(count=10, directories=3)

    async def story(world: World) -> None:
        for directory in range(3):
            await world.names(f"d{directory}")
        for name in await world.names("d1"):
            await world.read(f"d1/{name}")
            await landed(world)

    living(store, tmp_path, story)
    assert {key[:2] for method, key in store.calls if method == "get"} == {"d1"}


@pytest.mark.decision(8)
def test_attributes_are_asked_for_beyond_the_end_of_a_directory(tmp_path: Path) -> None:
    """As `ls -lR` wants them; once each."""
    store = filled(count=20, directories=9)
    waited: list[str] = []

    async def story(world: World) -> None:
        for directory in range(9):
            for name in await world.names(f"d{directory}"):
                before = len(store.calls)
                await world.inode(f"d{directory}/{name}")
                waited.extend(key for method, key in store.calls[before:] if method == "head")
                await landed(world)
                await settled(world)

    living(store, tmp_path, story)
    heads = Counter(key for method, key in store.calls if method == "head")
    assert set(heads.values()) == {1}
    assert not asked(store)["get"]
    assert not [key for key in waited if key > "d3"]


def test_who_looks_into_one_directory_leaves_the_next_one_alone(tmp_path: Path) -> None:
    store = filled(count=20, directories=3)

    async def story(world: World) -> None:
        for directory in range(3):
            await world.names(f"d{directory}")
        store.calls.clear()
        for name in await world.names("d1"):
            await world.inode(f"d1/{name}")
            await settled(world)

    living(store, tmp_path, story)
    assert {key[:2] for _, key in store.calls} == {"d1"}


@pytest.mark.parametrize("skipped", [lambda n: n % 6 == 5, lambda n: n % 10 == 9])
def test_files_that_are_left_out_do_not_hold_up_the_others(
    tmp_path: Path, skipped: Callable[[int], bool]
) -> None:
    """The last one of each directory, or one here and there."""
    store = filled(count=6, directories=60)
    numbers = [number for number in range(6 * 60) if not skipped(number)]
    short = 0

    async def story(world: World) -> None:
        nonlocal short
        for directory in range(60):
            await world.names(f"d{directory}")
        order = sorted(range(60), key=lambda directory: f"d{directory}/")
        for read, number in enumerate(numbers):
            await world.read(f"d{order[number // 6]}/{number % 6:03}")
            await landed(world)
            ahead = asked(store)["get"] - read
            short += 50 < read < len(numbers) - 60 and ahead < 4

    living(store, tmp_path, story)
    assert not short


def test_who_reads_a_file_far_from_there_reads_one(tmp_path: Path) -> None:
    store = filled(count=40, directories=20)

    async def story(world: World) -> None:
        for name in await world.names("d1"):
            await world.read(f"d1/{name}")
            await landed(world)
        before = asked(store)["get"]
        await world.read("d8/000")
        await world.read("d0/000")
        await landed(world)
        assert asked(store)["get"] == before + 2

    living(store, tmp_path, story)


def test_what_finds_no_place_is_wanted_again_with_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(count=COUNT)

    async def story(world: World) -> None:
        for number in range(60):
            await world.read(f"d0/{number:03}")
            await landed(world)
        with monkeypatch.context() as patch:
            tried: list[ObjectInfo] = []
            patch.setattr(world.house.reader, "fetch_ahead", tried.append)
            for number in range(60, 130):
                await world.read(f"d0/{number:03}")
            assert len({info.key for info in tried}) > 60

    living(store, tmp_path, story)


def expire(index: Index) -> None:
    """What is believed is too old now."""
    now = index._now
    index._now = lambda: now() + index.ttl_sec + 1


def test_a_second_walk_is_as_good_as_the_first(tmp_path: Path) -> None:
    """Also when all was replaced, or one file of each directory was read by somebody before."""
    store = filled(count=10, directories=9)
    waited: list[int] = []

    async def walk(world: World) -> int:
        found = 0
        for directory in range(9):
            for name in await world.names(f"d{directory}"):
                before = len(store.calls)
                await world.read(f"d{directory}/{name}")
                found += ("get", f"d{directory}/{name}") in store.calls[before:]
                await landed(world)
        return found

    async def story(world: World) -> None:
        index = world.house.index
        for directory in range(9):
            await world.read(f"d{directory}/004")
        for _ in range(2):
            store.calls.clear()
            waited.append(await walk(world))
            for key in {key for _, key in store.calls if key.count("/") == 1 and key[-1] != "/"}:
                put(store, key, b"newer" * 20)
            expire(index)

    living(store, tmp_path, story)
    assert waited[0] <= 6
    assert waited[1] <= 6
