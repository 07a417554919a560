"""Runs of parts of the benchmark add up, and their figures are never mixed."""

from __future__ import annotations

from pathlib import Path

from bench.results import Setting, append, by_distance, latest, load
from tests.bench.figures import record, took

SETTING = Setting("a run", "3.11", 2, 0.5, True, 2.0, 120.0, {"qarnotfs": "1"}, ["--attrs=listing"])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    records = [record("qarnotfs", 1.5), record("s3fs", None)]
    append(path, SETTING)
    for one in records:
        append(path, one)
    assert load(path) == (records, {"a run": SETTING})


def test_turns_of_a_row_come_together() -> None:
    found = by_distance([record("qarnotfs", 1), record("s3fs", 5), record("qarnotfs", 2)])
    assert list(found) == [20.0]
    row = found[20.0]["a row, durable"]
    assert (row.family, row.amount, row.measure) == ("create", 6400, "durable")
    assert row.clients == {"qarnotfs": [took(1), took(2)], "s3fs": [took(5)]}


def test_a_client_that_failed_was_there() -> None:
    assert by_distance([record("s3fs", None)])[20.0]["a row, durable"].clients == {"s3fs": []}


def test_the_smallest_distance_comes_first() -> None:
    near = record("qarnotfs", 1)._replace(rtt_ms=0.0)
    assert list(by_distance([record("qarnotfs", 1), near])) == [0.0, 20.0]


def test_rows_of_several_runs_add_up() -> None:
    records = [record("qarnotfs", 1, run="a"), record("qarnotfs", 2, run="b", name="another row")]
    assert latest(records) == records


def test_a_row_that_is_measured_again_is_replaced_as_a_whole() -> None:
    old = [record("qarnotfs", 1, run="a"), record("s3fs", 2, run="a")]
    new = [record(one.client, 3, run="b", when_sec=9) for one in old]
    assert latest([*old, *new]) == new
    assert latest([*new, *old]) == new


def test_a_run_of_ours_alone_does_not_forget_the_peers() -> None:
    beside = [record("qarnotfs", 1, run="a"), record("s3fs", None, run="a")]
    alone = [record("qarnotfs", 3, run="b", when_sec=9), record("disk", 1, run="b", when_sec=9)]
    assert latest([*beside, *alone]) == beside
