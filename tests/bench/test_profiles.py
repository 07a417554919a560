"""Whose the processor time is: stacks and counters become shares that add up."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from bench.profiled import Threads, kind, room, rooms
from bench.profiles import Profile, load, save, shares, table

PROFILE = Profile(
    when_sec=1.0,
    rtt_ms=20.0,
    row="read 200 files",
    amount=200,
    threads={"main": (0.4, 0.1), "awscrt": (0.2, 0.2), "worker": (0.1, 0.0)},
    samples={"trio": 60, "cache": 39, "other": 1},
)


@pytest.mark.parametrize(
    ("frame", "whose"),
    [
        ("Reader.read (qarnotfs/cache/reader.py:113)", "cache"),
        ("Operations.read (qarnotfs/operations.py:234)", "operations"),
        ("unrolled_run (trio/_core/_run.py:2866)", "trio"),
        ("capture (outcome/_impl.py:67)", "outcome"),
        ("async_wrapper.<locals>.wrapper (_pyfuse3.py:58)", "pyfuse3"),
        ("S3Client.make_request (awscrt/s3.py:702)", "awscrt"),
        ("<lambda> (<string>:1)", "other"),
        ("makedirs (<frozen os>:225)", "other"),
        ("a frame", "other"),
    ],
)
def test_whose_a_frame_is(frame: str, whose: str) -> None:
    assert room(frame) == whose


def test_only_the_main_thread_is_told_apart() -> None:
    lines = [
        "thread (1): MainThread;run (trio/_core/_run.py:1);read (qarnotfs/core/x.py:2) 7",
        "thread (1): MainThread;run (trio/_core/_run.py:1) 3",
        "thread (2): Trio thread 0;store (qarnotfs/cache/disk.py:2) 90",
    ]
    assert rooms(lines) == {"core": 7, "trio": 3}


def test_shares_add_up_to_all_of_it() -> None:
    found = shares(PROFILE)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["kernel"] == pytest.approx(0.3)
    assert found["awscrt threads"] == pytest.approx(0.2)
    assert found["trio"] == pytest.approx(0.24)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_main_thread_nobody_saw_is_named_as_a_whole() -> None:
    found = shares(PROFILE._replace(samples={}))
    assert found["main threads"] == pytest.approx(0.4)
    assert shares(PROFILE._replace(threads={})) == {}


def test_the_table_has_the_last_profile_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "profiles.jsonl"
    assert load(path) == []
    save(path, [PROFILE._replace(row="other", rtt_ms=0.0), PROFILE._replace(samples={})])
    save(path, [PROFILE])
    lines = list(table([Profile(*each) for each in load(path)]))
    assert len(lines) == 4
    assert lines[2].startswith("| other | 0 |")
    told = "kernel 30%, trio 24%, awscrt threads 20%, cache 16%, worker threads 10%"
    assert lines[3] == f"| read 200 files | 20 | 5.00 | {told} |"


def test_the_time_of_threads_is_what_they_used() -> None:
    threads, spent = Threads(os.getpid()), dict[str, tuple[float, float]]()
    deadline = time.monotonic() + 30

    def work() -> None:
        while sum(spent.get("worker", ())) < 0.1 and time.monotonic() < deadline:
            sum(range(100_000))
            spent.update(threads.spent())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert sum(spent["worker"]) >= 0.1
    assert set(spent) <= {"main", "awscrt", "worker"}


def test_threads_are_known_by_their_names() -> None:
    assert kind("python", True) == "main"
    assert kind("AwsEventLoop 2", False) == "awscrt"
    assert kind("Trio thread 3", False) == "worker"
