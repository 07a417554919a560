"""Two mounts on one cache directory die with the same file unsent: the next one uploads both."""

from __future__ import annotations

import os
import random
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOLD = ("--upload-delay", "3600", "--cache-ttl", "0")
SMALL, LARGE = 100, 17 << 20  # one PUT, and several parts
sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["put", "multipart"])


def bodies(size: int) -> tuple[bytes, bytes, bytes]:
    dice = random.Random(size)
    return dice.randbytes(size), dice.randbytes(size + 1), dice.randbytes(size + 2)


def stored(s3: S3Client, bucket: str) -> dict[str, bytes]:
    return {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in bucket_keys(s3, bucket)
    }


def uploads_with_parts(s3: S3Client, bucket: str) -> int:
    """Who has sent a part has the upload on record."""
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    parts = (s3.list_parts(Bucket=bucket, Key=u["Key"], UploadId=u["UploadId"]) for u in uploads)
    return sum(bool(answer.get("Parts")) for answer in parts)


def both(mounts: Mounts, cache: Path) -> tuple[Mount, Mount]:
    return mounts(*HOLD, cache_dir=cache), mounts(*HOLD, cache_dir=cache)


def heir(mounts: Mounts, cache: Path, *dead: Mount) -> Mount:
    for mount in dead:
        mount.kill9()
    return mounts(*HOLD, cache_dir=cache)


@pytest.mark.decision(4)
@sizes
@pytest.mark.parametrize("before", [False, True], ids=["new", "rewritten"])
def test_both_versions_arrive(
    size: int, before: bool, mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    base, one, two = bodies(size)
    if before:
        s3.put_object(Bucket=bucket, Key="file", Body=base)
    first, second = both(mounts, tmp_path / "cache")
    (first.path / "file").write_bytes(one)
    (second.path / "file").write_bytes(two)
    last = heir(mounts, tmp_path / "cache", first, second)
    beside = [path for path in last.path.iterdir() if path.name != "file"]
    assert len(beside) == 1
    assert re.match(r"file\.conflict-", beside[0].name)
    shown = {path.name: path.read_bytes() for path in last.path.iterdir()}
    assert sorted(shown.values()) == sorted((one, two))
    last.unmount()
    assert stored(s3, bucket) == shown


def test_both_versions_arrive_of_files_half_sent(
    mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    """Each had begun an upload to the same key; the heir goes on with one and gives one up."""
    _, one, two = bodies(LARGE)
    first, second = both(mounts, tmp_path / "cache")
    descriptors: list[int] = []
    for number, (mount, body) in enumerate(((first, one), (second, two)), 1):
        descriptors.append(os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT))
        assert os.write(descriptors[-1], body) == len(body)
        eventually(lambda number=number: uploads_with_parts(s3, bucket) == number)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        os.close(os.dup(descriptors[-1]))  # on record, but not to be sent yet
    ours = heir(mounts, tmp_path / "cache", first, second)
    for descriptor in descriptors:
        with suppress(OSError):  # of a mount that is dead
            os.close(descriptor)
    ours.unmount()
    assert sorted(stored(s3, bucket).values()) == sorted((one, two))
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_both_appends_are_kept(mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    """Each is a whole file of its own, built upon the same version in the bucket."""
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    first, second = both(mounts, tmp_path / "cache")
    for mount, more in ((first, b"+one"), (second, b"+two")):
        with (mount.path / "file").open("ab") as file:
            file.write(more)
    heir(mounts, tmp_path / "cache", first, second).unmount()
    assert sorted(stored(s3, bucket).values()) == [b"base+one", b"base+two"]


def test_three_deaths_in_a_row(mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    """The heir dies, too, before it has sent anything, with a version of its own."""
    first, second = both(mounts, tmp_path / "cache")
    (first.path / "file").write_bytes(b"one")
    (second.path / "file").write_bytes(b"two")
    third = heir(mounts, tmp_path / "cache", first, second)
    kept = (third.path / "file").read_bytes()
    (third.path / "file").write_bytes(b"three")
    heir(mounts, tmp_path / "cache", third).unmount()
    assert sorted(stored(s3, bucket).values()) == sorted({b"one", b"two"} - {kept} | {b"three"})
