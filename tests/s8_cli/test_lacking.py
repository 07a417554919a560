"""A mount that lacks what it needs to end. Nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.mounting import PROGRAM, Cli, Mount
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


STANDARD = 3  # input, output and errors: whoever is allowed no others can open nothing


def test_as_many_files_are_written_at_once_as_the_system_allows(place: Mount, cli: Cli) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = f"--nofile={hard // 2}:{hard}"
    mount = PROGRAM, "mount", place.bucket, place.path, "--cache-dir", place.cache_dir
    subprocess.run(["prlimit", few, *mount], env=cli.environment, check=True)
    place.pid = place.status()["pid"]
    assert resource.prlimit(place.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_without_descriptors_it_lives_and_a_signal_ends_it(
    place: Mount, s3: S3Client, bucket: str
) -> None:
    place.start(["--upload-delay", "1h"], {})
    before = resource.prlimit(place.pid, resource.RLIMIT_NOFILE)
    with (place.path / "open").open("wb", buffering=0) as file:
        file.write(b"not closed")
        resource.prlimit(place.pid, resource.RLIMIT_NOFILE, (STANDARD, before[1]))
        with pytest.raises(OSError, match=r"."), (place.path / "other").open("wb") as other:
            other.write(b"no room for it")
        assert place.status()["state"] == "unreachable"
        file.write(b" yet")
        place.signal(signal.SIGTERM)
        eventually(lambda: not place.is_mounted())
    resource.prlimit(place.pid, resource.RLIMIT_NOFILE, before)
    eventually(place.has_ended)
    assert content(s3, bucket)["open"] == b"not closed yet"
