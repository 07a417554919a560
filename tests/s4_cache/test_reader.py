"""`cache.reader`: the right bytes, asked for once."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from qarnotfs.cache.blocks import BLOCK_BYTES, WINDOW_BYTES_MIN, PatternCell, Span
from qarnotfs.cache.disk import Disk
from tests.s4_cache.loops import KIB, MIB, reading, run, settled, until
from tests.s4_cache.scripted import ScriptedStore, blocks


def test_bytes_are_those_of_the_version_wherever_they_begin_and_end(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(5.5)
    info = store.add("key", body)

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7, len(body) - 1):
                for size in (1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1, 10 * MIB):
                    found = await reader.read(info, offset, size)
                    assert found == body[offset : offset + size]
                    assert isinstance(found, bytes)

    run(main)


def test_reads_of_nothing_ask_nothing(store: ScriptedStore, disk: Disk) -> None:
    info, empty = store.add("key", b"bytes"), store.add("empty", b"")

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 5, 10) == b""
            assert await reader.read(info, 50, 10) == b""
            assert await reader.read(info, 0, 0) == b""
            assert await reader.read(empty, 0, 10) == b""

    run(main)
    assert store.asked == []


def test_a_read_larger_than_a_part_is_put_together(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(100.3)
    info = store.add("key", body)

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 5, len(body)) == body[5:]

    run(main)


def test_random_reads_fetch_only_their_blocks(store: ScriptedStore, disk: Disk) -> None:
    info = store.add("key", blocks(100))
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            for number in (50, 20, 80, 10, 40):
                await reader.read(info, number * BLOCK_BYTES + 5, 4096, cell)
            await reader.read(info, 90 * BLOCK_BYTES - 1, 2, cell)

    run(main)
    assert [(at // BLOCK_BYTES, size) for _, at, size in store.asked] == [
        *((number, BLOCK_BYTES) for number in (50, 20, 80, 10, 40)),
        (89, 2 * BLOCK_BYTES),
    ]


def test_a_small_object_is_one_request(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(3.7)
    info = store.add("key", body)
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, len(body), 4 * KIB):
                found = await reader.read(info, offset, 4 * KIB, cell)
                assert found == body[offset : offset + 4 * KIB]

    run(main)
    assert store.asked == [("key", 0, len(body))]


def test_a_stream_is_fetched_once_and_ahead(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(130)
    info = store.add("key", body)
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 0, 128 * KIB, cell) == body[: 128 * KIB]
            await until(lambda: len(store.asked) == 2)
            # What was asked for is a request of its own: it does not wait for what follows.
            assert sorted(store.asked) == [
                ("key", 0, BLOCK_BYTES),
                ("key", BLOCK_BYTES, WINDOW_BYTES_MIN),
            ]
            for offset in range(128 * KIB, len(body), 128 * KIB):
                found = await reader.read(info, offset, 128 * KIB, cell)
                assert found == body[offset : offset + 128 * KIB]
            await settled(reader)
            assert reader.stats().fetched_bytes == len(body)

    run(main)
    assert sum(size for _, _, size in store.asked) == len(body)
    assert len(store.asked) <= 30


def test_one_flight_for_a_block_however_many_wait(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(8)
    info = store.add("key", body)
    store.held = []
    found: list[bytes] = []

    async def main() -> None:
        async with reading(store, disk) as reader, trio.open_nursery() as nursery:

            async def one(offset: int) -> None:
                found.append(await reader.read(info, offset, BLOCK_BYTES))

            for offset in (MIB, MIB, MIB + 5, MIB, MIB + BLOCK_BYTES):
                nursery.start_soon(one, offset)
            await until(lambda: len(reader._flights) == 2)
            await trio.testing.wait_all_tasks_blocked()
            store.release()

    run(main)
    assert len(found) == 5
    assert set(found) == {body[at : at + BLOCK_BYTES] for at in (MIB, MIB + 5, MIB + BLOCK_BYTES)}
    # Who comes first is chance: the two blocks are one request or two.
    asked = [number for _, start, size in store.asked for number in Span(start, size).blocks]
    assert sorted(asked) == [4, 5]


def test_an_interrupted_reader_harms_nobody(store: ScriptedStore, disk: Disk) -> None:
    body = blocks(8)
    info = store.add("key", body)
    store.held = []
    found: list[bytes] = []

    async def main() -> None:
        async with reading(store, disk) as reader, trio.open_nursery() as nursery:
            first = trio.CancelScope()

            async def interrupted() -> None:
                with first:
                    await reader.read(info, MIB, 10)

            async def patient() -> None:
                found.append(await reader.read(info, MIB, 10))

            nursery.start_soon(interrupted)
            await until(lambda: len(store.asked) == 1)
            nursery.start_soon(patient)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            store.release()

    run(main)
    assert found == [body[MIB : MIB + 10]]
    assert len(store.asked) == 1


def test_a_restart_asks_nothing(store: ScriptedStore, tmp_path: Path) -> None:
    body = blocks(20.5)
    info = store.add("key", body)

    async def main() -> None:
        disk = Disk(tmp_path, 1000 * MIB)
        async with reading(store, disk) as reader:
            assert await reader.read(info, 0, len(body)) == body
            await settled(reader)
        disk.close()
        store.asked.clear()
        async with reading(store, Disk(tmp_path, 1000 * MIB)) as reader:
            assert await reader.read(info, 0, len(body), PatternCell()) == body
            assert (reader.stats().hits, reader.stats().misses) == (1, 0)

    run(main)
    assert store.asked == []


def test_what_was_adopted_asks_nothing(store: ScriptedStore, disk: Disk, tmp_path: Path) -> None:
    body = blocks(2.5)
    info = store.add("key", body)
    (tmp_path / "staged").write_bytes(body)
    disk.adopt(info, tmp_path / "staged")

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 0, len(body)) == body

    run(main)
    assert store.asked == []


def test_a_damaged_block_is_fetched_again_and_only_that(
    store: ScriptedStore, tmp_path: Path
) -> None:
    body = blocks(5)
    info = store.add("key", body)

    async def main() -> None:
        async with reading(store, Disk(tmp_path, 1000 * MIB)) as reader:
            await reader.read(info, 0, len(body))
            await settled(reader)
        (path,) = tmp_path.rglob("*.data")
        with path.open("r+b") as file:
            file.seek(2 * BLOCK_BYTES + 99)
            file.write(bytes([body[2 * BLOCK_BYTES + 99] ^ 1]))
        store.asked.clear()
        for corrupt in (1, 0):
            async with reading(store, Disk(tmp_path, 1000 * MIB)) as reader:
                assert await reader.read(info, 0, len(body)) == body
                await settled(reader)
                assert reader.stats().corrupt == corrupt

    run(main)
    assert store.asked == [("key", 2 * BLOCK_BYTES, BLOCK_BYTES)]
