"""``qarnotfs warm`` and ``mount --pin``: what they fetch is there, once, and stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli
from tests.s5_mount.test_mount_time import Counter
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COUNT, SIZE = 40, 10_000


@pytest.fixture
def asked(gateway: Gateway, bucket: str, s3: S3Client) -> Counter:
    for number in range(COUNT):
        s3.put_object(
            Bucket=bucket, Key=f"p/d{number % 3}/{number:02}", Body=bytes([number]) * SIZE
        )
    s3.put_object(Bucket=bucket, Key="q/large", Body=bytes(30 << 20))
    return Counter(gateway, bucket)


def read_all(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            assert Path(folder, name).read_bytes() == bytes([int(name)]) * SIZE


def test_warm_then_mount_asks_nothing(
    cli: Cli, mounts: Mounts, asked: Counter, bucket: str, tmp_path: Path
) -> None:
    cache_dir = tmp_path / "cache0"
    done = cli("warm", f"{bucket}:p/", "--cache-dir", cache_dir).ok()
    assert f"{COUNT} files" in done.out
    fetched = [request for request in asked() if "list-type" not in request.path]
    assert [request.method for request in fetched] == ["GET"] * COUNT
    cli("warm", f"{bucket}:p/", "--cache-dir", cache_dir).ok()
    assert all("list-type" in request.path for request in asked())
    mount = mounts("--cache-ttl", "3600", cache_dir=cache_dir)
    (mount.path / "p").stat()  # the root was not warmed
    asked()
    read_all(mount.path / "p")
    assert asked() == []


def test_warm_says_when_the_cache_is_too_small(
    cli: Cli, asked: Counter, bucket: str, tmp_path: Path
) -> None:
    place = ("--cache-dir", tmp_path, "--cache-size", "10M")
    done = cli("warm", bucket, *place)
    assert done.code == 2
    assert "--cache-size" in done.err
    fetched = [request for request in asked() if request.method == "GET"]
    assert all("list-type" in request.path for request in fetched)
    assert "not pinned" in cli("warm", "--unpin", f"{bucket}:p/", *place).ok().out
    cli("warm", f"{bucket}:p/", *place).ok()
    assert "not pinned any more" in cli("warm", "--unpin", f"{bucket}:p/", *place).ok().out


@pytest.mark.decision(14)
def test_mount_pins_and_a_stream_does_not_push_it_out(
    mounts: Mounts, asked: Counter, bucket: str
) -> None:
    mount = mounts("--pin", "p/", "--pin", "q/", "--cache-size", "8M", "--cache-ttl", "3600")

    def pins() -> list[dict[str, object]]:
        found = mount.status()["pins"]
        return found if len(found) == 2 and found[0]["done"] and found[1]["message"] else []

    first, second = eventually(pins)
    assert (first["files"], first["failed"]) == (COUNT, {})
    assert "--cache-size" in str(second["message"])
    assert "'p/' is pinned: 40 files" in mount.text_status()
    assert "'q/' is not pinned" in mount.text_status()
    assert (mount.path / "q" / "large").read_bytes() == bytes(30 << 20)
    asked()
    read_all(mount.path / "p")
    assert [request for request in asked() if "/p/" in request.path] == []
