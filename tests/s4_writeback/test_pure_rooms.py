"""Extents, overlay, plan and back-off against definitions too simple to be wrong."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from s3transfer.utils import ChunksizeAdjuster

from qarnotfs.store.base import PART_BYTES_MAX, PART_BYTES_MIN, PART_COUNT_MAX
from qarnotfs.writeback.extents import Extents
from qarnotfs.writeback.overlay import Overlay
from qarnotfs.writeback.plan import (
    BURST_SEC,
    BURST_SENDS,
    BURST_TIMES,
    LULL_SEC,
    PART_BYTES,
    SEND_SEC,
    Agenda,
    Haste,
    Layers,
    Part,
    Source,
    backoff_sec,
    full_cells,
    is_temporary,
    part_bytes,
    parts,
    segments,
)

MIB = 1 << 20

ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: (min(p), max(p)))
changes = st.lists(st.one_of(ranges, st.integers(0, 60)), max_size=12)


def positions(extents: Extents) -> set[int]:
    return {at for start, end in extents for at in range(start, end)}


@given(changes)
def test_extents_are_a_set_of_positions(steps: list[tuple[int, int] | int]) -> None:
    extents, model = Extents(), set[int]()
    for step in steps:
        if isinstance(step, int):
            extents.cut(step)
            model = {at for at in model if at < step}
        else:
            extents.add(*step)
            model |= set(range(*step))
        assert positions(extents) == model
        assert extents.total == len(model)
        found = list(extents)
        assert all(start < end for start, end in found)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(found))


@given(st.lists(ranges, max_size=8), ranges)
def test_within_and_gaps_part_a_range(
    given_ranges: list[tuple[int, int]], window: tuple[int, int]
) -> None:
    extents = Extents(given_ranges)
    inside = {at for low, high in extents.within(*window) for at in range(low, high)}
    outside = {at for low, high in extents.gaps(*window) for at in range(low, high)}
    assert inside == positions(extents) & set(range(*window))
    assert outside == set(range(*window)) - inside


keys = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(st.tuples(keys.filter(bool), st.sampled_from([True, False, None])), max_size=20))
def test_overlay_is_what_the_debts_say(steps: list[tuple[str, bool | None]]) -> None:
    overlay, model = Overlay(), dict[str, bool]()
    for key, present in steps:
        if present is None:
            overlay.drop(key)
            model.pop(key, None)
        else:
            overlay.set(key, present)
            model[key] = present
    for prefix in ("", "a/", "b/", "a/b/", "a//", "/", "a/b/c/"):
        children: dict[str, bool] = {}
        for key, present in model.items():
            if key.startswith(prefix):
                first, slash, _ = key[len(prefix) :].partition("/")
                children[first + slash] = children.get(first + slash, False) or present
        assert overlay.children(prefix) == children
        assert sorted(overlay.keys_below(prefix)) == sorted(
            k for k in model if k.startswith(prefix)
        )
        if prefix:
            assert overlay.exists_below(prefix) == any(
                present for key, present in model.items() if key.startswith(prefix)
            )


@given(st.lists(ranges, max_size=6), st.integers(0, 60), st.integers(0, 60), ranges)
def test_segments_say_where_each_byte_comes_from(
    dirty: list[tuple[int, int]], base_limit: int, size: int, window: tuple[int, int]
) -> None:
    extents = Extents(dirty)
    extents.cut(size)
    layers = Layers(extents, min(base_limit, size), size)
    found = {
        at: source for source, low, high in segments(layers, *window) for at in range(low, high)
    }
    for at in range(window[0], min(window[1], size)):
        if at in positions(extents):
            assert found.pop(at) is Source.DATA
        else:
            assert found.pop(at) is (Source.BASE if at < layers.base_limit else Source.HOLE)
    assert not found


sizes = st.integers(0, 5 << 40)


@given(sizes, st.lists(st.tuples(sizes, st.integers(1, 100 * MIB)), max_size=4), sizes)
def test_parts_cover_the_file_and_keep_the_limits(
    size: int, writes: list[tuple[int, int]], base_limit: int
) -> None:
    size %= 16 << 30  # the grid of a 5 TiB file is tested below, without its parts each time
    extents = Extents(
        (start % (size or 1), start % (size or 1) + length) for start, length in writes
    )
    extents.cut(size)
    layers = Layers(extents, min(base_limit, size), size)
    plan = parts(layers)
    if plan is None:
        assert size < PART_BYTES
        return
    assert plan[0].start == 0
    assert plan[-1].end == size
    assert all(a.end == b.start for a, b in itertools.pairwise(plan))
    assert len(plan) <= PART_COUNT_MAX
    assert {part.end - part.start for part in plan[:-1]} <= {part_bytes(size)}
    for part in plan:
        unchanged = part.end <= layers.base_limit and not list(extents.within(part.start, part.end))
        assert part.copied is unchanged


def test_a_small_change_of_a_large_object_sends_one_part() -> None:
    size = 256 * MIB
    layers = Layers(Extents([(size // 2, size // 2 + 4096)]), size, size)
    plan = parts(layers)
    assert plan is not None
    assert [part for part in plan if not part.copied] == [
        Part(size // 2, size // 2 + PART_BYTES, copied=False)
    ]


def adjusted(size: int) -> int:
    """What the Qarnot SDK's uploads are cut by."""
    adjuster = ChunksizeAdjuster()
    return int(adjuster.adjust_chunksize(8 * MIB, size))


@given(sizes)
def test_the_grid_is_the_sdks(size: int) -> None:
    assert part_bytes(size) == adjusted(size)


@pytest.mark.parametrize("cells", [1, 2, 10_000, 10_001, 20_000, 20_001, 655_360])
def test_the_grid_fits_ten_thousand_parts(cells: int) -> None:
    for size in (cells * PART_BYTES - 1, cells * PART_BYTES, cells * PART_BYTES + 1):
        cell = part_bytes(size)
        assert cell == adjusted(size)
        assert -(-size // cell) <= PART_COUNT_MAX
        assert PART_BYTES_MIN <= cell <= PART_BYTES_MAX


def test_from_eight_mebibytes_on_a_file_is_sent_in_parts() -> None:
    assert parts(Layers(Extents(), 0, PART_BYTES - 1)) is None
    assert parts(Layers(Extents(), 0, PART_BYTES)) == [Part(0, PART_BYTES, copied=False)]


@given(st.lists(ranges, max_size=8), st.integers(1, 9), st.integers(0, 70))
def test_full_cells_are_written_wholly(
    given_ranges: list[tuple[int, int]], cell: int, end: int
) -> None:
    extents = Extents(given_ranges)
    expected = [
        number
        for number in range(70 // cell + 1)
        if (number + 1) * cell <= end
        and set(range(number * cell, (number + 1) * cell)) <= positions(extents)
    ]
    assert list(full_cells(extents, cell, end)) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("d/.movie.mkv.a1B2c3", True),
        ("d/movie.mkv.part", True),
        ("movie.filepart", True),
        ("movie.crdownload", True),
        ("a.tmp", True),
        ("a.txt~", True),
        ("d/.a.txt.swp", True),
        ("#a.txt#", True),
        ("movie.mkv", False),
        ("d.tmp/movie.mkv", False),
        ("part-00001.parquet", False),
        (".profile", False),
        ("", False),
    ],
)
def test_names_of_temporaries(key: str, expected: bool) -> None:
    assert is_temporary(key) is expected


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_never_spins_and_never_sleeps_too_long(attempts: int, chance: float) -> None:
    assert 0.05 <= backoff_sec(attempts, chance) <= 60


times_sec = st.integers(0, 2000).map(lambda n: n / 100)


delays_sec = st.integers(0, 200).map(lambda n: n / 100)
waiting_debts = st.lists(
    st.tuples(times_sec, st.sampled_from([*Haste][1:]), st.integers(0, BURST_SENDS + 3))
)


@given(st.integers(0, 10) | st.integers(-2000, 2000), times_sec, delays_sec, waiting_debts)
def test_what_is_due(
    ago: int, incurred_sec: float, delay_sec: float, debts: list[tuple[float, Haste, int]]
) -> None:
    """Each waits for the end of a burst, and no longer than a burst may take.

    That is five times as long where as many are being sent as may be then; after its end they may
    be the more, the longer ago that is.
    """
    now_sec = incurred_sec + ago / 100
    agenda = Agenda(now_sec, incurred_sec, delay_sec)
    full_sec, lull_sec = min(BURST_SEC, 50 * delay_sec), incurred_sec + LULL_SEC
    sends_max = BURST_SENDS + int(max(0.0, now_sec - lull_sec) / SEND_SEC)
    for not_before_sec, haste, sending in debts:
        longest_sec = 0.0 if haste is Haste.URGENT else 2 * delay_sec
        if haste is Haste.NONE:
            longest_sec = max(longest_sec, full_sec)
        if haste is Haste.NONE and sending >= sends_max:
            at_sec = not_before_sec + longest_sec + BURST_TIMES * full_sec
        else:
            at_sec = max(not_before_sec, min(lull_sec, not_before_sec + longest_sec))
        assume(not math.isclose(at_sec, now_sec, abs_tol=1e-6))  # rounding
        assert agenda.is_due(not_before_sec, haste, sending) == (at_sec < now_sec)


@given(times_sec, times_sec, delays_sec, waiting_debts, st.floats(0.01, 0.99))
def test_the_next_time_that_something_is_due(
    now_sec: float,
    incurred_sec: float,
    delay_sec: float,
    debts: list[tuple[float, Haste, int]],
    share: float,
) -> None:
    """Until then nothing is, and from one such time to the next all will be."""
    for _ in range(4 * len(debts) + 10):
        agenda = Agenda(now_sec, incurred_sec, delay_sec)
        debts = [debt for debt in debts if not agenda.is_due(*debt)]
        next_sec = agenda.next_sec()
        assert next_sec > now_sec
        if not debts:
            assert next_sec == math.inf
            return
        before_sec = now_sec + share * (next_sec - now_sec)
        if incurred_sec + LULL_SEC > before_sec or all(debt[2] < BURST_SENDS for debt in debts):
            before = Agenda(before_sec, incurred_sec, delay_sec)
            assert not any(before.is_due(*debt) for debt in debts)
        now_sec = next_sec + 1e-9  # rounding
    raise AssertionError(f"{debts} are never due")
