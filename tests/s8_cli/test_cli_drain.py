"""The end of a mount: what was written arrives, or stays on this machine and is named."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.mounting import BUSY, PROGRAM, Cli, Mount, bucket_keys, run
from tests.s8_cli.running import background
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
LATER = ["--upload-delay", "1h"]
UPLOADS = "Uploading: 1 file left (5 B)"


@pytest.fixture
def owing(place: Mount) -> Mount:
    """A mount that owes the bucket one file, and is in no hurry to pay."""
    place.start(LATER, {})
    (place.path / "file").write_bytes(b"12345")
    return place


@pytest.fixture
def slow(gateway: Gateway) -> Iterator[FaultProxy]:
    """The gateway, which takes seconds for the third part of any upload."""
    with FaultProxy(gateway) as proxy:
        proxy.inject(Rule(Fault.SLOW, lambda _, target: "partNumber=3" in target))
        yield proxy


@contextmanager
def foreground(place: Mount, cli: Cli, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The mount process itself, as systemd or a container starts it."""
    cache = ["--cache-dir", str(place.cache_dir)]
    given = ["mount", "--foreground", place.bucket, str(place.path), *cache, *options]
    with background(cli, *given) as process:
        eventually(place.is_mounted)
        yield process


@contextmanager
def watched_unmount(place: Mount, cli: Cli) -> Iterator[subprocess.Popen[str]]:
    """``qarnotfs umount``, which uploads and says so."""
    while True:
        with background(cli, "umount", place.path) as process:
            assert process.stderr
            said = process.stderr.readline()
            if BUSY not in said:
                assert "Uploading to" in said
                yield process
                return


@contextmanager
def held_open(path: Path) -> Iterator[int]:
    """A new file in a program that writes it; the end of the mount may come before its close."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


def uploads_next_time(place: Mount, s3: S3Client, name: str, body: bytes) -> None:
    """What stayed here is in the bucket after the next mount of it."""
    place.start([], {})
    place.unmount()
    assert name in bucket_keys(s3, place.bucket)
    assert s3.get_object(Bucket=place.bucket, Key=name)["Body"].read() == body


# --- umount ---------------------------------------------------------------------------------


def test_umount_ends_in_time_and_says_what_stays(
    owing: Mount, gateway: Gateway, s3: S3Client
) -> None:
    gateway.pause()
    done = owing.unmount_unless_busy("--timeout", "0.5")
    gateway.resume()
    assert done.code == 1
    assert f"Uploading to {owing.bucket}: 1 file left (5 B)" in done.err
    assert f"1 file (5 B) could not be uploaded to '{owing.bucket}'" in done.err
    assert f"kept in {owing.cache_dir}, and the next mount" in done.err
    assert owing.has_ended()
    assert f"Kept in {owing.cache_dir}/{owing.bucket}-" in owing.log_tail()
    uploads_next_time(owing, s3, "file", b"12345")


def test_a_time_limit_also_ends_what_somebody_else_began(
    owing: Mount, gateway: Gateway, s3: S3Client
) -> None:
    gateway.pause()
    eventually(lambda: not subprocess.run(["umount", owing.path], check=False).returncode)
    eventually(lambda: owing.status()["state"] == "draining")
    assert owing.try_unmount("--timeout", "0.2").code == 1
    gateway.resume()
    assert owing.has_ended()
    uploads_next_time(owing, s3, "file", b"12345")


def test_the_time_limit_holds_for_programs_too(owing: Mount, s3: S3Client) -> None:
    """By force, one that never closes its file is not waited for; what it wrote is recorded."""
    with held_open(owing.path / "held") as held:
        os.write(held, b"so far")
        assert owing.try_unmount("--force", "--timeout", "0.5").code == 1
        assert owing.has_ended()
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.write(held, b"too late")
    uploads_next_time(owing, s3, "held", b"so far")


def test_who_stops_watching_stops_nothing_else(
    owing: Mount, cli: Cli, gateway: Gateway, s3: S3Client
) -> None:
    gateway.pause()
    with watched_unmount(owing, cli) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Uploading goes on in the background" in said
    again = cli("mount", owing.bucket, owing.path, "--cache-dir", owing.cache_dir)
    assert (again.code, "still uploading" in again.err) == (2, True)
    with watched_unmount(owing, cli) as process:
        gateway.resume()
        assert process.wait() == 0
    assert owing.has_ended()
    assert bucket_keys(s3, owing.bucket) == ["file"]


def test_what_could_not_be_uploaded_is_kept_and_said(
    owing: Mount, s3: S3Client, bucket: str
) -> None:
    s3.delete_bucket(Bucket=bucket)
    done = owing.unmount_unless_busy()
    s3.create_bucket(Bucket=bucket)
    assert done.code == 1
    assert "1 file (5 B) could not be uploaded" in done.err
    assert f"\n  file: There is no bucket '{bucket}'" in done.err
    uploads_next_time(owing, s3, "file", b"12345")


# --- signals --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_uploads_and_ends(
    number: signal.Signals, place: Mount, cli: Cli, s3: S3Client
) -> None:
    """What systemd and containers want: one process, logging to stderr, ended by SIGTERM."""
    with foreground(place, cli, *LATER) as process:
        (place.path / "file").write_bytes(b"12345")
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 0
    assert "is mounted on" in said
    assert UPLOADS in said
    assert "Everything is in the bucket" in said
    assert bucket_keys(s3, place.bucket) == ["file"]
    assert not place.is_mounted()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    number: signal.Signals, place: Mount, cli: Cli, gateway: Gateway, s3: S3Client
) -> None:
    with foreground(place, cli, *LATER) as process:
        (place.path / "file").write_bytes(b"12345")
        gateway.pause()
        process.send_signal(number)
        assert process.stderr
        assert any(UPLOADS in line for line in process.stderr)  # it has begun to drain
        process.send_signal(number)
        _, said = process.communicate()
    gateway.resume()
    assert process.returncode == 1
    assert f"1 file (5 B) not in the bucket. Kept in {place.cache_dir}" in said
    uploads_next_time(place, s3, "file", b"12345")


def test_a_second_signal_does_not_wait_for_programs(owing: Mount, s3: S3Client) -> None:
    with held_open(owing.path / "held") as held:
        os.write(held, b"so far")
        owing.signal(signal.SIGTERM)
        eventually(lambda: not owing.is_mounted())
        os.write(held, b" and on")  # the first signal lets it finish
        assert not owing.has_ended()
        owing.signal(signal.SIGTERM)
        eventually(owing.has_ended)
    uploads_next_time(owing, s3, "held", b"so far and on")


def test_a_signal_after_somebody_unmounted_lazily(owing: Mount, s3: S3Client) -> None:
    with (owing.path / "held").open("wb", buffering=0) as held:
        run("umount", "--lazy", owing.path)
        owing.signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: unmounting" in owing.log_tail())
        held.write(b"to the end")
    eventually(owing.has_ended)
    assert bucket_keys(s3, owing.bucket) == ["file", "held"]


def test_plain_umount_uploads_too(place: Mount, cli: Cli, s3: S3Client) -> None:
    with foreground(place, cli, *LATER) as process:
        (place.path / "file").write_bytes(b"12345")
        run("umount", place.path)
        assert process.wait(60) == 0
    assert bucket_keys(s3, place.bucket) == ["file"]


# --- what is shown --------------------------------------------------------------------------


def test_figures_move_while_it_uploads(
    place: Mount, cli: Cli, slow: FaultProxy, s3: S3Client
) -> None:
    """Bytes, files, rate and time to go: in `status`, in the log, and on stderr."""
    place.start(LATER, {"AWS_ENDPOINT_URL": slow.endpoint})
    body = os.urandom(23 << 20)  # 14 s for the third part: what is looked at falls into them
    (place.path / "large").write_bytes(body)
    with background(cli, "umount", place.path) as process:
        status = eventually(lambda: _with_parts(place.status()))
        assert status
        [moving] = status["transfers"]
        assert (moving["path"], moving["bytes"]) == ("large", len(body))
        assert status["pending_bytes"] < len(body)
        assert status["upload_eta_sec"] == status["pending_bytes"] / status["upload_bytes_per_sec"]
        assert "] 16.0 MiB of 23.0 MiB large" in cli("status").out
        _, said = process.communicate()
    assert process.returncode == 0
    figures = r": 1 file left \([\d.]+ MiB\), [\d.]+ \wiB/s, \d+ s to go"
    assert re.search(f"Uploading to {place.bucket}{figures}", said)
    assert re.search(f"Uploading{figures}", place.log_tail())
    assert s3.get_object(Bucket=place.bucket, Key="large")["Body"].read() == body


def _with_parts(status: dict[str, Any]) -> dict[str, Any] | None:
    """A status in which two parts of 8 MiB have arrived, and that is known."""
    arrived = sum(one["bytes_sent"] for one in status["transfers"])
    return status if arrived == 16 << 20 and status["upload_bytes_per_sec"] else None


def test_progress_is_drawn_on_a_terminal(owing: Mount, cli: Cli, gateway: Gateway) -> None:
    (owing.path / "more").write_bytes(bytes(3 << 20))
    gateway.pause()
    drawn, out, code = _drawn(owing, cli, gateway)
    while BUSY.encode() in drawn:
        gateway.pause()
        drawn, out, code = _drawn(owing, cli, gateway)
    assert b"2 files left" in drawn
    assert b"3.0 MiB" in drawn
    assert (code, out) == (0, f"Unmounted {owing.path}; everything is in {owing.bucket}.\n")


def _drawn(place: Mount, cli: Cli, gateway: Gateway) -> tuple[bytes, str, int]:
    """What ``umount`` draws and says, and its exit code; the gateway goes on when it draws."""
    main, terminal = os.openpty()
    with subprocess.Popen(
        [PROGRAM, "umount", place.path],
        env=cli.environment | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        drawn = b""
        while b"2 files left" not in drawn and (data := _read(main)):
            drawn += data
        gateway.resume()
        while data := _read(main):
            drawn += data
        out, _ = process.communicate()
    os.close(main)
    return drawn, out, process.returncode


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


# --- flush ----------------------------------------------------------------------------------


def test_flush_waits_for_what_was_written(
    owing: Mount, cli: Cli, gateway: Gateway, s3: S3Client
) -> None:
    assert bucket_keys(s3, owing.bucket) == []
    owing.flush()
    assert bucket_keys(s3, owing.bucket) == ["file"]
    (owing.path / "more").write_bytes(b"1")
    gateway.pause()
    done = cli("flush", owing.path, "--timeout", "0.5")
    assert done.code == 1
    assert "Not uploaded yet: 1 file. It goes on in the background" in done.err
    assert not owing.has_ended()
    gateway.resume()
    owing.flush()


def test_flush_says_what_was_refused(owing: Mount, s3: S3Client, bucket: str) -> None:
    s3.delete_bucket(Bucket=bucket)
    done = owing.try_flush()
    s3.create_bucket(Bucket=bucket)
    assert done.code == 1
    assert f"\n  file: There is no bucket '{bucket}'" in done.err
