"""`cache.reader`: one flight a block, nothing mixed, nothing waited for in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import BLOCK_BYTES, WINDOW_BYTES_MIN, PatternCell, Span
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import FLIGHT_BYTES_MAX, FLIGHTS_MAX, Reader
from qarnotfs.errors import QarnotfsError, Refused, Stale, Unavailable
from qarnotfs.store.base import Fetched, ObjectInfo
from tests.s4_cache.scripted import ScriptedStore, blocks

MIB = 1 << 20
KIB = 1 << 10


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path, 1000 * MIB)


@asynccontextmanager
async def reading(
    store: ScriptedStore, disk: Disk, io_timeout_sec: float = 20.0
) -> AsyncIterator[Reader]:
    reader = Reader(store, Bridge(), disk, io_timeout_sec=io_timeout_sec)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until it is so; `run` has the deadline."""
    while not condition():
        await trio.sleep(0.001)


async def settled(reader: Reader) -> None:
    await until(lambda: not reader._flights)


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


# --- failures -----------------------------------------------------------------------------


def test_a_replaced_or_deleted_object_is_stale_but_what_is_cached_can_be_read(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(8)
    info = store.add("key", body)

    async def main() -> None:
        async with reading(store, disk) as reader:
            await reader.read(info, 0, BLOCK_BYTES)
            store.add("key", blocks(8, seed=1))
            with pytest.raises(Stale, match="key"):
                await reader.read(info, 0, 2 * BLOCK_BYTES)
            store.delete(["key"])
            with pytest.raises(Stale, match="key"):
                await reader.read(info, 4 * BLOCK_BYTES, 1)
            assert await reader.read(info, 0, BLOCK_BYTES) == body[:BLOCK_BYTES]

    run(main)


def test_a_server_that_ignores_the_condition_is_found_out(
    store: ScriptedStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = store.add("key", blocks(8))
    store.add("key", blocks(8, seed=1))
    honest = store.get
    monkeypatch.setattr(
        store, "get", lambda key, start, size, etag: honest(key, start, size, etag=None)
    )

    async def main() -> None:
        async with reading(store, disk) as reader:
            with pytest.raises(Stale):
                await reader.read(info, 0, 1)
            await settled(reader)
            assert disk.present(info, range(8)) == set()

    run(main)


def test_a_short_answer_is_repeated(
    store: ScriptedStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = blocks(2)
    info = store.add("key", body)
    real = store.answer

    def short(flight, *rest):  # type: ignore[no-untyped-def] # a stand-in for one call
        monkeypatch.setattr(store, "answer", real)
        flight.set_result(Fetched(info, body[:10]))

    monkeypatch.setattr(store, "answer", short)

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 0, len(body)) == body

    run(main)
    assert len(store.asked) == 2


def test_trouble_is_waited_out(store: ScriptedStore, disk: Disk) -> None:
    info = store.add("key", b"bytes")
    store.failures = [Unavailable("503"), Unavailable("reset")]

    async def main() -> None:
        async with reading(store, disk) as reader:
            assert await reader.read(info, 0, 5) == b"bytes"

    run(main)
    assert len(store.asked) == 3


def test_trouble_without_end_is_an_error_in_bounded_time_and_then_it_works_again(
    store: ScriptedStore, disk: Disk
) -> None:
    info = store.add("key", b"bytes")
    store.failures = [Unavailable("The gateway says 503.")] * 1000

    async def main() -> None:
        async with reading(store, disk, io_timeout_sec=0.4) as reader:
            with pytest.raises(Unavailable, match="503"):
                await reader.read(info, 0, 5)
            await settled(reader)
            store.failures.clear()
            assert await reader.read(info, 0, 5) == b"bytes"

    run(main)
    assert len(store.asked) > 2


def test_a_server_that_never_answers_is_an_error_in_bounded_time(
    store: ScriptedStore, disk: Disk
) -> None:
    info = store.add("key", b"bytes")
    store.held = []

    async def main() -> None:
        async with reading(store, disk, io_timeout_sec=0.2) as reader:
            with pytest.raises(Unavailable):
                await reader.read(info, 0, 5)
            await settled(reader)
            store.release()
            assert await reader.read(info, 0, 5) == b"bytes"

    run(main)


@pytest.mark.parametrize(
    "error", [Refused("You may not."), QarnotfsError("odd"), ZeroDivisionError("a defect")]
)
def test_other_errors_reach_every_waiting_reader_once_and_break_nothing(
    store: ScriptedStore, disk: Disk, error: Exception
) -> None:
    info = store.add("key", blocks(8))
    store.failures = [error]
    caught: list[Exception] = []

    async def main() -> None:
        async with reading(store, disk) as reader:
            async with trio.open_nursery() as nursery:

                async def one() -> None:
                    try:
                        await reader.read(info, MIB, 5)
                    except QarnotfsError as found:
                        caught.append(found)

                nursery.start_soon(one)
                nursery.start_soon(one)
            assert await reader.read(info, MIB, 1) == blocks(8)[MIB : MIB + 1]

    run(main)
    assert len(caught) == 2
    assert caught[0] is not caught[1]
    assert len(store.asked) == 2


def test_failures_ahead_are_silent_and_the_read_itself_tries_again(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(40)
    info = store.add("key", body)
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            await reader.read(info, 0, BLOCK_BYTES)
            store.failures = [Unavailable("ahead")]
            await reader.read(info, 0, BLOCK_BYTES, cell)  # from the cache; sends ahead
            await settled(reader)
            assert store.failures == []
            for offset in range(0, len(body), BLOCK_BYTES):
                found = await reader.read(info, offset, BLOCK_BYTES, cell)
                assert found == body[offset : offset + BLOCK_BYTES]

    run(main)


def test_a_reader_who_joins_a_flight_ahead_makes_it_persist(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(40)
    info = store.add("key", body)
    cell = PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            await reader.read(info, 0, BLOCK_BYTES)
            store.held = []
            await reader.read(info, 0, BLOCK_BYTES, cell)
            await until(lambda: len(store.asked) == 2)
            async with trio.open_nursery() as nursery:

                async def join() -> None:
                    start = BLOCK_BYTES + 5
                    assert await reader.read(info, start, 9) == body[start : start + 9]

                nursery.start_soon(join)
                await trio.testing.wait_all_tasks_blocked()
                store.release(Unavailable("The gateway says 503."))

    run(main)
    assert store.asked[1:] == [("key", BLOCK_BYTES, WINDOW_BYTES_MIN)] * 2


# --- bounds -------------------------------------------------------------------------------


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
            for offset in range(32 * MIB, 50 * MIB, MIB):
                with trio.move_on_after(0.01):
                    await reader.read(info, offset, MIB, cell)
            ahead = sum(size for _, _, size in store.asked)
            assert 8 * MIB <= ahead <= FLIGHT_BYTES_MAX
            held, store.held = store.held, None
            assert await reader.read(urgent, 0, 5) == b"bytes"
            store.held = held
            store.release()

    run(main)


def test_many_who_read_ahead_leave_places_for_those_who_cannot_wait(
    store: ScriptedStore, disk: Disk
) -> None:
    body = blocks(8)
    infos = [store.add(f"key{number}", body) for number in range(2 * FLIGHTS_MAX)]

    async def main() -> None:
        async with reading(store, disk) as reader:
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
            with trio.move_on_after(0.01):
                await reader.read(infos[0], 7 * BLOCK_BYTES, 1)
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
