"""Laws of `cache.blocks`: what is fetched, and what is fetched ahead."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.cache.blocks import (
    BLOCK_BYTES,
    PART_BYTES_MAX,
    PART_BYTES_MIN,
    WINDOW_BYTES_MAX,
    WINDOW_BYTES_MIN,
    Pattern,
    PatternCell,
    Span,
    spans,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

sizes = st.integers(0, 40 * BLOCK_BYTES)
counts = st.integers(1, 40)  # of blocks
part_sizes = st.sampled_from([1, BLOCK_BYTES, 3 * BLOCK_BYTES, PART_BYTES_MAX])


@given(st.sets(st.integers(0, 45)), sizes, sizes, sizes, part_sizes)
def test_spans_are_the_missing_blocks_of_the_range(
    present: set[int], offset: int, size: int, object_size: int, part: int
) -> None:
    found = spans(present, offset, size, object_size, part)
    fetched = [number for span in found for number in span.blocks]
    wanted = {
        byte // BLOCK_BYTES
        for byte in (*range(offset, min(offset + size, object_size), BLOCK_BYTES),)
    }
    if offset < min(offset + size, object_size):
        wanted.add((min(offset + size, object_size) - 1) // BLOCK_BYTES)
    assert fetched == sorted(wanted - present)


@given(st.sets(st.integers(0, 45)), sizes, sizes, sizes, part_sizes)
def test_spans_are_whole_blocks_inside_the_object_and_small_enough(
    present: set[int], offset: int, size: int, object_size: int, part: int
) -> None:
    for span in spans(present, offset, size, object_size, part):
        assert span.start % BLOCK_BYTES == 0
        assert span.end % BLOCK_BYTES == 0 or span.end == object_size
        assert 0 < span.size <= max(part, BLOCK_BYTES)
        assert span.end <= object_size


@given(counts, counts, st.integers(0, BLOCK_BYTES - 1), st.sampled_from([BLOCK_BYTES, MIB]))
def test_what_is_cut_to_the_room_there_is_are_parts(
    size: int, room: int, more: int, part: int
) -> None:
    size, room = size * BLOCK_BYTES - more, room * BLOCK_BYTES + more
    whole = Span(3 * BLOCK_BYTES, size)
    near = whole.cut(room, part)
    assert near.start == whole.start
    if size <= room:
        assert near == whole
    else:
        assert room - part < near.size <= room
        assert near.size % part == 0


@given(st.sets(st.integers(0, 45)), sizes, sizes, sizes)
def test_neighbours_are_one_request_until_it_is_a_part(
    present: set[int], offset: int, size: int, object_size: int
) -> None:
    found = spans(present, offset, size, object_size)
    for before, after in pairwise(found):
        assert before.end < after.start or before.size == PART_BYTES_MAX


def replay(
    reads: list[tuple[int, int]], object_size: int = GIB, window_max: int = WINDOW_BYTES_MAX
) -> tuple[Pattern, list[Span | None]]:
    pattern, asked = Pattern(), []
    for offset, size in reads:
        pattern, ahead = pattern.after(offset, size, object_size, window_max)
        asked.append(ahead)
    return pattern, asked


def fetched_ahead(asked: list[Span | None]) -> int:
    return sum(span.size for span in asked if span)


def stream(start: int, count: int, size: int = 128 * KIB) -> list[tuple[int, int]]:
    return [(start + i * size, size) for i in range(count)]


def test_a_read_of_the_beginning_is_taken_for_a_stream() -> None:
    _, asked = replay([(0, 128 * KIB)])
    assert asked == [Span(BLOCK_BYTES, WINDOW_BYTES_MIN)]


def test_a_first_read_elsewhere_fetches_nothing_ahead_and_a_second_behind_it_does() -> None:
    _, asked = replay(stream(100 * MIB, 2))
    assert asked[0] is None
    assert asked[1] is not None
    assert asked[1].start == 100 * MIB + BLOCK_BYTES


def test_the_window_doubles_up_to_its_limit_and_is_never_beyond_it() -> None:
    pattern, asked = replay(stream(0, 4000))
    windows = [span.size for span in asked if span]
    assert windows[0] == WINDOW_BYTES_MIN
    assert pattern.streams[0].window == WINDOW_BYTES_MAX
    for (offset, size), span in zip(stream(0, 4000), asked, strict=True):
        if span:
            assert span.end <= offset + size + WINDOW_BYTES_MAX + BLOCK_BYTES


def test_a_stream_is_fetched_ahead_once_and_without_gaps() -> None:
    _, asked = replay(stream(0, 4000))
    requests = [span for span in asked if span]
    assert requests[0].start == BLOCK_BYTES
    for before, after in pairwise(requests):
        assert before.end == after.start


def test_nothing_beyond_the_end_is_fetched() -> None:
    size = 5 * MIB + 17
    _, asked = replay(stream(0, 40), object_size=size)
    assert max(span.end for span in asked if span) == size
    assert fetched_ahead(asked) == size - BLOCK_BYTES


@pytest.mark.parametrize("size", [4 * KIB, 128 * KIB, MIB])
@pytest.mark.parametrize("seed", range(5))
def test_reads_in_flight_that_overtake_one_another_are_a_stream(size: int, seed: int) -> None:
    """Twelve reads under way at a time, answered in any order."""
    rng = random.Random(seed)
    queue = stream(10 * MIB, 64 * MIB // size, size)
    under_way: list[tuple[int, int]] = []
    arrived: list[tuple[int, int]] = []
    while queue or under_way:
        while queue and len(under_way) < 12:
            under_way.append(queue.pop(0))
        arrived.append(under_way.pop(rng.randrange(len(under_way))))
    pattern, asked = replay(arrived)
    assert max(one.window for one in pattern.streams) >= 16 * MIB
    assert fetched_ahead(asked) >= 64 * MIB


@pytest.mark.parametrize("seed", range(5))
def test_random_reads_fetch_nothing_ahead(seed: int) -> None:
    rng = random.Random(seed)
    reads = [(rng.randrange(1, GIB // 4096) * 4096, 4096) for _ in range(500)]
    assert fetched_ahead(replay(reads)[1]) == 0


def test_random_access_collapses_the_window() -> None:
    reads = stream(0, 800)
    assert replay(reads)[0].streams[0].window == WINDOW_BYTES_MAX
    jump = [(700 * MIB, 4096), (500 * MIB, 4096), (900 * MIB, 4096), (300 * MIB, 4096)]
    pattern, asked = replay(reads + jump)
    assert all(stream.window == 0 for stream in pattern.streams)
    assert asked[-4:] == [None] * 4


def test_a_single_look_elsewhere_does_not_end_a_stream() -> None:
    reads = stream(0, 800)
    reads.insert(400, (900 * MIB, 4096))
    assert replay(reads)[0].streams[0].window == WINDOW_BYTES_MAX


@pytest.mark.parametrize("stride", [512 * KIB, MIB, 5 * MIB])
def test_strided_reads_fetch_nothing_ahead(stride: int) -> None:
    _, asked = replay([(MIB + i * stride, 128 * KIB) for i in range(1, 100)])
    assert fetched_ahead(asked) == 0


def test_a_stream_that_becomes_a_stride_stops_fetching_ahead() -> None:
    sequential = stream(0, 80)
    strided = [(20 * MIB + i * MIB, 128 * KIB) for i in range(100)]
    _, asked = replay(sequential + strided)
    assert fetched_ahead(asked[100:]) == 0


def test_a_stream_after_strides_begins_with_a_small_window_again() -> None:
    sequential = stream(0, 800)
    strided = [(120 * MIB + i * MIB, 128 * KIB) for i in range(50)]
    again = stream(169 * MIB + 128 * KIB, 40)
    _, asked = replay(sequential + strided + again)
    first = next(span for span in asked[850:] if span)
    assert first.size <= 2 * WINDOW_BYTES_MIN


def test_backward_reads_fetch_nothing_ahead() -> None:
    _, asked = replay(list(reversed(stream(MIB, 1000))))
    assert fetched_ahead(asked) == 0


def test_two_streams_on_one_handle_both_get_their_window() -> None:
    both = [
        read for pair in zip(stream(0, 500), stream(500 * MIB, 500), strict=True) for read in pair
    ]
    pattern, _ = replay(both)
    assert [s.window >= 32 * MIB for s in pattern.streams] == [True, True]


def test_what_fell_short_is_asked_for_again() -> None:
    pattern, asked = Pattern().after(0, 128 * KIB, GIB)
    assert asked is not None
    pattern = pattern.fell_short(asked.start + BLOCK_BYTES)
    _, again = pattern.after(128 * KIB, 128 * KIB, GIB)
    assert again is not None
    assert again.start == asked.start + BLOCK_BYTES


def test_bytes_lost_before_their_read_halve_the_window_which_then_grows_slowly() -> None:
    pattern, _ = replay(stream(0, 800))
    wide = pattern.streams[0].window
    pattern, asked = pattern.lost(800 * 128 * KIB).after(800 * 128 * KIB, 128 * KIB, GIB)
    assert asked is not None
    assert wide // 2 < pattern.streams[0].window <= wide * 5 // 8


def test_a_window_that_keeps_losing_shrinks_to_almost_nothing_and_recovers() -> None:
    pattern, _ = replay(stream(0, 8))
    for offset, size in stream(MIB, 40):
        pattern, _ = pattern.lost(offset).after(offset, size, GIB)
    assert pattern.streams[0].window <= BLOCK_BYTES
    for offset, size in stream(6 * MIB, 4000):
        pattern, _ = pattern.after(offset, size, GIB)
    assert pattern.streams[0].window == WINDOW_BYTES_MAX


def test_bytes_never_fetched_ahead_are_not_lost() -> None:
    pattern, _ = replay(stream(0, 8))
    assert pattern.lost(900 * MIB) == pattern
    assert Pattern().lost(0) == Pattern()


def test_a_window_limit_smaller_than_a_block_fetches_nothing_ahead() -> None:
    assert fetched_ahead(replay(stream(0, 100), window_max=BLOCK_BYTES - 1)[1]) == 0


def test_requests_grow_with_the_window() -> None:
    assert PatternCell().part_bytes_max == PART_BYTES_MIN
    assert PatternCell(replay(stream(0, 800))[0]).part_bytes_max == PART_BYTES_MAX


@given(
    st.lists(st.tuples(st.integers(0, 64 * MIB), st.integers(1, 2 * MIB)), max_size=60),
    st.integers(1, 64 * MIB),
    st.sampled_from([0, BLOCK_BYTES, 2 * MIB, WINDOW_BYTES_MAX]),
)
def test_whatever_is_read_the_bytes_ahead_are_within_the_object_and_the_window(
    reads: list[tuple[int, int]], object_size: int, window_max: int
) -> None:
    pattern = Pattern()
    for offset, size in reads:
        pattern, ahead = pattern.after(offset, size, object_size, window_max)
        if ahead:
            assert 0 < ahead.start < ahead.end <= object_size
            assert ahead.size <= window_max + 2 * BLOCK_BYTES
        for one in pattern.streams:
            assert 0 <= one.covered <= one.high - one.low
