"""A small run of the benchmark, real from end to end: the gateway, our mount, the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import AWSCRT, OURS, PASSTHROUGH
from bench.results import DURABLE, RETURNED, Record, by_distance, load

pytestmark = [pytest.mark.gateway, pytest.mark.mount]

SMALL = """--rtt-ms 0 --turns 1 --file-mib 8 --change-mib 8 --small-files 5 --renamed-files 3
    --source-files 4 --keys 3 --limit-sec 30 --keep-caches --peers"""


def run(folder: Path, *words: str) -> list[Record]:
    results = folder / "results.jsonl"
    command = [sys.executable, "-m", "bench.run", *SMALL.split(), f"--results={results}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [record for record in load(results)[0] if record.error]
    assert all(name in results.with_suffix(".md").read_text() for name in ("## 0 ms", "qarnotfs"))
    return load(results)[0]


def test_what_was_written_becomes_durable(tmp_path: Path) -> None:
    records = run(tmp_path, "--rows", "create", "change", "--limits", AWSCRT)
    rows = by_distance(records)[0.0]
    ours = {(row.family, row.measure): row.clients.get(OURS) for row in rows.values()}
    for family in ("create", "rm -rf", "change"):
        (returned,), (durable,) = ours[family, RETURNED] or (), ours[family, DURABLE] or ()
        assert returned.ended
        assert durable.ended
        assert returned.wall_sec <= durable.wall_sec
        assert durable.requests  # somebody must have told the bucket
    assert ours["read back", ""]
    bare = [record for record in records if record.client == AWSCRT]
    assert {record.family for record in bare} == {"create", "read back", "ls -lR cold", "rm -rf"}


def test_limits_are_measured_beside_and_runs_add_up(tmp_path: Path) -> None:
    run(tmp_path, "--rows", "write", "--limits", PASSTHROUGH)
    records = run(tmp_path, "--rows", "stat", "--limits")
    assert {(record.client, record.family) for record in records} == {
        (OURS, "write"),
        (PASSTHROUGH, "write"),
        (OURS, "stat"),
    }
