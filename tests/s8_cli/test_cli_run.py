"""``qarnotfs run``: mount, run, upload, unmount, and an exit code that says how it went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rgw import RGW, Gateway
from tests.s5_mount.mounting import PROGRAM, Cli, Mount, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount


@pytest.fixture
def target(place: Mount) -> list[str]:
    """Options and the BUCKET:DIR of a bucket whose directory is not there yet."""
    place.path.rmdir()
    return ["--cache-dir", str(place.cache_dir), f"{place.bucket}:{place.path}"]


def test_a_missing_directory_is_made(
    cli: Cli, target: list[str], place: Mount, s3: S3Client
) -> None:
    cli("run", *target, "--", "touch", place.path / "file").ok()
    assert bucket_keys(s3, place.bucket) == ["file"]
    assert list(place.path.iterdir()) == []
    assert not place.is_mounted()


def test_nothing_is_run_when_a_bucket_is_not_there(
    cli: Cli, target: list[str], place: Mount, tmp_path: Path
) -> None:
    """And what was mounted before it is unmounted again."""
    missing = f"no-such-bucket:{tmp_path / 'other'}"
    done = cli("run", *target, missing, "--", "touch", tmp_path / "was-run")
    assert done.code == 125
    assert "no-such-bucket" in done.err
    assert not (tmp_path / "was-run").exists()
    assert not place.is_mounted()


def test_what_cannot_be_uploaded_is_an_exit_code_of_its_own(
    cli: Cli, target: list[str], place: Mount, s3: S3Client, tmp_path: Path
) -> None:
    script = f"echo x > {place.path}/file; touch {tmp_path}/written; read go < {tmp_path}/go"
    (tmp_path / "script").write_text(script)
    subprocess.run(["mkfifo", tmp_path / "go"], check=True)
    command: list[str | Path] = [
        PROGRAM,
        "run",
        "--upload-delay",
        "1h",
        *target,
        "--",
        "sh",
        tmp_path / "script",
    ]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as run:
        eventually((tmp_path / "written").exists)
        s3.delete_bucket(Bucket=place.bucket)
        (tmp_path / "go").write_text("go\n")
        _, said = run.communicate()
    s3.create_bucket(Bucket=place.bucket)
    assert run.returncode == 124
    assert "1 file (2 B) could not be uploaded" in said


def test_sigterm_ends_the_command_and_not_the_uploads(
    cli: Cli, target: list[str], place: Mount, s3: S3Client
) -> None:
    """What happens when a container is stopped."""
    script = f"trap 'echo bye > {place.path}/last; exit 3' TERM; echo up; while :; do sleep 1; done"
    command: list[str | Path] = [PROGRAM, "run", *target, "--", "sh", "-c", script]
    with subprocess.Popen(command, env=cli.environment, stdout=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stdout.readline() == b"up\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 3
    assert s3.get_object(Bucket=place.bucket, Key="last")["Body"].read() == b"bye\n"
    assert not place.is_mounted()


def test_what_was_left_running_may_finish(
    cli: Cli, target: list[str], place: Mount, s3: S3Client, tmp_path: Path
) -> None:
    subprocess.run(["mkfifo", tmp_path / "go"], check=True)
    late = place.path / "late"
    script = f"(cat {tmp_path}/go > {late}) & until [ -e {late} ]; do :; done; echo started"
    command: list[str | Path] = [PROGRAM, "run", *target, "--", "sh", "-c", script]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        assert "waiting for what was left running" in run.stderr.readline()
        (tmp_path / "go").write_text("finished\n")
        assert run.wait(60) == 0
    assert s3.get_object(Bucket=place.bucket, Key="late")["Body"].read() == b"finished\n"


def test_the_environment_of_run_says_nothing_to_its_mounts(
    cli: Cli, target: list[str], place: Mount
) -> None:
    assert cli("run", *target, "--", "ls", place.path, QARNOTFS_FOREGROUND="1").ok().out == ""


def test_the_buckets_of_a_task(
    cli: Cli, target: list[str], place: Mount, s3: S3Client, tmp_path: Path
) -> None:
    """Each with its own view; resources refuse changes, results take them."""
    for key in ("a/x", "a/y", "b/z"):
        s3.put_object(Bucket=place.bucket, Key=key, Body=key.encode())
    views: list[dict[str, Any]] = [
        {"filtering": {"prefixFiltering": {"prefix": "a/"}}, "cacheTTLSec": 0},
        {"resourcesTransformation": {"stripPrefix": {"prefix": "b/"}}},
    ]
    task = {
        "advancedResourceBuckets": [{"bucketName": place.bucket, **view} for view in views],
        "resultBucket": place.bucket,
    }
    spec = tmp_path / "task.json"
    spec.write_text(json.dumps(task))
    tries = "for place in resources/*; do touch $place/new; done"
    script = f"cd {place.path}; find * -type f | sort; {tries}; echo out > results/out"
    options = [*target[:2], "--spec", str(spec)]
    done = cli("run", *options, place.path, "--", "sh", "-c", script).ok()
    assert done.out.split() == [
        *(f"resources/{place.bucket}-2/{name}" for name in ("a/x", "a/y", "z")),
        *(f"resources/{place.bucket}/{name}" for name in ("a/x", "a/y")),
        *(f"results/{name}" for name in ("a/x", "a/y", "b/z")),
    ]
    assert done.err.count("Read-only file system") == 2
    assert bucket_keys(s3, place.bucket) == ["a/x", "a/y", "b/z", "out"]


def test_a_directory_of_a_bucket(cli: Cli, place: Mount, s3: S3Client, tmp_path: Path) -> None:
    """`BUCKET:PREFIX:DIR`: new files get the prefix back; a name that begins like it is another."""
    s3.put_object(Bucket=place.bucket, Key="train/x", Body=b"1")
    s3.put_object(Bucket=place.bucket, Key="training/x", Body=b"2")
    target = f"{place.bucket}:train:{place.path}"
    script = f"cd {place.path}; ls; echo new > y"
    done = cli("run", "--cache-dir", place.cache_dir, target, "--", "sh", "-c", script).ok()
    assert done.out == "x\n"
    assert bucket_keys(s3, place.bucket) == ["train/x", "train/y", "training/x"]


def test_what_a_killed_mount_left_is_taken_over(
    cli: Cli, target: list[str], place: Mount, s3: S3Client
) -> None:
    """The dead mount is still there, and what it owed is uploaded."""
    place.start(["--upload-delay", "1h"], {})
    (place.path / "owed").write_bytes(b"1")
    place.kill9()
    assert cli("run", *target, "--", "ls", place.path).ok().out == "owed\n"
    assert bucket_keys(s3, place.bucket) == ["owed"]


def test_a_command_has_stdin_and_the_terminal(
    cli: Cli, target: list[str], place: Mount, s3: S3Client
) -> None:
    main, terminal = os.openpty()
    script = f"tty; cat > {place.path}/said"
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", PROGRAM, "run", *target, "--", "sh", "-c", script],
        env=cli.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        name = os.ttyname(terminal)
        os.close(terminal)
        seen = b""
        while name.encode() not in seen:
            seen += os.read(main, 100)
        os.write(main, b"typed\n\x04")  # Ctrl-D
        assert process.wait(60) == 0
    os.close(main)
    assert s3.get_object(Bucket=place.bucket, Key="said")["Body"].read() == b"typed\n"


def pause(gateway: Gateway) -> str:
    """What a script says to make the gateway hang."""
    return f"kill -STOP $(cat {gateway.folder}/{RGW}.pid)"


def test_uploads_end_in_time(
    cli: Cli, target: list[str], place: Mount, gateway: Gateway, s3: S3Client
) -> None:
    """And what is left is uploaded by the next mount of the same cache directory."""
    options = ["--upload-delay", "1h", "--timeout", "0.5s", *target]
    done = cli("run", *options, "--", "sh", "-c", f"echo x > {place.path}/file; {pause(gateway)}")
    gateway.resume()
    assert done.code == 124
    assert "1 file (2 B) could not be uploaded" in done.err
    assert str(place.cache_dir) in done.err
    assert not place.is_mounted()
    cli("run", *target, "--", "cat", place.path / "file").ok()
    assert s3.get_object(Bucket=place.bucket, Key="file")["Body"].read() == b"x\n"


@pytest.mark.parametrize("code", [0, 3])
def test_the_second_signal_ends_the_uploads(
    code: int, cli: Cli, target: list[str], place: Mount, gateway: Gateway
) -> None:
    """The first is only answered: it may have been meant for the command, which is over."""
    script = f"echo x > {place.path}/file; {pause(gateway)}; exit {code}"
    options = ["--upload-delay", "1h", *target]
    command: list[str | Path] = [PROGRAM, "run", *options, "--", "sh", "-c", script]
    with subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        assert any("Uploading to" in line for line in run.stderr)
        run.send_signal(signal.SIGTERM)
        assert any("once more ends that" in line for line in run.stderr)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate()
    gateway.resume()
    assert run.returncode == (code or 124)
    assert "1 file (2 B) could not be uploaded" in said
    assert not place.is_mounted()
