"""Warming and pinning: everything below a prefix is fetched once, and stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from qarnotfs.cache.pins import Pins
from qarnotfs.cache.warming import LARGE_FETCHERS
from qarnotfs.errors import FileError, QarnotfsError, Unavailable, UsageError
from qarnotfs.store.base import Fetched, Flight
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, entered, put

MIB = 1 << 20


def filled() -> MemoryStore:
    store = MemoryStore()
    for number in range(30):
        put(store, f"p/d{number % 3}/{number:02}", b"%02d" % number * 1000, mode="33188")
    put(store, "p/empty", b"", mode="33188")
    put(store, "p/marked/", b"", mode="16877")
    put(store, "p/large", bytes(3 * MIB))
    put(store, "other", b"x")
    store.calls.clear()
    return store


def test_what_is_warm_needs_no_request(tmp_path: Path) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            warmth = await world.house.warmer.warm("p/")
            assert (warmth.files, warmth.files_total, warmth.failed) == (33, 33, {})
            assert warmth.bytes == warmth.bytes_total == 30 * 2000 + 3 * MIB
        gets = [key for method, key in store.calls if method == "get"]
        assert len(gets) == len(set(gets)) == 31
        heads = [key for method, key in store.calls if method == "head"]
        assert sorted(heads) == ["p/empty", "p/marked/"]  # nothing to get of them
        async with entered(store, tmp_path) as world:
            await world.names()  # of the root, which was not warmed
            store.calls.clear()
            tree = await world.tree("p")
            assert store.calls == []
        assert tree["p/d1/07"] == b"07" * 1000
        assert tree["p/marked"] is None
        assert tree["p/large"] == bytes(3 * MIB)

    trio.run(main)


def test_large_files_leave_room_for_what_programs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    for number in range(20):
        put(store, f"p/{number:02}", bytes(3 * MIB), mode="33188")
    put(store, "wanted", b"now", mode="33188")
    asked: list[str] = []

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            get = store.get

            def hanging(key: str, *range_: int, etag: str | None = None) -> Flight[Fetched]:
                asked.append(key)
                return get(key, *range_, etag=etag) if key == "wanted" else Flight()

            monkeypatch.setattr(store, "get", hanging)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.house.warmer.warm, "p/")
                with trio.fail_after(10):
                    while len(asked) < LARGE_FETCHERS:
                        await trio.sleep(0.001)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    assert await world.read("wanted") == b"now"
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(asked) == LARGE_FETCHERS + 1


def test_it_goes_on_where_it_was(tmp_path: Path, clock: MockClock) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            store.faults = lambda method, key: (
                Unavailable("down") if method == "get" and key > "p/d1/" else None
            )
            world.house.reader.io_timeout_sec = 0.1
            warmth = await world.house.warmer.warm("p/")
            assert len(warmth.failed) == 21
        store.faults = lambda *_: None
        store.calls.clear()
        async with entered(store, tmp_path) as world:
            warmth = await world.house.warmer.warm("p/")
            assert warmth.failed == {}
        assert len([method for method, _ in store.calls if method == "get"]) == 21

    trio.run(main, clock=clock)


@pytest.mark.decision(14)
def test_what_was_replaced_is_fetched_and_pinned_instead(tmp_path: Path) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            await world.house.warmer.warm("p/")
            before = world.house.disk.pins.names()
            put(store, "p/d1/07", b"newer", mode="33188")
            await world.house.warmer.warm("p/")
            after = world.house.disk.pins.names()
            assert len(before - after) == len(after - before) == 1
            assert await world.read("p/d1/07") == b"newer"

    trio.run(main)


@pytest.mark.decision(14)
def test_pinned_bytes_outlive_others_also_another_process(tmp_path: Path) -> None:
    store = filled()
    for number in range(12):
        put(store, f"stream/{number:02}", bytes([number]) * MIB)

    async def main() -> None:
        async with entered(store, tmp_path, cache_bytes_max=8 * MIB) as world:
            await world.house.warmer.warm("p/")
        async with entered(store, tmp_path, cache_bytes_max=8 * MIB) as world:
            for name in await world.names("stream"):
                await world.read(f"stream/{name}")
                world.house.disk.make_room()
            assert world.house.disk.evicted_bytes > 0
            store.calls.clear()
            await world.tree("p")
            assert [key for method, key in store.calls if method == "get"] == []

    trio.run(main)


def test_unpinned_bytes_go_like_others(tmp_path: Path) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            await world.house.warmer.warm("p/")
            pins = Pins.of(world.house.disk.directory)
            assert pins.unpin("p/")
            assert not pins.unpin("p/")
            assert world.house.disk.pins.names() == frozenset()

    trio.run(main)


def test_a_cache_that_is_too_small_says_so_and_pins_nothing(tmp_path: Path) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path, cache_bytes_max=4 * MIB) as world:
            await world.house.warmer.warm("p/large")
            put(store, "q", bytes(2 * MIB))
            with pytest.raises(UsageError, match="--cache-size") as refused:
                await world.house.warmer.warm("q")
            assert "3.0 MiB are pinned already" in str(refused.value)
            assert len(world.house.disk.pins.names()) == 1

    trio.run(main)


def test_whole_blocks_of_the_disk_count(tmp_path: Path) -> None:
    """Three hundred files of a hundred bytes are 30 kB, and 1.2 MB on disk."""
    store = MemoryStore()
    for number in range(300):
        put(store, f"p/{number:03}", bytes(100), mode="33188")

    async def main() -> None:
        async with entered(store, tmp_path, cache_bytes_max=MIB) as world:
            with pytest.raises(UsageError, match=r"takes 1\.2 MiB on disk"):
                await world.house.warmer.warm("p/")
            assert world.house.disk.pins.names() == frozenset()
        async with entered(store, tmp_path, cache_bytes_max=2 * MIB) as world:
            warmth = await world.house.warmer.warm("p/")
            assert (warmth.failed, warmth.bytes) == ({}, 30_000)

    trio.run(main)


def test_what_the_disk_does_not_take_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled()
    written = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if at >= MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(fd, data, at)

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            monkeypatch.setattr(os, "pwrite", full)
            warmth = await world.house.warmer.warm("p/large")
            assert warmth.bytes == 0
            assert "no room" in warmth.failed["p/large"]

    trio.run(main)


def test_a_damaged_pin_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "pins.db").write_bytes(b"garbage" * 1000)
    pins = Pins.of(tmp_path)
    assert pins.names() == frozenset()
    pins.pin("p/", [("name", 5)])
    assert Pins.of(tmp_path).names() == {"name"}
    assert pins.bytes_besides("q/") == 5
    assert pins.bytes_besides("p/") == 0


def test_pins_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    """A mount says so and lives."""
    (tmp_path / "file").write_bytes(b"")
    pins = Pins.of(tmp_path / "file" / "blocks")
    for change in (lambda: pins.pin("p/", [("name", 5)]), lambda: pins.unpin("p/")):
        with pytest.raises(FileError, match=r"pins\.db cannot be written"):
            change()
    assert pins.names() == frozenset()


def test_a_damaged_pin_database_that_cannot_be_removed_pins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pins.db").write_bytes(b"garbage" * 1000)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert Pins.of(tmp_path).names() == frozenset()


def test_our_own_change_meanwhile_is_not_undone(tmp_path: Path) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path) as world:
            await world.names("p/d1")
            real = store.list_page

            def late(prefix: str, **options: object) -> object:
                page = real(prefix, **options)  # type: ignore[arg-type]  # as they were given
                trio.from_thread.run(change, world)
                store.list_page = real  # type: ignore[method-assign]  # once is enough
                return page

            store.list_page = late  # type: ignore[method-assign, assignment]  # an answer that is late
            await world.house.warmer.warm("p/")
            assert "new" in await world.names("p/d1")
            assert "01" not in await world.names("p/d1")

    trio.run(main)


async def change(world: World) -> None:
    await world.write("p/d1/new", b"x")
    await world.unlink("p/d1/01")
    assert await world.drain()


def test_a_bucket_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    store = filled()
    store.faults = lambda *_: Unavailable("down")

    async def main() -> None:
        async with entered(store, tmp_path, io_timeout_sec=0.1) as world:
            with pytest.raises(QarnotfsError):
                await world.house.warmer.warm("p/")

    trio.run(main)
