"""Large files on the real gateway: sent while written, as the SDK would send them, resumed."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20
PART = 8 * MIB
HOLD = ("--upload-delay", "3600")  # nothing is uploaded unless somebody asks for it


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(1 << 20) * (size >> 20)


def etag(body: bytes) -> str:
    """What the SDK's upload of these bytes gets."""
    parts = [hashlib.md5(body[at : at + PART]).digest() for at in range(0, len(body), PART)]
    return f'"{hashlib.md5(b"".join(parts)).hexdigest()}-{len(parts)}"'


@pytest.fixture
def sent(gateway: Gateway) -> Callable[[], int]:
    """How many parts arrived since the test began."""
    mark = gateway.mark()
    return lambda: sum(r.method == "PUT" and "partNumber" in r.path for r in gateway.requests(mark))


@pytest.mark.decision(1)
def test_parts_are_in_the_bucket_before_the_file_is_closed(
    mounts: Mounts, s3: S3Client, bucket: str, sent: Callable[[], int]
) -> None:
    body = noise(5 * PART) + b"end"
    mount = mounts(*HOLD)
    with (mount.path / "large").open("wb") as file:
        file.write(body)
        file.flush()
        eventually(lambda: sent() >= 4)
    modified = (mount.path / "large").stat().st_mtime
    mount.unmount()
    stored = s3.get_object(Bucket=bucket, Key="large")
    assert stored["ETag"] == etag(body)
    assert stored["Body"].read() == body
    assert float(stored["Metadata"]["mtime"]) == pytest.approx(modified, abs=1e-3)
    assert sent() == 6
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_a_small_change_of_a_large_object_sends_little(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """Of 256 MiB one part is sent, whose other bytes were fetched; the rest is copied there."""
    body = bytearray(noise(32 * PART))
    s3.upload_fileobj(BytesIO(body), bucket, "large")
    mount = mounts(*HOLD)
    mark = gateway.mark()
    with (mount.path / "large").open("r+b") as file:
        file.seek(16 * PART + 5)
        file.write(b"x" * 4096)
    mount.unmount()
    asked = gateway.requests(mark)
    body[16 * PART + 5 : 16 * PART + 5 + 4096] = b"x" * 4096
    stored = s3.get_object(Bucket=bucket, Key="large")
    assert stored["ETag"] == etag(bytes(body))
    assert stored["Body"].read() == bytes(body)
    assert sum(r.method == "PUT" and "partNumber" in r.path for r in asked) == 32
    assert PART <= sum(r.size for r in asked if r.method in ("PUT", "POST")) < 16 << 20
    assert sum(r.size for r in asked if r.method == "GET") < 16 << 20


def test_what_arrived_before_a_kill_is_not_sent_again(
    mounts: Mounts, s3: S3Client, bucket: str, sent: Callable[[], int]
) -> None:
    body = noise(6 * PART)
    first = mounts(*HOLD)
    with (first.path / "large").open("wb") as file:
        file.write(body)
        file.flush()
        eventually(lambda: sent() == 6)
    eventually(lambda: first.status()["pending_bytes"] == 0)
    first.kill9()
    again = mounts(path=first.path, cache_dir=first.cache_dir)
    again.unmount()
    assert sent() == 6
    stored = s3.get_object(Bucket=bucket, Key="large")
    assert (stored["ETag"], stored["Body"].read()) == (etag(body), body)


def test_a_renamed_temporary_is_sent_once(
    mounts: Mounts, s3: S3Client, bucket: str, sent: Callable[[], int]
) -> None:
    body = noise(4 * PART)
    mount = mounts(*HOLD)
    write(mount.path / ".large.bin.x1Y2z3", body)
    (mount.path / ".large.bin.x1Y2z3").rename(mount.path / "large.bin")
    mount.unmount()
    assert sent() == 4
    assert s3.get_object(Bucket=bucket, Key="large.bin")["Body"].read() == body


ON_ITS_WAY = 2 * (128 * MIB)  # at most at once: the bytes, and the copy of who sends them
SLACK = 48 * MIB  # what the allocator and the threads keep for themselves


@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_memory_does_not_grow_with_the_file(
    order: str, mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    """All 64 MiB of a file may be on their way at once, of 512 MiB only as much as ever may be.
    So the peaks differ by that, not by 448 MiB; and at rest nothing of either is kept."""

    def write_in_order(name: str, size: int) -> None:
        spots = list(range(0, size, MIB))
        if order == "random":
            random.Random(size).shuffle(spots)
        with (mount.path / name).open("wb", buffering=0) as file:
            for spot in spots:
                file.seek(spot)
                file.write(piece(spot))
        mount.flush()
        whole = b"".join(piece(spot) for spot in range(0, size, MIB))
        assert s3.head_object(Bucket=bucket, Key=name)["ETag"] == etag(whole)

    mount = mounts("--upload-delay", "0")
    idle = memory_bytes(mount.pid, "VmRSS")
    write_in_order("small", 64 * MIB)
    peak = memory_bytes(mount.pid, "VmHWM")
    write_in_order("large", 512 * MIB)
    assert memory_bytes(mount.pid, "VmHWM") <= peak + ON_ITS_WAY - 64 * MIB + SLACK
    eventually(lambda: memory_bytes(mount.pid, "VmRSS") <= idle + SLACK)


def test_parts_are_kept_in_pages_that_were_others_before(mounts: Mounts) -> None:
    """Not in new ones: those cost the kernel a tenth of all that a file costs."""
    mount = mounts("--upload-delay", "0")

    def faults_of_writing(name: str) -> int:
        before = minor_faults(mount.pid)
        write(mount.path / name, noise(8 * PART))
        mount.flush()
        return minor_faults(mount.pid) - before

    faults_of_writing("first")
    few = 8 * PART // os.sysconf("SC_PAGESIZE") // 16
    # Two in a row of several, for it may be quiet long enough meanwhile to give the pages back.
    faults = [faults_of_writing("again")]
    while max(faults[-2:]) >= few or len(faults) < 2:
        assert len(faults) < 10, f"no two have fewer than {few}: {faults}"
        faults.append(faults_of_writing(f"again{len(faults)}"))


def piece(spot: int) -> bytes:
    """A MiB that no other spot has."""
    return spot.to_bytes(8, "big") * (MIB // 8)


def memory_bytes(pid: int, what: str) -> int:
    """``VmRSS``: what a process has of the machine's memory; ``VmHWM``: the most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) << 10


def minor_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def write(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
