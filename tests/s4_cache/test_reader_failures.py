"""`cache.reader`: what a reader is told when the store does not deliver."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from qarnotfs.cache.blocks import BLOCK_BYTES, WINDOW_BYTES_MIN, PatternCell
from qarnotfs.cache.disk import Disk
from qarnotfs.errors import QarnotfsError, Refused, Stale, Unavailable
from qarnotfs.store.base import Fetched
from tests.s4_cache.loops import MIB, reading, run, settled, until
from tests.s4_cache.scripted import ScriptedStore, blocks


@pytest.mark.decision(10)
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
    store: ScriptedStore, disk: Disk, still: MockClock
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

    run(main, still)
    assert len(store.asked) > 2


def test_a_server_that_never_answers_is_an_error_in_bounded_time(
    store: ScriptedStore, disk: Disk, still: MockClock
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

    run(main, still)


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
