"""cacheTTLSec: what is believed for how long, counted in requests the gateway got."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway, Request
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = random.Random(1).randbytes(2_000_000)


class Counter:
    """Requests for one bucket since the last look."""

    def __init__(self, gateway: Gateway, bucket: str) -> None:
        self._gateway, self._place = gateway, f"/{bucket}"
        self._mark = gateway.mark()

    def __call__(self) -> list[Request]:
        asked = self._gateway.requests(self._mark)
        self._mark = self._gateway.mark()
        return [request for request in asked if request.path.startswith(self._place)]


@pytest.fixture
def asked(gateway: Gateway, bucket: str, s3: S3Client) -> Counter:
    s3.put_object(Bucket=bucket, Key="dir/file", Body=BODY)
    s3.put_object(Bucket=bucket, Key="dir/small", Body=b"first")
    return Counter(gateway, bucket)


def look(mount: Mount) -> None:
    """Everything a reader does: list, stat, read, and find something missing."""
    assert sorted(os.listdir(mount.path / "dir")) == ["file", "small"]
    assert (mount.path / "dir" / "file").stat().st_size == len(BODY)
    assert (mount.path / "dir" / "file").read_bytes() == BODY
    assert (mount.path / "dir" / "small").read_bytes() == b"first"
    assert not (mount.path / "dir" / "none").exists()
    assert not (mount.path / "nowhere").exists()


@pytest.mark.decision(3)
def test_within_ttl_nothing_is_asked(
    mounts: Mounts, asked: Counter, s3: S3Client, bucket: str
) -> None:
    mount = mounts("--cache-ttl", "3600")
    asked()
    look(mount)
    assert asked() != []
    s3.put_object(Bucket=bucket, Key="dir/small", Body=b"second")
    s3.put_object(Bucket=bucket, Key="dir/none", Body=b"")
    asked()
    look(mount)
    look(mount)
    assert asked() == []


@pytest.mark.decision(3)
def test_after_ttl_the_new_version_is_seen(
    mounts: Mounts, asked: Counter, s3: S3Client, bucket: str
) -> None:
    mount = mounts("--cache-ttl", "1")
    look(mount)
    s3.put_object(Bucket=bucket, Key="dir/small", Body=b"second version")
    s3.put_object(Bucket=bucket, Key="dir/none", Body=b"here")
    path = mount.path / "dir" / "small"
    eventually(lambda: path.read_bytes() == b"second version")
    assert path.stat().st_size == len(b"second version")
    eventually((mount.path / "dir" / "none").exists)
    eventually(lambda: sorted(os.listdir(mount.path / "dir")) == ["file", "none", "small"])


@pytest.mark.decision(3)
def test_after_ttl_an_unchanged_object_is_not_fetched_again(mounts: Mounts, asked: Counter) -> None:
    mount = mounts("--cache-ttl", "1")
    look(mount)
    asked()
    for _ in range(2):
        questions: list[Request] = []

        def is_validated(questions: list[Request] = questions) -> bool:
            assert (mount.path / "dir" / "file").read_bytes() == BODY
            questions += asked()
            return questions != []

        eventually(is_validated)
        assert [question for question in questions if is_fetch(question)] == []


def is_fetch(request: Request) -> bool:
    return request.method == "GET" and "/dir/file" in request.path and request.status < 300


@pytest.mark.decision(3)
def test_ttl_of_zero_always_asks(mounts: Mounts, asked: Counter, s3: S3Client, bucket: str) -> None:
    mount = mounts("--cache-ttl", "0")
    path = mount.path / "dir" / "small"
    for number in range(5):
        body = b"version %d" % number * (number + 1)
        s3.put_object(Bucket=bucket, Key="dir/small", Body=body)
        assert path.read_bytes() == body
        assert path.stat().st_size == len(body)
    s3.delete_object(Bucket=bucket, Key="dir/small")
    assert not path.exists()


@pytest.mark.decision(3)
def test_remount_within_ttl_starts_warm(mounts: Mounts, asked: Counter) -> None:
    first = mounts("--cache-ttl", "3600")
    look(first)
    first.unmount()
    again = mounts("--cache-ttl", "3600", cache_dir=first.cache_dir)
    asked()
    look(again)
    assert asked() == []


def test_killed_mount_starts_warm(mounts: Mounts, asked: Counter) -> None:
    first = mounts("--cache-ttl", "3600")
    look(first)
    kept = len(BODY) + len(b"first")  # a moment after it was read
    eventually(lambda: first.status()["cache_bytes"] >= kept)
    eventually(lambda: described_in(first) == 2)
    first.kill9()
    again = mounts("--cache-ttl", "3600", cache_dir=first.cache_dir)
    asked()
    look(again)
    assert asked() == []


def described_in(mount: Mount) -> int:
    """How many objects' attributes are on disk, where they are a moment after they were heard."""
    [path] = mount.cache_dir.glob("*/beliefs.db")
    with closing(sqlite3.connect(path)) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM attributes").fetchone()
    return int(count)


def test_second_mount_shares_the_blocks(mounts: Mounts, asked: Counter) -> None:
    first = mounts("--cache-ttl", "3600")
    look(first)
    second = mounts("--cache-ttl", "3600", cache_dir=first.cache_dir)
    asked()
    assert (second.path / "dir" / "file").read_bytes() == BODY
    assert [request for request in asked() if is_fetch(request)] == []


@pytest.mark.decision(3)
def test_own_writes_need_no_question(mounts: Mounts, asked: Counter) -> None:
    mount = mounts("--cache-ttl", "3600")
    (mount.path / "mine").write_bytes(BODY)
    mount.flush()
    asked()
    assert (mount.path / "mine").read_bytes() == BODY
    assert (mount.path / "mine").stat().st_size == len(BODY)
    assert [request for request in asked() if request.method == "GET"] == []


@pytest.mark.decision(8)
def test_listing_costs_no_head_per_file(
    mounts: Mounts, asked: Counter, s3: S3Client, bucket: str
) -> None:
    for number in range(40):
        s3.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"")
    mount = mounts()
    asked()
    assert len(os.listdir(mount.path / "many")) == 40
    heads = [request.path for request in asked() if request.method == "HEAD"]
    assert len([path for path in heads if not path.endswith("/")]) <= 10  # for the types of all


@pytest.mark.decision(2)
def test_an_open_file_never_mixes_versions(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    size = 24 << 20
    s3.put_object(Bucket=bucket, Key="file", Body=b"a" * size)
    mount = mounts("--cache-ttl", "0")
    with (mount.path / "file").open("rb", buffering=0) as file:
        assert file.read(1) == b"a"
        s3.put_object(Bucket=bucket, Key="file", Body=b"b" * size)
        try:
            rest = file.read(size)
        except OSError:
            rest = b""
        assert set(rest) <= {ord("a")}
    assert (mount.path / "file").read_bytes() == b"b" * size


def test_the_kernel_never_uses_the_size_of_another_version(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    """It keeps a file's attributes longer than we the listing; the next one tells of another."""
    for name in ("cut", "extended", "other", "read"):
        s3.put_object(Bucket=bucket, Key=name, Body=b"first")
    mount = mounts("--cache-ttl", "12")
    assert not (mount.path / "none").exists()  # lists
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + 5)
    for name in ("read", "extended", "cut"):  # each is asked for
        assert (mount.path / name).stat().st_size == 5
    assert (mount.path / "cut").read_bytes() == b"first"
    for name in ("cut", "extended", "read"):
        s3.put_object(Bucket=bucket, Key=name, Body=b"The second version")
    eventually(lambda: time.monotonic() > began + 12.5)
    assert (mount.path / "other").exists()  # lists
    assert (mount.path / "read").read_bytes() == b"The second version"
    with (mount.path / "extended").open("ab") as file:
        file.write(b" and more")
    os.truncate(mount.path / "cut", 5)
    assert (mount.path / "cut").read_bytes() == b"The s"
    mount.flush()
    for name, body in ("extended", b"The second version and more"), ("cut", b"The s"):
        assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == body


@pytest.mark.parametrize("is_held", [False, True])
def test_what_turns_out_to_be_gone_is_asked_for_again(
    mounts: Mounts, s3: S3Client, bucket: str, is_held: bool
) -> None:
    for name in ("deleted", "link", "replaced"):
        s3.put_object(Bucket=bucket, Key=f"dir/{name}", Body=BODY)
    s3.put_object(Bucket=bucket, Key="dir/link", Body=b"old", Metadata={"mode": str(0o120777)})
    mount = mounts("--cache-ttl", "3600")
    replaced, deleted, link = (mount.path / "dir" / n for n in ("replaced", "deleted", "link"))
    for path in (replaced, deleted, link):
        path.lstat()
    held = [path.open("rb") for path in (replaced, deleted) if is_held]
    s3.put_object(Bucket=bucket, Key="dir/replaced", Body=BODY[::-1] + b"!")
    s3.put_object(Bucket=bucket, Key="dir/link", Body=b"new", Metadata={"mode": str(0o120777)})
    s3.delete_object(Bucket=bucket, Key="dir/deleted")
    for path in (replaced, deleted):
        assert is_stale(path.read_bytes)
    assert replaced.read_bytes() == BODY[::-1] + b"!"
    with pytest.raises(FileNotFoundError):
        deleted.read_bytes()
    assert sorted(os.listdir(mount.path / "dir")) == ["link", "replaced"]
    assert is_stale(link.readlink) or link.readlink() == Path("new")
    assert link.readlink() == Path("new")
    for file in held:
        file.close()
    deleted.write_bytes(b"here again")
    mount.flush()
    assert s3.get_object(Bucket=bucket, Key="dir/deleted")["Body"].read() == b"here again"


def is_stale(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno == errno.ESTALE
    return False


def test_small_cache_still_reads_everything(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    body = random.Random(3).randbytes(1 << 20) * 24
    s3.put_object(Bucket=bucket, Key="large", Body=body)
    mount = mounts("--cache-size", str(4 << 20))
    for _ in range(2):
        assert (mount.path / "large").read_bytes() == body
    eventually(lambda: mount.status()["cache_bytes"] <= 8 << 20)
