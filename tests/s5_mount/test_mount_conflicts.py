"""Two machines change one file: two mounts on two caches, and no version disappears."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
from typing import TYPE_CHECKING

import pytest

from tests.faults import FaultProxy
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli, Mount, bucket_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOLD = ("--upload-delay", "3600", "--cache-ttl", "0")
BESIDE = rf"file\.conflict-{re.escape(socket.gethostname())}-\d{{8}}T\d{{6}}(-\d+)?"
SMALL, LARGE = 100, 9 << 20  # one PUT, and several parts
sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["put", "multipart"])


def bodies(size: int) -> tuple[bytes, bytes, bytes]:
    dice = random.Random(size)
    return dice.randbytes(size), dice.randbytes(size + 1), dice.randbytes(size + 2)


def stored(s3: S3Client, bucket: str) -> dict[str, bytes]:
    """Everything in the bucket."""
    return {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in bucket_keys(s3, bucket)
    }


def assert_kept_beside(found: dict[str, bytes], theirs: bytes, *ours: bytes) -> None:
    """Theirs has the name, each of ours a name that says what it is."""
    assert found.pop("file") == theirs
    assert sorted(found.values()) == sorted(ours)
    assert all(re.fullmatch(BESIDE, key) for key in found), list(found)


def assert_says_so(mount: Mount, cli: Cli) -> None:
    """The loser of a conflict names its own version, in `status` and beside the other."""
    [key] = mount.status()["conflicts"]
    assert f"someone else changed the file too; ours is stored as {key}" in cli("status").out
    assert sorted(os.listdir(mount.path)) == ["file", key]


@pytest.mark.decision(4)
@sizes
def test_two_new_files(size: int, mounts: Mounts, cli: Cli, s3: S3Client, bucket: str) -> None:
    first, second = mounts(*HOLD), mounts(*HOLD)
    one, two, _ = bodies(size)
    (first.path / "file").write_bytes(one)
    (second.path / "file").write_bytes(two)
    first.flush()
    second.flush()
    assert_says_so(second, cli)
    assert_kept_beside(stored(s3, bucket), one, two)
    assert (second.path / "file").read_bytes() == one
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.decision(4)
@sizes
def test_two_rewrites(size: int, mounts: Mounts, cli: Cli, s3: S3Client, bucket: str) -> None:
    base, one, two = bodies(size)
    s3.put_object(Bucket=bucket, Key="file", Body=base)
    first, second = mounts(*HOLD), mounts(*HOLD)
    for mount, body in ((first, one), (second, two)):
        assert (mount.path / "file").read_bytes() == base
        (mount.path / "file").write_bytes(body)
    second.flush()
    first.flush()
    assert_says_so(first, cli)
    assert_kept_beside(stored(s3, bucket), two, one)


def test_three_in_the_same_second(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """On one host: the names beside must differ too."""
    all_three = [mounts(*HOLD) for _ in range(3)]
    for mount, body in zip(all_three, (b"one", b"two", b"three"), strict=True):
        (mount.path / "file").write_bytes(body)
    for mount in all_three:
        mount.flush()
    assert_kept_beside(stored(s3, bucket), b"one", b"two", b"three")


def test_two_appends(mounts: Mounts, cli: Cli, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    first, second = mounts(*HOLD), mounts(*HOLD)
    for mount, more in ((first, b"+one"), (second, b"+two")):
        with (mount.path / "file").open("ab") as file:
            file.write(more)
    first.flush()
    second.flush()
    assert_says_so(second, cli)
    assert_kept_beside(stored(s3, bucket), b"base+one", b"base+two")


@pytest.mark.decision(4)
def test_written_here_and_deleted_there(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """Ours is all there is then, and has the name."""
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    first, second = mounts(*HOLD), mounts(*HOLD)
    (first.path / "file").write_bytes(b"ours")
    (second.path / "file").unlink()
    second.flush()
    first.flush()
    assert stored(s3, bucket) == {"file": b"ours"}


def test_written_here_and_renamed_there(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    first, second = mounts(*HOLD), mounts(*HOLD)
    (first.path / "file").write_bytes(b"ours")
    (second.path / "file").rename(second.path / "moved")
    second.flush()
    first.flush()
    assert stored(s3, bucket) == {"file": b"ours", "moved": b"base"}


def test_renamed_here_onto_a_name_taken_there(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """As editors save: a temporary file takes the place of the old one."""
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    first, second = mounts(*HOLD), mounts(*HOLD)
    assert (first.path / "file").read_bytes() == b"base"
    (second.path / "file").write_bytes(b"theirs")
    (first.path / "file.new").write_bytes(b"ours")
    (first.path / "file.new").rename(first.path / "file")
    second.flush()
    first.flush()
    assert_kept_beside(stored(s3, bucket), b"theirs", b"ours")


def test_both_append_while_both_have_it_open(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """What one flushed is not written over by what the other had begun before."""
    first, second = mounts(*HOLD), mounts(*HOLD)
    with (first.path / "file").open("wb") as one, (second.path / "file").open("wb") as two:
        one.write(b"one")
        two.write(b"two")
        one.flush()
        os.fsync(one.fileno())
        two.flush()
        os.fsync(two.fileno())
        one.write(b", more")
    first.flush()
    second.flush()
    assert_kept_beside(stored(s3, bucket), b"one, more", b"two")


@pytest.mark.decision(4)
@sizes
def test_the_last_writer_wins_where_asked(
    size: int, mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    first, second = (mounts(*HOLD, "--on-conflict", "overwrite") for _ in range(2))
    one, two, _ = bodies(size)
    (first.path / "file").write_bytes(one)
    (second.path / "file").write_bytes(two)
    first.flush()
    second.flush()
    assert stored(s3, bucket) == {"file": two}
    assert second.status()["conflicts"] == []


@pytest.mark.decision(4)
@sizes
def test_where_the_server_checks_no_conditions(
    size: int, mounts: Mounts, cli: Cli, gateway: Gateway, s3: S3Client, bucket: str
) -> None:
    """A look just before stands in for it, and `status` says what that is worth."""
    probes = itertools.count()

    def conditional(method: str, target: str) -> bool:
        """All puts of a probe's key but the first."""
        return method == "PUT" and "/.qarnotfs-probe" in target and next(probes) > 0

    one, two, _ = bodies(size)
    with FaultProxy(gateway) as proxy:
        proxy.fail(conditional, 400)
        weak = mounts(*HOLD, endpoint=proxy.endpoint)
        assert weak.status()["capabilities"] == {"put_if_absent": False, "put_if_match": "no"}
        assert "This server does not check conditions" in cli("status").out
        (weak.path / "file").write_bytes(one)
        s3.put_object(Bucket=bucket, Key="file", Body=two)
        weak.flush()
        assert_says_so(weak, cli)
        assert_kept_beside(stored(s3, bucket), two, one)
