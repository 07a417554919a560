"""A mount that lacks what it needs to end. Nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.getuid() != 0, reason="only root mounts without fusermount3"),
]


@pytest.fixture
def no_fusermount3(tmp_path: Path) -> dict[str, str]:
    """An environment in which there is no more than what mounts."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mount").symlink_to(shutil.which("mount") or "")
    return {"PATH": str(programs)}


def content(s3: S3Client, bucket: str) -> dict[str, bytes]:
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_without_fusermount3_a_signal_ends_it(
    place: Mount, no_fusermount3: dict[str, str], s3: S3Client, bucket: str
) -> None:
    place.start([], no_fusermount3)
    with (place.path / "open").open("wb", buffering=0) as file:
        file.write(b"not closed")
        place.signal(signal.SIGTERM)
        eventually(lambda: not place.is_mounted())
        file.write(b" yet")
    eventually(place.has_ended)
    assert content(s3, bucket) == {"open": b"not closed yet"}


def test_without_fusermount3_a_mount_takes_the_place_of_a_dead_one(
    place: Mount, no_fusermount3: dict[str, str], s3: S3Client, bucket: str
) -> None:
    place.start(["--upload-delay", "1h"], no_fusermount3)
    (place.path / "file").write_bytes(b"owed")
    place.kill9()
    place.start([], no_fusermount3)
    assert (place.path / "file").read_bytes() == b"owed"
    place.unmount()
    assert not place.is_mounted()
    assert content(s3, bucket) == {"file": b"owed"}
