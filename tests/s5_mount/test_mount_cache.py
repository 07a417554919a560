"""What is fetched, how much of it, and what never is: counted in the gateway's own log."""

from __future__ import annotations

import os
import pty
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway, Request
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import COMMAND_SEC_MAX, PROGRAM, Cli
from tests.s5_mount.test_mount_time import Counter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
BLOCK_BYTES = 256 << 10
LONG = ("--cache-ttl", "3600")


def noise(mib: int) -> bytes:
    return random.Random(mib).randbytes(MIB) * mib


def gets(requests: list[Request]) -> list[Request]:
    """Those for bytes of objects."""
    return [r for r in requests if r.method == "GET" and "list-type" not in r.path]


def fetched(requests: list[Request]) -> int:
    return sum(request.size for request in gets(requests))


def read_cold(path: Path) -> bytes:
    """The file, of which the kernel then has nothing."""
    with path.open("rb") as file:
        found = file.read()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may tell the kernel")
def test_the_kernel_reads_a_mebibyte_ahead(mounts: Mounts) -> None:
    device = mounts().path.stat().st_dev
    told = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert told.read_text().strip() == "1024"


@pytest.mark.decision(15)
def test_a_few_random_reads_fetch_only_their_blocks(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    body = noise(64)
    s3.put_object(Bucket=bucket, Key="large", Body=body)
    mount = mounts(*LONG)
    asked = Counter(gateway, bucket)
    with (mount.path / "large").open("rb", buffering=0) as file:
        for block in (200, 30, 111, 77):
            at = block * BLOCK_BYTES + 8192
            assert os.pread(file.fileno(), 4096, at) == body[at : at + 4096]
    found = gets(asked())
    assert [request.size for request in found] == [BLOCK_BYTES] * 4


def test_without_a_cache_bytes_stream_and_are_fetched_again(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    body = noise(64)
    s3.put_object(Bucket=bucket, Key="large", Body=body)
    mount = mounts(*LONG, "--cache-size", "0")
    asked = Counter(gateway, bucket)
    assert read_cold(mount.path / "large") == body
    assert len(body) <= fetched(asked()) <= 1.05 * len(body)
    assert read_cold(mount.path / "large") == body
    assert len(body) // 2 <= fetched(asked()) <= 1.05 * len(body)  # what memory has is not
    assert list(mount.cache_dir.rglob("*.data")) == []


@pytest.mark.parametrize("mib", [1, 40])
def test_what_was_uploaded_is_never_downloaded(
    mounts: Mounts, gateway: Gateway, bucket: str, mib: int
) -> None:
    """Neither by this mount nor by the next one, whose kernel knows nothing of it."""
    body = noise(mib)
    mount = mounts(*LONG)
    asked = Counter(gateway, bucket)
    (mount.path / "ours").write_bytes(body)
    mount.flush()
    assert read_cold(mount.path / "ours") == body
    assert read_cold(mount.path / "ours") == body
    mount.unmount()
    again = mounts(*LONG, cache_dir=mount.cache_dir)
    assert (again.path / "ours").read_bytes() == body
    assert gets(asked()) == []


def test_warm_shows_a_bar_on_a_terminal_and_none_elsewhere(
    cli: Cli, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    for number in range(10):
        s3.put_object(Bucket=bucket, Key=f"p/{number}", Body=bytes(1000))
    words: list[str | Path] = [PROGRAM, "warm", f"{bucket}:p/", "--cache-dir", tmp_path]
    terminal, end = pty.openpty()
    environment = cli.environment | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=end) as warm:
        os.close(end)
        shown = _all_of(terminal)
        assert warm.wait(COMMAND_SEC_MAX) == 0
        assert warm.stdout is not None
        assert b"10 files" in warm.stdout.read()
    assert "10 of 10 files" in shown
    assert "━" in shown
    assert cli("warm", f"{bucket}:p/", "--cache-dir", tmp_path).ok().err == ""


def _all_of(terminal: int) -> str:
    """What a program says until nobody can say anything any more."""
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
    except OSError:
        pass  # EIO: the other end is closed
    finally:
        os.close(terminal)
    return said.decode()
