"""Plans carried out on a bucket that is a dict, in every order they allow."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qarnotfs.syncplan import (
    MIB,
    OTHER_PART_BYTES,
    PART_BYTES,
    Content,
    Plan,
    directories_of,
    grids,
    part_bytes,
    plan,
    question,
    questions,
    unholdable,
    unstorable,
    usual_grid,
)
from qarnotfs.writeback import plan as writeback

NAMES = ["a", "ab/x", "b", "a/x", "a/y", "a/b/x", "a/b/y", "c"]
names = st.sampled_from(NAMES)
contents = st.builds(Content, st.just(1), st.sampled_from(["p", "q", "r"]))
unasked = st.builds(Content, st.integers(2, 4), st.none())
buckets = st.dictionaries(names, contents, max_size=8)
trees = st.dictionaries(names, st.one_of(contents, contents, unasked), max_size=8)


def carried_out(
    steps: Plan, wanted: dict[str, Content], stored: dict[str, Content], chance: Random
) -> dict[str, Content]:
    """The bucket afterwards; within a step, requests arrive in any order."""
    bucket = dict(stored)

    def copy(wave: list[tuple[str, str]]) -> None:
        for source, target in chance.sample(wave, len(wave)):
            assert bucket[source] == wanted[target], "a copy of something else"
            bucket[target] = bucket[source]

    for wave in steps.copies:
        copy(list(wave))
    for name in chance.sample(steps.uploads, len(steps.uploads)):
        bucket[name] = wanted[name]
    copy(list(steps.late_copies))
    for name in steps.deletes:
        del bucket[name]
    return bucket


@given(trees, buckets, st.randoms(use_true_random=False))
def test_a_plan_makes_both_sides_equal(
    wanted: dict[str, Content], stored: dict[str, Content], chance: Random
) -> None:
    assert carried_out(plan(wanted, stored), wanted, stored, chance) == wanted


@given(trees, buckets, st.randoms(use_true_random=False))
def test_nothing_is_done_twice_or_without_need(
    wanted: dict[str, Content], stored: dict[str, Content], chance: Random
) -> None:
    steps = plan(wanted, stored)
    copied = [copy.target for wave in (*steps.copies, steps.late_copies) for copy in wave]
    written = [*copied, *steps.uploads]
    assert sorted([*written, *steps.unchanged]) == sorted(wanted)
    assert all(stored.get(name) != wanted[name] for name in written)
    sent = [wanted[name] for name in steps.uploads if wanted[name].etag is not None]
    assert len(sent) == len(set(sent)), "the same bytes were uploaded twice"
    kept = {content for name, content in stored.items() if wanted.get(name, content) == content}
    assert kept.isdisjoint(sent), "uploaded although it was there to be copied"


@given(buckets)
@example({})
def test_equal_sides_give_an_empty_plan(stored: dict[str, Content]) -> None:
    assert plan(stored, stored) == Plan((), (), (), (), tuple(stored))


@given(trees, buckets, st.sampled_from(["", "a/", "a/b/"]), st.sets(names))
def test_only_what_is_under_the_directory_is_deleted(
    wanted: dict[str, Content], stored: dict[str, Content], under: str, kept: set[str]
) -> None:
    steps = plan(wanted, stored, under=under, is_kept=kept.__contains__)
    doomed = {name for name in stored if name.startswith(under)} - wanted.keys() - kept
    assert set(steps.deletes) == doomed
    assert plan(wanted, stored, under=under, delete=False).deletes == ()


P, Q, R = (Content(1, etag) for etag in "pqr")


def test_names_that_swap_cost_one_upload() -> None:
    steps = plan({"a": Q, "b": P}, {"a": P, "b": Q})
    assert (len(steps.copies), len(steps.uploads), steps.late_copies) == (1, 1, ())


def test_a_rotation_is_copied_from_its_end() -> None:
    steps = plan({"1": R, "2": P, "3": Q}, {"1": P, "2": Q})
    assert steps.copies == ((("2", "3"),), (("1", "2"),))
    assert steps.uploads == ("1",)


def test_a_source_that_stays_is_preferred_to_one_that_goes() -> None:
    steps = plan({"a": Q, "b": P}, {"a": P, "c": P})
    assert steps.copies == ((("c", "b"),),)
    assert (steps.uploads, steps.deletes) == (("a",), ("c",))


# --- contents ------------------------------------------------------------------------------


def etag(data: bytes, grid: int) -> str:
    """S3's etag, by its definition."""
    if not grid:
        return hashlib.md5(data).hexdigest()
    parts = [data[at : at + grid] for at in range(0, len(data), grid)]
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(joined).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 1])
@pytest.mark.parametrize("grid", [0, PART_BYTES, 5 * MIB, 15 * MIB])
def test_a_file_is_known_by_any_usual_etag(size: int, grid: int) -> None:
    data, other = bytes(size), b"x" * size
    if not size:
        grid = 0  # nothing cannot be cut
    said = etag(data, grid)
    assert question(size, said).answer(lambda grid: etag(data, grid)) == said
    if size:
        assert question(size, said).answer(lambda grid: etag(other, grid)) == etag(
            other, usual_grid(size)
        )


@given(st.integers(1, 5 << 40), st.sampled_from([PART_BYTES, *OTHER_PART_BYTES]))
def test_the_part_size_is_among_those_tried(size: int, grid: int) -> None:
    assert grid in grids(size, f"{'0' * 32}-{-(-size // grid)}") or grid == PART_BYTES
    assert part_bytes(size) in grids(size, f"{'0' * 32}-{-(-size // part_bytes(size))}")


@given(st.integers(0, 5 << 40))
def test_both_ways_into_the_bucket_cut_alike(size: int) -> None:
    assert part_bytes(size) == writeback.part_bytes(size)
    assert PART_BYTES == writeback.PART_BYTES


def test_only_files_whose_size_leaves_a_question_are_read() -> None:
    stored = {"a": Content(1, "p"), "z": Content(2, "q")}
    asked = questions({"a": 1, "new": 2, "alone": 7, "twin": 8, "twin2": 8, "b": 9}, stored)
    assert asked.keys() == {"a", "new", "twin", "twin2"}
    assert (asked["a"].own, asked["new"].own) == ("p", None)
    assert list(asked["new"].known) == ["q"]
    assert questions({"a": 3}, stored) == {}


def test_the_own_object_decides_before_others_of_the_same_content() -> None:
    data = bytes(2 * PART_BYTES)
    parts, whole = etag(data, PART_BYTES), etag(data, 0)
    stored = {"a": Content(len(data), whole), "b": Content(len(data), parts)}
    asked = questions({"a": len(data), "b": len(data), "c": len(data)}, stored)
    answers = {name: ask.answer(lambda grid: etag(data, grid)) for name, ask in asked.items()}
    assert answers == {"a": whole, "b": parts, "c": parts}


def test_a_file_that_is_as_the_sdk_sent_it_is_read_once() -> None:
    data, passes = bytes(4 * PART_BYTES), list[int]()

    def etag_of(grid: int) -> str:
        passes.append(grid)
        return etag(data, grid)

    stored = {"a": Content(len(data), etag(data, PART_BYTES)), "b": Content(len(data), "0" * 32)}
    questions({"a": len(data)}, stored)["a"].answer(etag_of)
    assert passes == [PART_BYTES]


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a//b", "a/", ".", "..", "../../etc/passwd", "a/../b", "a\0", "é" * 128, "x" * 256],
)
def test_names_no_directory_can_hold(name: str) -> None:
    assert unholdable(name)


@pytest.mark.parametrize("name", ["a", "a/b", "...", " ", "a\nb", "é" * 127, "x" * 255])
def test_names_a_directory_can_hold(name: str) -> None:
    assert unholdable(name) is None


def test_names_no_bucket_can_have() -> None:
    assert unstorable("a\udcff")
    assert unstorable("é" * 513)
    assert unstorable("é" * 512) is None


@given(st.lists(st.text("ab/", min_size=1, max_size=6)))
def test_directories_are_what_is_before_a_slash(names: list[str]) -> None:
    expected = {name[:at] for name in names for at in range(len(name)) if name[at] == "/"}
    assert directories_of(names) == expected - {""}
