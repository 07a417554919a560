"""Stress: one file at random, many names by many programs, appends, locks, commits and kills."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fsx import Exerciser
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import COMMAND_SEC_MAX, Mount, run
from tests.s5_mount.pairs import Pair

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STRESSER = Path(__file__).parents[1] / "stresser.py"
PROGRAMS = 4
STEPS = 250
COUNTS = 60

APPENDS = """if True:
    import os, sys
    path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    one, two = (os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(2))
    for number in range(count):
        line = f"{who} {number} ".ljust(50 + number * 7, ".") + "\\n"
        os.write(one if number % 3 else two, line.encode())
"""
# Each way to be alone with a file; `count` reads the number in it and writes the next.
COUNTS_ALONE = """if True:
    import fcntl, os, sys
    path, how, times = sys.argv[1], sys.argv[2], int(sys.argv[3])

    def count():
        with open(path, "r+b", buffering=0) as file:
            number = int(file.read())
            file.seek(0)
            file.write(b"%d" % (number + 1))

    def by_exclusive_creation():
        while True:
            try:
                descriptor = os.open(path + ".lock", os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            count()
            os.close(descriptor)
            return os.unlink(path + ".lock")

    def by_lock(lock):
        with open(path, "r+b") as file:
            lock(file, fcntl.LOCK_EX)
            count()
            lock(file, fcntl.LOCK_UN)

    def by_range():
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)
            with open(path + ".apart", "r+b", buffering=0) as apart:
                number = int(apart.read())
                apart.seek(0)
                apart.write(b"%d" % (number + 1))

    ways = {
        "creation": by_exclusive_creation,
        "flock": lambda: by_lock(fcntl.flock),
        "range": by_range,
    }
    for _ in range(times):
        ways[how]()
"""
LINES = 8
JOURNALS = ["delete", "truncate", "persist"]  # what becomes of it after each transaction
CREATE = """
    create table entry(id integer primary key, body);
    create table total(sum);
    insert into total values (0)
"""
COMMITS = """if True:
    import sqlite3, sys
    database = sqlite3.connect(sys.argv[1], isolation_level=None)
    database.execute("pragma journal_mode = " + sys.argv[2])
    database.execute("pragma cache_size = 3")  # pages are written before the end
    number = database.execute("select count(*) from entry").fetchone()[0]
    while True:
        number += 1
        database.execute("begin immediate")
        database.execute("insert into entry values (?, zeroblob(9000))", (number,))
        database.execute("update total set sum = sum + ?", (number,))
        database.execute("commit")
        print(number, flush=True)
"""


def together(commands: Sequence[Sequence[str | Path]]) -> list[str]:
    """What programs that run at the same time complain of."""
    running = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
    try:
        return [program.communicate(timeout=COMMAND_SEC_MAX)[1] for program in running]
    finally:
        for program in running:
            program.kill()
            program.wait()


def python(script: str | Path, *arguments: str | Path | int) -> list[str | Path]:
    isolated = [sys.executable, "-I"]
    return [*isolated, *(["-c"] if isinstance(script, str) else []), script, *map(str, arguments)]


# --- one file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_one_file_at_random(pair: Pair, seed: int) -> None:
    path = pair.mount.path / f"file-{seed}"
    exerciser = Exerciser(path, seed, 1_000_000, between=[pair.mount.flush])
    exerciser.run(1000)
    assert pair.elsewhere(path).read_bytes() == exerciser.model


def test_one_large_file_at_random(pair: Pair) -> None:
    """That is sent in parts, and in parts again after each change."""
    path, body = pair.mount.path / "large", random.Random(3).randbytes(30_000_000)
    path.write_bytes(body)
    pair.mount.flush()
    exerciser = Exerciser(path, 3, 40_000_000, piece_bytes=3_000_000, content=body)
    exerciser.run(100)
    assert pair.elsewhere(path).read_bytes() == exerciser.model


def test_one_file_at_random_when_nothing_is_cached(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    """Each life begins with a file of which only the bucket has anything."""
    content: bytearray | None = None
    for seed in range(2):
        mount = mounts("--upload-delay", "0", "--cache-size", "1M")
        path = mount.path / "file"
        exerciser = Exerciser(path, seed, 1_500_000, content=content)
        exerciser.run(250)
        mount.unmount()
        content = exerciser.model
        assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == content


@pytest.mark.parametrize("how", ["psync", "mmap", "direct"])
def test_mixed_reads_and_writes_verified(pair: Pair, how: str, tmp_path: Path) -> None:
    engine = ["--ioengine=psync", "--direct=1"] if how == "direct" else [f"--ioengine={how}"]
    job = ["--name=job", "--rw=randrw", "--rwmixread=60", "--bsrange=4k-64k", "--size=4m", *engine]
    job += ["--numjobs=2", "--verify=crc32c", "--verify_fatal=1", "--randseed=7", "--fsync=100"]
    top = pair.mount.path / how
    top.mkdir()
    run("fio", *job, f"--directory={top}", cwd=tmp_path)
    assert sorted(os.listdir(top)) == ["job.0.0", "job.1.0"]
    run("fio", *job, "--verify_only", f"--directory={pair.elsewhere(top)}", cwd=tmp_path)


# --- many programs --------------------------------------------------------------------------------


def test_names_at_random_by_several_programs(pair: Pair, tmp_path: Path) -> None:
    top = pair.mount.path / "names"
    for place in (top, tmp_path):
        for name in ("shared", *map(str, range(PROGRAMS))):
            (place / name).mkdir(parents=True)
    places = [(top / str(n), tmp_path / str(n), top / "shared", n, STEPS) for n in range(PROGRAMS)]
    assert together([python(STRESSER, *place) for place in places]) == [""] * PROGRAMS
    run("cp", "-a", top / "shared", tmp_path)
    pair.compare(top, tmp_path)


def test_appends_of_several_programs(pair: Pair) -> None:
    path, count = pair.mount.path / "log", 60
    assert together([python(APPENDS, path, who, count) for who in range(PROGRAMS)]) == [""] * 4
    text = pair.elsewhere(path).read_text()
    assert path.read_text() == text
    lines = [line.split(" ", 2) for line in text.splitlines()]
    for who in range(PROGRAMS):
        assert [int(line[1]) for line in lines if line[0] == str(who)] == list(range(count))
    numbers = [(who, number) for who in range(PROGRAMS) for number in range(count)]
    expected = [f"{who} {number} ".ljust(50 + number * 7, ".") for who, number in numbers]
    assert sorted(text.splitlines()) == sorted(expected)


@pytest.mark.parametrize("how", ["creation", "flock", "range"])
def test_programs_that_count_alone(pair: Pair, how: str) -> None:
    path = pair.mount.path / f"count-{how}"
    counted = path.with_name(path.name + (".apart" if how == "range" else ""))
    path.write_text("0")
    counted.write_text("0")
    commands = [python(COUNTS_ALONE, path, how, COUNTS) for _ in range(PROGRAMS)]
    assert together(commands) == [""] * PROGRAMS
    assert counted.read_text() == str(PROGRAMS * COUNTS)
    assert pair.elsewhere(counted).read_text() == str(PROGRAMS * COUNTS)


# --- databases that are killed ------------------------------------------------------------------


def committed(path: Path) -> int:
    """How many transactions it holds; it must be whole."""
    database = sqlite3.connect(path)
    try:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        figures = "select count(*), max(id), sum(id) from entry"
        count, highest, total = database.execute(figures).fetchone()
        assert count == (highest or 0)
        assert database.execute("select sum from total").fetchone() == (total or 0,)
        return int(count)
    finally:
        database.close()


def commit_until_killed(mount: Mount, kill: Callable[[], object]) -> dict[str, int]:
    """The last transaction of each program that it was told is committed."""
    commands = [python(COMMITS, mount.path / journal, journal) for journal in JOURNALS]
    programs = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    said: list[str] = []
    try:
        for program in programs:
            assert program.stdout
            said.append("".join(program.stdout.readline() for _ in range(LINES)))
        kill()
    finally:
        for program in programs:
            program.kill()
        rest = [program.communicate()[0] for program in programs]
    return {
        journal: int((before + after).split()[-1])
        for journal, before, after in zip(JOURNALS, said, rest, strict=True)
    }


def test_killed_databases_have_what_they_committed(mounts: Mounts) -> None:
    """Programs are killed in the middle of transactions; the mount lives, or dies with them."""
    mount = mounts("--upload-delay", "0")
    for journal in JOURNALS:
        run("sqlite3", mount.path / journal, CREATE)
    for kill in (lambda: None, mount.kill9):
        promised = commit_until_killed(mount, kill)
        if kill == mount.kill9:
            mount.start([], {})
        for journal in JOURNALS:
            assert committed(mount.path / journal) - promised[journal] in (0, 1), journal


def test_databases_of_a_machine_that_is_lost(mounts: Mounts) -> None:
    """What the bucket has is whole; SQLite does not wait for the removal of its journal."""
    mount = mounts()
    for journal in JOURNALS:
        run("sqlite3", mount.path / journal, CREATE)
    promised = commit_until_killed(mount, mount.kill9)
    again = mounts()  # with a cache of its own
    for journal in JOURNALS:
        lost = (0, 1, -1) if journal == "delete" else (0, 1)
        assert committed(again.path / journal) - promised[journal] in lost, journal
