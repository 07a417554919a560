"""What ``df`` shows: the limits of the account, as the gateway tells them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import run
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GIB = 1 << 30
Limit = Callable[[int, int], None]


@pytest.fixture
def limit(gateway: Gateway) -> Iterator[Limit]:
    """Limit what the account may store: bytes, and objects."""

    def admin(*words: str) -> None:
        of = ("--quota-scope=user", "--uid=test")
        run("radosgw-admin", "-c", "ceph.conf", "quota", *words, *of, cwd=gateway.folder)

    def set_limit(bytes_max: int, objects_max: int) -> None:
        admin("set", f"--max-size={bytes_max}B", f"--max-objects={objects_max}")
        admin("enable")

    yield set_limit
    admin("set", "--max-size=-1", "--max-objects=-1")
    admin("disable")


def room(path: Path) -> tuple[int, int]:
    """How many bytes there are in all, and how many of them are taken.

    It is what was heard last, or nothing, when the server does not answer at once.
    """
    size, used = run("df", "--block-size=1", "--output=size,used", path).splitlines()[1].split()
    return int(size), int(used)


@pytest.mark.decision(16)
def test_without_a_limit_it_is_what_the_bucket_holds(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"x" * (1 << 20))
    mount = mounts()
    eventually(lambda: room(mount.path) == ((1 << 50) + (1 << 20), 1 << 20))
    assert os.statvfs(mount.path).f_ffree == 1 << 32


@pytest.mark.decision(16)
def test_a_limit_of_the_account(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway, limit: Limit
) -> None:
    """All its buckets count, and it is as old as the TTL allows, as everything else."""
    limit(10 * GIB, 1000)
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    try:
        s3.put_object(Bucket=other, Key="file", Body=b"x" * (1 << 20))
        mount = mounts("--cache-ttl", "3600")
        eventually(lambda: room(mount.path)[0] == 10 * GIB)
        size, used = room(mount.path)
        assert size == 10 * GIB
        assert used >= 1 << 20
        assert os.statvfs(mount.path).f_files == 1000
        assert 0 < os.statvfs(mount.path).f_ffree < 1000
        mark = gateway.mark()
        s3.put_object(Bucket=bucket, Key="file", Body=b"x" * (1 << 20))
        assert room(mount.path) == (size, used)
        assert [r.method for r in gateway.requests(mark)] == ["PUT"]
        asking = mounts("--cache-ttl", "0")
        eventually(lambda: room(asking.path) == (size, used + (1 << 20)))
    finally:
        s3.delete_object(Bucket=other, Key="file")
        s3.delete_bucket(Bucket=other)


@pytest.mark.decision(16)
def test_a_server_that_does_not_answer_keeps_nobody_waiting_for_long(
    mounts: Mounts, bucket: str, gateway: Gateway, limit: Limit
) -> None:
    limit(10 * GIB, -1)
    mount = mounts("--cache-ttl", "0")
    eventually(lambda: room(mount.path)[0] == 10 * GIB)
    before = room(mount.path)
    gateway.pause()
    assert room(mount.path) == before
    gateway.resume()
