"""A goal is met when the figures say so, and unknown when they do not tell."""

from __future__ import annotations

import pytest

from bench.goals import Met, all_met, least
from bench.reading_rows import scenarios as reading
from bench.results import Row, Took
from bench.rows import Sizes
from bench.writing_rows import scenarios as writing
from tests.bench.figures import row, runs, took

SIZES = Sizes((8,), 8, 100, 10, 10, 10, (100,))


def goals(one: Row, rtt_ms: float = 20.0) -> dict[str, Met]:
    """By their first words; that of memory, which every row has, left out."""
    found = all_met({rtt_ms: {"a row": one}})
    return {met.goal: met for met in found if not met.goal.startswith("peak RSS")}


@pytest.mark.parametrize(
    ("ours", "s3fs", "rclone", "found", "met"),
    [
        (runs(1), runs(10), runs(30), "10.0x", True),
        (runs(1), runs(30), runs(9), "9.00x", False),
        (runs(1), runs(30), [took(11, ended=False)], "> 11.0x", True),
        (runs(1), runs(30), [took(9, ended=False)], "> 9.00x", None),
        (runs(1), runs(30), [], "30.0x", True),
        (runs(1), [], [], "-", None),
        ([], runs(1), runs(1), "-", False),
        ([took(60, ended=False)], runs(1), runs(1), "-", False),
    ],
)
def test_so_many_times_the_better_of_two(
    ours: list[Took], s3fs: list[Took], rclone: list[Took], found: str, met: bool | None
) -> None:
    one = row("change", "durable", qarnotfs=ours, s3fs=s3fs, rclone=rclone)
    (told,) = goals(one).values()
    assert (told.goal, told.found, told.met) == (
        "at least 10x the better of s3fs and rclone",
        found,
        met,
    )


@pytest.mark.parametrize(
    ("awscrt", "pass_through", "bare"),
    [
        (runs(0.5), runs(0.8), "pass-through 2.50x"),  # rclone's 2 s to the slower limit
        (runs(1.6), runs(0.8), "awscrt 1.25x"),
        ([], [], "-"),
    ],
)
def test_the_slower_limit_is_beside_it(
    awscrt: list[Took], pass_through: list[Took], bare: str
) -> None:
    clients = {"qarnotfs": runs(2), "s3fs": runs(3), "rclone": runs(2)}
    limits = {"awscrt": awscrt, "pass_through": pass_through}
    (told,) = goals(row("read cold", "", 1000, **clients, **limits)).values()
    assert (told.met, told.bare) == (False, bare)


def test_what_is_done_again_is_no_limit_of_who_keeps_nothing() -> None:
    one = row("read again", qarnotfs=runs(1), s3fs=runs(2), awscrt=runs(4), pass_through=runs(0.5))
    told = goals(one)["at least 1x the better of s3fs and rclone"]
    assert told.bare == "pass-through 4.00x"


def test_what_a_request_costs_without_a_file_system_is_beside_it() -> None:
    each = took(1)._replace(cpu_sec=0.2, requests=100)
    bare = took(1)._replace(cpu_sec=0.03, requests=100)
    one = row("create", "durable", amount=50, qarnotfs=[each], awscrt=[bare])
    told = goals(one)["client's CPU at most 0.5 ms per request, or file where they are more"]
    assert (told.found, told.bare) == ("2.00 ms", "awscrt 0.30 ms")


def test_a_goal_is_of_one_measure_at_one_distance() -> None:
    durable = row("change", "durable", qarnotfs=runs(1), s3fs=runs(5), rclone=runs(5))
    returned = durable._replace(measure="returned")
    assert not goals(returned, 20.0)
    assert not goals(durable, 0.0)
    (told,) = goals(returned, 0.0).values()
    assert told.goal.startswith("at least 1x")


def test_a_read_from_the_local_cache_is_near_a_bare_pass_through() -> None:
    for ours, found, met in ((2.0, "0.500", False), (1.0, "1.00", True)):
        one = row("read remounted", qarnotfs=runs(ours), pass_through=runs(1))
        told = goals(one)["at least 0.8 of a bare pass-through's speed"]
        assert (told.found, told.met) == (found, met)


def test_cpu_is_counted_by_request_or_file() -> None:
    for requests, files, found, met in (
        (3, 1000, "0.50 ms", True),
        (3, 100, "5.00 ms", False),
        (2000, 100, "0.25 ms", True),
    ):
        ours = [Took(1, cpu_sec=0.5, peak_mib=70, requests=requests)]
        (told,) = (
            met
            for goal, met in goals(row("small cold", amount=files, qarnotfs=ours)).items()
            if "CPU" in goal
        )
        assert (told.found, told.met) == (found, met)


def test_stat_answers_at_once() -> None:
    for sec, met in ((0.0049, True), (0.0051, False)):
        (told,) = goals(row("stat", qarnotfs=runs(sec))).values()
        assert (told.goal, told.met) == ("below 5 ms", met)


def test_memory_is_that_of_the_worst_row() -> None:
    much = [Took(1, peak_mib=301)]
    rows = {"little": row("write", qarnotfs=runs(1)), "much": row("write", qarnotfs=much)}
    (told,) = (met for met in all_met({0.0: rows}) if met.goal.startswith("peak RSS"))
    assert (told.row, told.found, told.met) == ("much", "301 MiB", False)


def test_every_family_that_a_goal_names_is_measured() -> None:
    from bench import goals as module

    everything = *reading(SIZES), *writing(SIZES)
    families = {step.family for scenario in everything for step in scenario.steps}
    named = {family for goal in module.GOALS for family in goal.families}
    assert named | {*module.BARE, *module.REQUESTS, "stat"} <= families


def test_a_peer_is_given_time_until_we_are_beyond_the_goal() -> None:
    assert (least("create"), least("write"), least("untar")) == (10, 1.2, 0)
