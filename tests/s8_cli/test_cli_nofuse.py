"""``qarnotfs run --no-fuse``: what a mount would show is copied in, and what changed goes back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import FaultProxy
from tests.rgw import RGW, Gateway
from tests.s5_mount.mounting import PROGRAM, Cli, Done, bucket_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


class Job:
    """A script that finds the bucket in its working directory."""

    def __init__(self, cli: Cli, bucket: str, path: Path, s3: S3Client) -> None:
        self.bucket, self.path, self._cli, self._s3 = bucket, path, cli, s3

    def __call__(self, script: str, *options: str, mode: str = "", fuse: bool = False) -> Done:
        way = ["--cache-dir", str(self.path.parent / "cache")] if fuse else ["--no-fuse"]
        words = [*way, *options, f"{self.bucket}:{self.path}{mode}"]
        return self._cli("run", *words, "--", "sh", "-c", f"cd {self.path} && {script}")

    def put(self, key: str, body: bytes = b"1", **metadata: str) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)

    def body(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        return bucket_keys(self._s3, self.bucket)

    def metadata(self, key: str) -> dict[str, str]:
        return self._s3.head_object(Bucket=self.bucket, Key=key)["Metadata"]


@pytest.fixture
def job(cli: Cli, bucket: str, tmp_path: Path, s3: S3Client) -> Job:
    return Job(cli, bucket, tmp_path / "work", s3)


LOOK = "find . ! -name . -printf '%P %y %m %s %l %Ts\\n' | sort"


def test_programs_see_what_a_mount_would_show(job: Job) -> None:
    """Names with their escapes, permissions, times, links, directories."""
    regular, link = str(stat.S_IFREG | 0o750), str(stat.S_IFLNK | 0o777)
    job.put("run.sh", b"#!/bin/sh\n", mode=regular, mtime="1700000000")
    job.put("to-run", b"run.sh", mode=link, mtime="1700000000")
    job.put("large", os.urandom(9 << 20), mode=regular, mtime="1700000001")
    for key in ("a", "a/b//c", "a/../d", "100%"):
        job.put(key, mode=regular, mtime="1700000002")
    job.put("empty/", b"")
    mounted, staged = (
        job(f"{LOOK} | grep -v '^[^ ]* d'", fuse=fuse).ok() for fuse in (True, False)
    )
    assert mounted.out.count("\n") == 7
    assert [line for line in staged.out.splitlines() if " l " not in line] == [
        line for line in mounted.out.splitlines() if " l " not in line
    ]
    assert job("readlink to-run && ./to-run && ls -d */", fuse=False).out.split() == [
        "run.sh",
        "a/",
        "empty/",
    ]


def test_only_what_changed_goes_back(job: Job, gateway: Gateway) -> None:
    for key in ("same", "changed", "gone", "dir/gone", "moved"):
        job.put(key, key.encode())
    mark = gateway.mark()
    script = (
        "echo new > changed; rm -r gone dir; mv moved there; mkdir -p d/e; echo 1 > d/new; cat same"
    )
    assert job(script).ok().out == "same"
    puts = [r.path for r in gateway.requests(mark) if r.method == "PUT"]
    assert sorted(puts) == sorted(
        f"/{job.bucket}/{key}" for key in ("changed", "d/e/", "d/new", "there")
    )
    assert job.keys() == ["changed", "d/e/", "d/new", "same", "there"]
    assert (job.body("changed"), job.body("there")) == (b"new\n", b"moved")
    assert not list(job.path.iterdir())


def test_what_goes_back_has_the_attributes_a_mount_would_store(job: Job) -> None:
    script = "echo 1 > f; chmod 750 f; touch -d @1700000000 f; ln -s f link"
    job(script).ok()
    found = job.metadata("f")
    assert (int(found["mode"]), found["mtime"]) == (stat.S_IFREG | 0o750, "1700000000")
    assert stat.S_ISLNK(int(job.metadata("link")["mode"]))
    assert job.body("link") == b"f"


def test_a_view_holds_on_the_way_back_too(job: Job) -> None:
    job.put("in/x")
    job.put("other")
    view = ["--prefix", "in/", "--strip-prefix", "in/"]
    assert job("ls; echo 2 > y; rm x", *view).ok().out == "x\n"
    assert job.keys() == ["in/y", "other"]
    done = job("echo 3 > z", "--prefix", "in/")
    assert done.code == 124
    assert "'z' cannot be written here" in done.err
    assert (job.path / "z").read_bytes() == b"3\n"


def test_what_somebody_else_changed_meanwhile_is_kept(
    job: Job, tmp_path: Path, s3: S3Client
) -> None:
    """Ours is stored beside it, and what they changed is not deleted."""
    for key in ("both", "doomed"):
        job.put(key, b"old")
    subprocess.run(["mkfifo", tmp_path / "go", tmp_path / "up"], check=True)
    script = f"echo ours > both; rm doomed; echo > {tmp_path}/up; read x < {tmp_path}/go"
    words = ["run", "--no-fuse", f"{job.bucket}:{job.path}", "--", "sh", "-c"]
    with subprocess.Popen(
        [PROGRAM, *words, f"cd {job.path}; {script}"],
        env=job._cli.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        (tmp_path / "up").read_text()
        for key in ("both", "doomed"):
            job.put(key, b"theirs")
        (tmp_path / "go").write_text("go\n")
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert "both: somebody else changed it meanwhile; yours is stored as" in said
    assert (job.body("both"), job.body("doomed")) == (b"theirs", b"theirs")
    [beside] = [key for key in bucket_keys(s3, job.bucket) if ".conflict-" in key]
    assert job.body(beside) == b"ours\n"


def test_a_read_only_bucket_is_not_written(job: Job) -> None:
    """What was written there all the same is named, and kept."""
    job.put("x")
    assert job("cat x", mode=":ro").ok().out == "1"
    (job.path / "x").unlink()
    done = job("echo 2 > y", mode=":ro")
    assert (done.code, "read-only, and is not sent back: y." in done.err) == (124, True)
    assert job.keys() == ["x"]
    assert (job.path / "y").exists()


def test_nothing_is_run_in_a_directory_that_is_in_use(job: Job) -> None:
    job.path.mkdir()
    (job.path / "mine").write_text("mine")
    done = job("rm mine")
    assert (done.code, "is not empty" in done.err) == (125, True)
    assert (job.path / "mine").exists()
    assert job.keys() == []


def test_nothing_is_run_on_half_a_bucket(job: Job, gateway: Gateway) -> None:
    """A file that cannot be had keeps the command from running, and leaves no others behind."""
    job.put("a")
    job.put("b", os.urandom(1 << 20))
    with FaultProxy(gateway) as proxy:
        proxy.fail(lambda method, path: method == "GET" and path.endswith("/b"), 403)
        done = job("touch was-run", "--endpoint", proxy.endpoint)
    assert (done.code, "'b'" in done.err) == (125, True)
    assert not list(job.path.iterdir())


def test_an_interrupted_return_keeps_what_is_not_in_the_bucket(job: Job, gateway: Gateway) -> None:
    pause = f"kill -STOP $(cat {gateway.folder}/{RGW}.pid)"
    done = job(f"echo x > file; {pause}", "--timeout", "0.5s")
    gateway.resume()
    assert done.code == 124
    assert "still in its directory" in done.err
    assert (job.path / "file").read_bytes() == b"x\n"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exec no-such-command", 127)]
)
def test_its_exit_code_is_that_of_the_command(job: Job, script: str, code: int) -> None:
    assert job(f"echo 1 > f; {script}").code == code
    assert job.keys() == ["f"]


def test_the_first_signal_is_the_commands(job: Job) -> None:
    words = ["run", "--no-fuse", f"{job.bucket}:{job.path}", "--", "sh", "-c"]
    script = f"trap 'echo bye > {job.path}/last; exit 4' TERM; echo up; while :; do sleep 1; done"
    with subprocess.Popen(
        [PROGRAM, *words, script], env=job._cli.environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 4
    assert job.body("last") == b"bye\n"
