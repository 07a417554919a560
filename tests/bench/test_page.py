"""The reading benchmark's page says what was measured, and claims nothing beyond."""

from __future__ import annotations

import pytest

from bench.reading_page import LIMIT, OURS, Run, Seconds, goal, ratio, seconds, table, verdict

PEERS = ("s3fs", "rclone")


def run(sec: float, *, ended: bool = True) -> Run:
    return Run(sec, cpu_sec=0.5, peak_mib=70.0, requests=3, ended=ended)


def runs(*secs: float) -> list[Run]:
    return [run(sec) for sec in secs]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def row(**clients: list[Run]) -> list[str]:
    """What the table says of one row, its name left out."""
    *_, line = table({"a row": clients}, PEERS)
    return cells(line)[1:]


def test_seconds_are_medians() -> None:
    assert seconds(runs(9, 1, 2)) == Seconds(2, exact=True)


def test_one_that_was_stopped_took_at_least_so_long() -> None:
    assert seconds([run(5), run(20, ended=False)]) == Seconds(20, exact=False)


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
        (runs(1), runs(2), [run(3, ended=False)], "yes"),
        (runs(1), runs(2), [], "yes, of those that did it"),
        (runs(2), runs(3), runs(1), "**no**"),
        (runs(2), runs(3), runs(2), "**no**"),
        ([], runs(2), runs(3), "**no**"),
        (runs(1), [], [], "-"),
        (runs(3), runs(4), [run(2, ended=False)], "-"),
        ([run(9, ended=False)], runs(1), runs(1), "**no**"),
    ],
)
def test_whether_we_are_ahead(
    ours: list[Run], s3fs: list[Run], rclone: list[Run], said: str
) -> None:
    taken = seconds(ours)
    assert verdict([ratio(seconds(peer), taken) for peer in (s3fs, rclone)], taken) == said


def test_a_row_of_the_table() -> None:
    assert row(qarnotfs=runs(0.5, 0.25, 0.125), s3fs=runs(0.5), rclone=[run(60, ended=False)]) == [
        "3",
        "0.250, 0.500, > 60.0",
        "**2.00**",
        "**> 240**",
        "3, 3, 3",
        "0.50, 0.50, -",
        "70, 70, -",
        "yes",
    ]


def test_a_row_in_which_a_peer_failed() -> None:
    assert row(qarnotfs=runs(0.01), s3fs=[], rclone=runs(0.02)) == [
        "1",
        "0.0100, -, 0.0200",
        "-",
        "**2.00**",
        "3, -, 3",
        "0.50, -, 0.50",
        "70, -, 70",
        "yes, of those that did it",
    ]


def test_every_line_has_every_column() -> None:
    for peers in (PEERS, PEERS[:1], ()):
        lines = list(table({"a": {OURS: runs(1)}, "b": {}}, peers))
        assert len(lines) == 4
        assert len({len(cells(line)) for line in lines}) == 1


def test_the_goal_is_a_fraction_of_the_pass_through() -> None:
    assert "**0.50** of its speed; the goal of 0.8 is **not met**" in goal(
        {OURS: runs(2), LIMIT: runs(1)}
    )
    assert "**0.90** of its speed; the goal of 0.8 is met" in goal(
        {OURS: runs(1), LIMIT: runs(0.9)}
    )
    assert goal({OURS: runs(1)}) == "1.00 s, bare pass-through - s: no fraction."
