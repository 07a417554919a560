"""Laws of `cache.ledger`, against a dictionary in order of use."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.cache.ledger import REMNANT_BYTES_MIN, Entry, holes, victims

names = st.integers(0, 20).map(str)
amounts = st.integers(0, 5 * REMNANT_BYTES_MIN)
entries = st.lists(
    st.builds(Entry, names, amounts, st.integers(0, 1000), st.integers(0, 1000)),
    unique_by=lambda entry: entry.name,
)
pins = st.sets(names)


@given(entries, amounts, pins)
def test_afterwards_it_fits_or_only_pinned_ones_are_left(
    found: list[Entry], bytes_max: int, pinned: set[str]
) -> None:
    chosen = victims(found, bytes_max=bytes_max, now_sec=1000, ttl_sec=500, pinned=pinned)
    left = sum(entry.bytes for entry in found) - sum(victim.bytes for victim in chosen)
    loose = {entry.name for entry in found if entry.name not in pinned and entry.bytes}
    assert left <= bytes_max or {victim.name for victim in chosen if victim.whole} == loose


@given(entries, amounts, pins)
def test_pinned_entries_are_never_chosen(
    found: list[Entry], bytes_max: int, pinned: set[str]
) -> None:
    chosen = victims(found, bytes_max=bytes_max, now_sec=1000, ttl_sec=500, pinned=pinned)
    assert not pinned & {victim.name for victim in chosen}


@given(entries, amounts)
def test_only_the_last_victim_keeps_something_and_then_a_good_part(
    found: list[Entry], bytes_max: int
) -> None:
    sizes = {entry.name: entry.bytes for entry in found}
    chosen = victims(found, bytes_max=bytes_max, now_sec=1000)
    assert all(victim.whole for victim in chosen[:-1])
    for victim in chosen:
        assert victim.whole == (victim.bytes == sizes[victim.name])
        if not victim.whole:
            assert sizes[victim.name] - victim.bytes >= REMNANT_BYTES_MIN


@given(st.lists(names, min_size=1), st.integers(0, 21))
def test_the_order_is_least_recently_used(uses: list[str], keep: int) -> None:
    model: OrderedDict[str, int] = OrderedDict()
    for at, name in enumerate(uses):
        model[name] = at
        model.move_to_end(name)
    found = [Entry(name, 1, used, 0) for name, used in model.items()]
    gone = [victim.name for victim in victims(found, bytes_max=keep, now_sec=1000)]
    assert gone == list(model)[: max(0, len(model) - keep)]


@given(entries, amounts, st.integers(0, 1000))
def test_what_was_not_validated_for_longer_than_the_ttl_goes_first(
    found: list[Entry], bytes_max: int, ttl_sec: int
) -> None:
    expired = {entry.name for entry in found if entry.validated_at_sec + ttl_sec < 1000}
    chosen = victims(found, bytes_max=bytes_max, now_sec=1000, ttl_sec=ttl_sec)
    fresh_ones = [victim.name not in expired for victim in chosen]
    assert fresh_ones == sorted(fresh_ones)
    if any(fresh_ones):
        assert expired <= {victim.name for victim in chosen} | {
            entry.name for entry in found if not entry.bytes
        }


def test_an_object_larger_than_the_cache_loses_only_what_is_too_much() -> None:
    (victim,) = victims([Entry("big", 100 << 20, 5, 5)], bytes_max=90 << 20, now_sec=6)
    assert (victim.bytes, victim.whole) == (10 << 20, False)


@given(st.sets(st.integers(0, 100)), st.none() | st.integers(0, 100), st.integers(0, 110))
def test_holes_are_so_many_present_blocks(
    present: set[int], position: int | None, count: int
) -> None:
    gone = [number for run in holes(present, position, count) for number in run]
    assert len(gone) == min(count, len(present))
    assert set(gone) <= present
    assert gone == sorted(set(gone))


@given(st.sets(st.integers(0, 100)), st.integers(0, 100), st.integers(0, 110))
def test_holes_begin_with_the_oldest_of_a_stream_and_spare_what_comes_next(
    present: set[int], position: int, count: int
) -> None:
    gone = {number for run in holes(present, position, count) for number in run}
    kept_behind = {n for n in present - gone if n < position}
    gone_behind = {n for n in gone if n < position}
    gone_ahead = {n for n in gone if n >= position}
    kept_ahead = {n for n in present - gone if n >= position}
    assert not (gone_ahead and kept_behind)
    assert not gone_behind or not kept_behind or max(gone_behind) < min(kept_behind)
    assert not gone_ahead or not kept_ahead or max(kept_ahead) < min(gone_ahead)


def test_runs_of_holes_are_joined() -> None:
    assert holes(range(10), None, 4) == [range(4)]
