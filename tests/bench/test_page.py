"""The benchmark's page says what was measured, and claims nothing beyond."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.goals import Met
from bench.growth import Point, at, growth, points
from bench.page import goal_table, page, table
from bench.results import Row, Setting, Took
from tests.bench.figures import row, runs, took

PEERS = ("s3fs", "rclone")
SETTING = Setting("a run", "3.11", 2, 0.5, True, 2.0, 120.0, {"qarnotfs": "1"}, [])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def told(one: Row) -> list[str]:
    """What the table says of one row, its name left out."""
    *_, line = table({"a row": one}, PEERS)
    return cells(line)[1:]


def test_a_row_of_the_table() -> None:
    one = row(
        "read cold",
        qarnotfs=runs(0.5, 0.25, 0.125),
        s3fs=runs(0.5),
        rclone=[Took(60, ended=False)],
        disk=runs(0.1),
        pass_through=runs(0.2),
    )
    assert told(one) == [
        "3",
        "0.250, 0.500, > 60.0",
        "**2.00**",
        "**> 240**",
        "pass-through 0.200, disk 0.100",
        "3, 3, -",
        "0.50, 0.50, -",
        "70, 70, -",
        "yes",
    ]


def test_a_row_in_which_a_peer_failed() -> None:
    assert told(row("read cold", qarnotfs=runs(0.01), s3fs=[], rclone=runs(0.02))) == [
        "1",
        "0.0100, -, 0.0200",
        "-",
        "**2.00**",
        "-",
        "3, -, 3",
        "0.50, -, 0.50",
        "70, -, 70",
        "yes, of those that did it",
    ]


def test_every_line_has_every_column() -> None:
    for peers in (PEERS, PEERS[:1], ()):
        lines = list(table({"a": row("write", qarnotfs=runs(1)), "b": row("write")}, peers))
        assert len(lines) == 4
        assert len({len(cells(line)) for line in lines}) == 1


def test_goals_that_are_not_met_come_first() -> None:
    lines = list(
        goal_table([Met("goal", name, 20, "1x", met) for name, met in (("a", True), ("b", False))])
    )
    assert lines[0] == "1 of 2 are met."
    assert [cells(line)[1] for line in lines[4:]] == ["b", "a"]
    assert [cells(line)[4] for line in lines[4:]] == ["**not met**", "met"]


def test_a_page_has_every_distance_goal_and_run() -> None:
    rows = {"a row": row("write", "durable", qarnotfs=runs(1), s3fs=runs(2), geesefs=runs(3))}
    text = page({0.0: rows, 20.0: rows}, [SETTING], ["results-0ms.png"])
    for part in ("of 0 and of 20 ms", "## 0 ms", "## 20 ms", "![results-0ms]", "2.00x", "a run"):
        assert part in text
    assert "seconds: qarnotfs, s3fs, geesefs |" in text


def test_cost_grows_from_the_smallest_size_to_the_largest() -> None:
    rows = {
        "b": row("write", "durable", 4096, qarnotfs=runs(40)),
        "a": row("write", "durable", 1024, qarnotfs=runs(12, 10, 11)),
        "c": row("write", "durable", 9999, qarnotfs=[took(600, ended=False)]),
        "d": row("write", "returned", 1024, qarnotfs=runs(1)),
    }
    assert points(rows, "write", "qarnotfs") == [Point(1024, 11, 70, 3), Point(4096, 40, 70, 3)]
    assert "| write | 20 | 1024, 4096 MiB | 11.0, 40.0 | 70, 70 | 3, 3 |" in growth({20.0: rows})


def test_a_line_goes_through_the_two_largest_sizes() -> None:
    known = [Point(1, 9, None, None), Point(10, 1, None, None), Point(20, 3, None, None)]
    assert at(known, 40) == 7
    assert at(known[:1], 40) is None


def test_plots_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with .[bench]")
    from bench.plots import draw

    stopped = [took(600, ended=False)]
    rows = {
        name: row("write", "durable", amount, qarnotfs=runs(amount / 9), s3fs=peers, rclone=[])
        for name, amount, peers in (("little", 100, runs(50)), ("much", 1000, stopped))
    }
    made = draw({0.0: {}, 20.0: rows}, tmp_path / "results.jsonl")
    assert [path.name for path in made] == ["results-20ms.png", "results-write-20ms.png"]
    for path in made:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert "qarnotfs" in path.with_suffix(".svg").read_text()
