"""Medians and ratios claim nothing beyond what was measured."""

from __future__ import annotations

import pytest

from bench.compared import Seconds, ratio, seconds, significant, verdict
from bench.results import Took
from tests.bench.figures import runs, took


def test_seconds_are_medians() -> None:
    assert seconds(runs(9, 1, 2)) == Seconds(2, exact=True)


def test_one_that_was_stopped_took_at_least_so_long() -> None:
    assert seconds([took(5), took(20, ended=False)]) == Seconds(20, exact=False)


def test_one_that_failed_took_no_time_at_all() -> None:
    assert seconds([]) is None


def test_a_ratio_above_one_says_that_we_are_faster() -> None:
    assert ratio(Seconds(6, exact=True), Seconds(2, exact=True)) == Seconds(3, exact=True)


def test_a_peer_that_was_stopped_is_slower_than_its_ratio() -> None:
    assert str(ratio(Seconds(6, exact=False), Seconds(2, exact=True))) == "> 3.00"


def test_nobody_is_compared_with_what_we_did_not_finish() -> None:
    assert ratio(Seconds(6, exact=True), Seconds(2, exact=False)) is None
    assert ratio(None, Seconds(2, exact=True)) is None
    assert ratio(Seconds(6, exact=True), None) is None


@pytest.mark.parametrize(
    ("ours", "s3fs", "rclone", "said"),
    [
        (runs(1), runs(2), runs(3), "yes"),
        (runs(1), runs(2), [took(3, ended=False)], "yes"),
        (runs(1), runs(2), [], "yes, of those that did it"),
        (runs(2), runs(3), runs(1), "**no**"),
        (runs(2), runs(3), runs(2), "**no**"),
        ([], runs(2), runs(3), "**no**"),
        (runs(1), [], [], "-"),
        (runs(3), runs(4), [took(2, ended=False)], "-"),
        ([took(9, ended=False)], runs(1), runs(1), "**no**"),
    ],
)
def test_whether_we_are_ahead(
    ours: list[Took], s3fs: list[Took], rclone: list[Took], said: str
) -> None:
    taken = seconds(ours)
    assert verdict([ratio(seconds(peer), taken) for peer in (s3fs, rclone)], taken) == said


def test_figures_have_three_digits_that_say_something() -> None:
    told = [significant(figure) for figure in (1234.5, 56.78, 1.234, 0.1234, 0.01234)]
    assert told == ["1234", "56.8", "1.23", "0.123", "0.0123"]
