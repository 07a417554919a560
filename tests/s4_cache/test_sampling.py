"""Reads here and there in one object: when, and how much, is fetched around them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.cache.blocks import (
    AROUND_BYTES_MAX,
    AROUND_BYTES_MIN,
    AROUND_SHARE,
    BLOCK_BYTES,
    PART_BYTES_MIN,
    SAMPLES_MIN,
    PatternCell,
    Sampling,
    Span,
    lumps,
    samples_needed,
)
from qarnotfs.cache.disk import Disk
from qarnotfs.store.base import Fetched, Flight
from tests.s4_cache.loops import KIB, MIB, reading, run, settled
from tests.s4_cache.scripted import Asked, ScriptedStore, blocks
from tests.s4_cache.timeless import timeless

GIB = 1 << 30

object_sizes = st.integers(1, 1 << 42)


def missed(object_size: int, count: int) -> list[Span | None]:
    """What so many misses in the middle of an object fetch around them, always in time."""
    sampling, found = Sampling(), []
    for _ in range(count):
        sampling, around = sampling.missed(object_size // BLOCK_BYTES // 2, object_size, 1 << 50)
        found.append(around)
        if around:
            sampling = sampling.landed(around.size, in_time=True)
    return found


@pytest.mark.decision(15)
@given(object_sizes, st.integers(0, SAMPLES_MIN))
def test_the_first_misses_fetch_nothing_around_them(object_size: int, count: int) -> None:
    assert set(missed(object_size, count)) <= {None}


@pytest.mark.decision(15)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.booleans()), max_size=200), object_sizes)
def test_what_is_fetched_around_a_miss_has_it_and_is_bounded(
    reads: list[tuple[int, bool]], object_size: int
) -> None:
    sampling, fetched = Sampling(), 0
    for place, in_time in reads:
        number = place % -(-object_size // BLOCK_BYTES)
        sampling, around = sampling.missed(number, object_size, 1 << 50)
        if around is None:
            continue
        fetched += around.size
        sampling = sampling.landed(around.size, in_time=in_time)
        assert 0 <= around.start < around.end <= object_size
        assert number in around.blocks
        assert around.start % BLOCK_BYTES == 0
        assert around.size <= AROUND_BYTES_MAX
        assert around.size <= max(AROUND_BYTES_MIN, object_size // AROUND_SHARE)
    # Never more than so much for each read that missed; nothing before the object was read
    # here and there often enough for its size.
    assert fetched <= max(0, len(reads) - samples_needed(object_size)) * AROUND_BYTES_MAX


@given(object_sizes, object_sizes)
def test_the_larger_the_object_the_more_misses_it_takes(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert SAMPLES_MIN <= samples_needed(small) <= samples_needed(large)


@pytest.mark.decision(15)
def test_a_huge_object_is_never_worth_it() -> None:
    assert samples_needed(256 * MIB) == SAMPLES_MIN
    assert samples_needed(GIB) == 128
    assert samples_needed(10 * GIB) == 12_800
    assert samples_needed(100 * GIB) > 100 * GIB // BLOCK_BYTES  # more than it has blocks


def test_it_doubles_from_miss_to_miss() -> None:
    found = missed(256 * MIB, SAMPLES_MIN + 8)[SAMPLES_MIN:]
    assert [span and span.size for span in found] == [
        512 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 16 * MIB, 16 * MIB
    ]  # fmt: skip


def test_an_object_that_would_not_stay_in_the_cache_is_left_alone() -> None:
    sampling = Sampling(misses=1000)
    assert sampling.missed(5, 64 * MIB, 64 * MIB)[1] is not None
    assert sampling.missed(5, 64 * MIB, 64 * MIB - 1)[1] is None


def test_it_stays_as_it_is_until_something_came_in_time() -> None:
    sampling = Sampling(10, 2 * MIB)
    for _ in range(5):
        sampling, around = sampling.missed(9, 128 * MIB, GIB)
        assert around == Span(2 * MIB, 2 * MIB)


def test_what_took_too_long_is_halved_once_and_then_begun_again() -> None:
    slow = Sampling(10, 8 * MIB).landed(8 * MIB, in_time=False)
    assert slow == Sampling(10, 4 * MIB)
    assert slow.landed(8 * MIB, in_time=False) == slow  # it was under way at the same time
    assert slow.landed(AROUND_BYTES_MIN, in_time=False) == Sampling()


@given(st.sets(st.integers(0, 63)), st.integers(0, 40), st.integers(1, 24))
def test_lumps_are_what_is_missing_and_spare_only_large_runs(
    present: set[int], first: int, count: int
) -> None:
    wanted = Span(first * BLOCK_BYTES, count * BLOCK_BYTES)
    found = lumps(present, wanted, 64 * BLOCK_BYTES)
    fetched = {number for span in found for number in span.blocks}
    assert set(wanted.blocks) - present <= fetched <= set(wanted.blocks)
    assert sum(span.size for span in found) == len(fetched) * BLOCK_BYTES
    large = PART_BYTES_MIN // BLOCK_BYTES
    for number in wanted.blocks:
        lies_in_a_large_run = any(
            set(range(at, at + large)) <= present & set(wanted.blocks)
            for at in range(number - large + 1, number + 1)
        )
        assert (number in fetched) == (not lies_in_a_large_run)


# --- the reader -------------------------------------------------------------------------------


class FarStore(ScriptedStore):
    """A store that is some way off, and may be at the end of a narrow one."""

    def __init__(self, way_sec: float, mib_sec: float = 0.0) -> None:
        super().__init__()
        self._way_sec, self._mib_sec = way_sec, mib_sec

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        self.asked.append(Asked(key, start, size))
        flight = Flight[Fetched]()

        async def later() -> None:
            await trio.sleep(self._way_sec + self._mib_sec * size / MIB)
            self.answer(flight, key, start, size, etag)

        trio.lowlevel.spawn_system_task(later)
        return flight

    @property
    def asked_bytes(self) -> int:
        return sum(size for _, _, size in self.asked)


def read_at_random(store: FarStore, disk: Disk, count: int, mib: int = 64) -> int:
    """Read so many different blocks of an object; how many of the reads missed."""
    body = blocks(4) * mib
    info, cell = store.add("key", body), PatternCell()
    numbers = random.Random(1).sample(range(1, 4 * mib), count)
    found = []

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in (number * BLOCK_BYTES for number in numbers):
                data = await reader.read(info, offset, 4 * KIB, cell)
                assert data == body[offset : offset + 4 * KIB]
            found.append(reader.stats().misses)
            await settled(reader)

    with timeless() as clock:
        run(main, clock)
    return found[0]


def test_a_few_random_reads_fetch_only_their_blocks(disk: Disk) -> None:
    store = FarStore(0.01)
    assert read_at_random(store, disk, SAMPLES_MIN) == SAMPLES_MIN
    assert [size for _, _, size in store.asked] == [BLOCK_BYTES] * SAMPLES_MIN


def test_many_random_reads_miss_only_a_part_of_the_time(disk: Disk) -> None:
    store = FarStore(0.02)
    assert read_at_random(store, disk, 100) <= 40
    assert store.asked_bytes <= 1.25 * 64 * MIB  # a block twice, rather than a request more
    assert len(store.asked) <= 80


@pytest.mark.decision(15)
def test_random_reads_of_a_store_that_is_near_fetch_only_their_blocks(disk: Disk) -> None:
    store = FarStore(0.0)
    read_at_random(store, disk, 100)
    assert {size for _, _, size in store.asked} == {BLOCK_BYTES}


def test_random_reads_over_a_narrow_way_fetch_a_small_multiple(disk: Disk) -> None:
    store = FarStore(0.005, mib_sec=0.3)
    read_at_random(store, disk, 20)
    assert store.asked_bytes <= 4 * 20 * BLOCK_BYTES


def test_random_reads_through_a_small_cache_fetch_only_their_blocks(tmp_path: Path) -> None:
    store = FarStore(0.01)
    read_at_random(store, Disk(tmp_path, 100 * MIB), 30)
    assert {size for _, _, size in store.asked} == {BLOCK_BYTES}


def test_a_stream_is_not_taken_for_random_reads(disk: Disk) -> None:
    store = FarStore(0.01)
    body = blocks(4) * 16
    info, cell = store.add("key", body), PatternCell()

    async def main() -> None:
        async with reading(store, disk) as reader:
            for offset in range(0, len(body), 128 * KIB):
                await reader.read(info, offset, 128 * KIB, cell)
            await settled(reader)

    run(main)
    assert cell.sampling == Sampling()
    assert store.asked_bytes == len(body)
