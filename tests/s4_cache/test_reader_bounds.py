"""`cache.reader`: bounded memory, bounded waste, and its beginning and end."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import BLOCK_BYTES, PatternCell
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import FLIGHT_BYTES_MAX, FLIGHTS_MAX, Reader
from qarnotfs.cache.runway import Runway
from qarnotfs.errors import Unavailable
from qarnotfs.store.base import ObjectInfo
from tests.s4_cache.loops import KIB, MIB, reading, run, settled, until
from tests.s4_cache.scripted import ScriptedStore, blocks, noise
from tests.s4_cache.shelf import made_room_in


def test_flights_and_their_bytes_are_bounded(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(4)
    infos = [store.add(f"key{number}", body) for number in range(3 * FLIGHTS_MAX)]
    store.held = []
    done: list[bytes] = []

    async def main() -> None:
        async with reading(store, disk) as reader, trio.open_nursery() as nursery:

            async def one(info: ObjectInfo) -> None:
                done.append(await reader.read(info, 0, len(body)))

            for info in infos:
                nursery.start_soon(one, info)
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.asked) == FLIGHTS_MAX
            store.release()

    run(main)
    assert done == [body] * len(infos)


def test_requests_are_made_in_the_order_they_are_wanted(store: ScriptedStore, disk: Disk) -> None:
    """What somebody waits for comes first, whichever task begins first."""
    infos = [store.add(f"key{number:02}", blocks(1, number)) for number in range(20)]

    async def main() -> None:
        async with reading(store, disk) as reader:
            store.held = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.read, infos[0], 0, BLOCK_BYTES)
                await until(lambda: len(store.asked) == 1)
                for info in infos[1:]:
                    assert reader.fetch_ahead(info)
                assert [asked.key for asked in store.asked] == [info.key for info in infos]
                store.release()
            await settled(reader)

    run(main)


@pytest.mark.parametrize("size", [BLOCK_BYTES // 2, 8 * BLOCK_BYTES])
def test_bytes_that_cannot_be_kept_are_read_all_the_same(
    store: ScriptedStore, disk: Disk, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    body = noise(size)
    infos = [store.add(f"key{number}", body) for number in range(4)]

    def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        async with reading(store, disk) as reader:
            monkeypatch.setattr(disk, "store", broken)
            monkeypatch.setattr(disk, "quick", lambda info, _: info.key > "key1")
            for info in infos:
                assert await reader.read(info, 0, size) == body
            await settled(reader)

    run(main)


def test_reading_ahead_leaves_room_for_those_who_cannot_wait(
    store: ScriptedStore, disk: Disk
) -> None:
    info = store.add("large", b"\0" * (1 << 28))
    urgent = store.add("urgent", b"bytes")
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, 32 * MIB, MIB):
                await reader.read(info, offset, MIB, cell)
            await settled(reader)
            store.held = []
            store.asked.clear()
            async with trio.open_nursery() as readers:
                for offset in range(32 * MIB, 120 * MIB, MIB):
                    if sum(size for _, _, size in store.asked) >= 8 * MIB:
                        break
                    before = cell.pattern
                    readers.start_soon(reader.read, info, offset, MIB, cell)
                    with trio.fail_after(10):
                        while cell.pattern is before:  # until the read is noted
                            await trio.sleep(0.001)
                readers.cancel_scope.cancel()
            ahead = sum(size for _, _, size in store.asked)
            assert 8 * MIB <= ahead <= FLIGHT_BYTES_MAX
            held, store.held = store.held, None
            assert await reader.read(urgent, 0, 5) == b"bytes"
            store.held = held
            store.release()

    run(main)


def test_a_quarter_of_both_is_kept_free_for_those_who_cannot_wait() -> None:
    narrow, short = Runway(1000, 64 * MIB), Runway(64, 64 * MIB)
    assert sum(narrow.take_ahead(8 * MIB) for _ in range(20)) == 6
    assert sum(short.take_ahead(1) for _ in range(100)) == 48
    assert narrow.ahead_bytes == short.ahead_bytes == 0
    assert narrow.take_now(16 * MIB)
    assert sum(short.take_now(1) for _ in range(100)) == 16


def test_no_read_looks_further_ahead_than_there_is_room(
    store: ScriptedStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many streams each would look at a whole window at each read."""
    body = bytes(96 * MIB)
    streams = [(store.add(f"key{number}", body), PatternCell()) for number in range(4)]
    looked_at: list[int] = []
    present = disk.present

    def looked(info: ObjectInfo, blocks: range) -> set[int]:
        looked_at.append(len(blocks))
        return present(info, blocks)

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, 16 * MIB, MIB):
                for info, cell in streams:
                    await reader.read(info, offset, MIB, cell)
                    await settled(reader)
            here = min(cell.pattern.streams[0].ahead for _, cell in streams)
            store.held = []
            store.asked.clear()
            monkeypatch.setattr(disk, "present", looked)
            for offset in range(16 * MIB, here, MIB):
                for info, cell in streams:
                    await reader.read(info, offset, MIB, cell)
            sent = sum(size for _, _, size in store.asked)
            assert 32 * MIB <= sent == sum(looked_at) * BLOCK_BYTES
            for info, cell in streams:  # what was not sent for is looked at later
                ends = [start + size for key, start, size in store.asked if key == info.key]
                assert cell.pattern.streams[0].ahead <= max(ends, default=here)
            store.release()

    run(main)


def test_many_who_read_ahead_leave_places_for_those_who_cannot_wait(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(8)
    infos = [store.add(f"key{number}", body) for number in range(2 * FLIGHTS_MAX)]

    async def main() -> None:
        async with reading(store, disk, io_timeout_sec=60.0) as reader:  # no place is given up
            for info in infos:
                await reader.read(info, 0, BLOCK_BYTES)
            await settled(reader)
            store.held = []
            store.asked.clear()
            for info in infos:
                await reader.read(info, 0, BLOCK_BYTES, PatternCell())
            await trio.testing.wait_all_tasks_blocked()
            assert 0 < len(store.asked) < FLIGHTS_MAX
            before = len(store.asked)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.read, infos[0], 7 * BLOCK_BYTES, 1)
                await until(lambda: len(store.asked) > before)
                nursery.cancel_scope.cancel()
            assert len(store.asked) == before + 1
            store.release()

    run(main)


@pytest.mark.parametrize("cache_bytes_max", [0, 4 * MIB])
def test_an_object_larger_than_the_cache_is_fetched_about_once(
    store: ScriptedStore, tmp_path: Path, cache_bytes_max: int
) -> None:
    body = blocks(200)
    info = store.add("key", body)
    disk = Disk(tmp_path, cache_bytes_max)
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, len(body), 128 * KIB):
                found = await reader.read(info, offset, 128 * KIB, cell)
                assert found == body[offset : offset + 128 * KIB]
            await settled(reader)
            assert reader.stats().fetched_bytes < 1.2 * len(body)
            disk.make_room()
            assert reader.stats().bytes_used <= cache_bytes_max

    run(main)


def test_a_process_that_does_not_end_making_room_stops_neither_reads_nor_the_end(
    store: ScriptedStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All flights wait to be kept, until it is clear that nobody will make room."""
    monkeypatch.setattr("qarnotfs.cache.space.PATIENCE_SEC", 0.1)
    infos = [store.add(f"key{number}", b"bytes") for number in range(2 * FLIGHTS_MAX)]

    async def main() -> None:
        async with reading(store, disk, io_timeout_sec=5.0) as reader:
            for info in infos:
                assert await reader.read(info, 0, 5) == b"bytes"

    with made_room_in(disk.directory):
        run(main)


def test_before_and_after_it_runs_only_the_cache_can_be_read(
    store: ScriptedStore, disk: Disk
) -> None:
    info = store.add("key", b"bytes")
    reader = Reader(store, Bridge(), disk)

    async def main() -> None:
        with pytest.raises(Unavailable, match="closed"):
            await reader.read(info, 0, 5)
        disk.store(info, 0, b"bytes")
        assert await reader.read(info, 0, 5, PatternCell()) == b"bytes"

    run(main)


def test_readers_are_told_when_it_stops(store: ScriptedStore, disk: Disk) -> None:
    info = store.add("key", b"bytes")
    store.held = []
    caught: list[Unavailable] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, reading(store, disk) as reader:

            async def one() -> None:
                try:
                    await reader.read(info, 0, 5)
                except Unavailable as error:
                    caught.append(error)

            nursery.start_soon(one)
            await until(lambda: len(store.asked) == 1)

    run(main)
    assert "closed" in str(caught[0])


@pytest.mark.parametrize("streams", [4, 8, 16])
def test_many_streams_through_a_little_memory_do_not_thrash(
    store: ScriptedStore, tmp_path: Path, streams: int
) -> None:
    body = blocks(64)
    infos = [store.add(f"key{number}", body) for number in range(streams)]
    cells = [PatternCell() for _ in infos]
    disk = Disk(tmp_path, 0, memory_bytes_max=8 * MIB)

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, len(body), 128 * KIB):
                for info, cell in zip(infos, cells, strict=True):
                    await reader.read(info, offset, 128 * KIB, cell)
            await settled(reader)
            assert reader.stats().fetched_bytes < 1.8 * streams * len(body)

    run(main)
