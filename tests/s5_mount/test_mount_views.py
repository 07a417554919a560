"""A view of a bucket: some keys only, without their prefix, and what may be written there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import bucket_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["projects/a/one", "projects/two", "projects-old/three", "other/four", "five"]


@pytest.fixture
def filled(s3: S3Client, bucket: str) -> str:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def files(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
    }


@pytest.mark.decision(7)
def test_filter_and_strip(mounts: Mounts, s3: S3Client, filled: str) -> None:
    mount = mounts("--prefix", "projects/", "--strip-prefix", "projects/")
    assert files(mount.path) == {"a/one": b"projects/a/one", "two": b"projects/two"}
    (mount.path / "a" / "new").write_bytes(b"new")
    (mount.path / "dir").mkdir()
    (mount.path / "dir" / "file").write_bytes(b"in dir")
    (mount.path / "two").rename(mount.path / "moved")
    (mount.path / "a" / "one").unlink()
    mount.unmount()
    keys = [key for key in bucket_keys(s3, filled) if not key.endswith("/")]
    assert keys == sorted(["projects/a/new", "projects/dir/file", "projects/moved", *KEYS[2:]])
    answer = s3.get_object(Bucket=filled, Key="projects/a/new")
    assert answer["Body"].read() == b"new"


@pytest.mark.decision(7)
def test_filter_is_a_string_not_a_directory(mounts: Mounts, filled: str) -> None:
    mount = mounts("--prefix", "projects")
    assert set(files(mount.path)) == {"projects/a/one", "projects/two", "projects-old/three"}


def test_strip_alone_shows_everything(mounts: Mounts, s3: S3Client, filled: str) -> None:
    mount = mounts("--strip-prefix", "projects/")
    assert set(files(mount.path)) == {"a/one", "two", "projects-old/three", "other/four", "five"}
    (mount.path / "five").write_bytes(b"changed")  # keeps the key it had
    (mount.path / "new").write_bytes(b"new")
    mount.unmount()
    assert set(bucket_keys(s3, filled)) == {*KEYS, "projects/new"}


@pytest.mark.decision(7)
@pytest.mark.parametrize("name", ["outside", "other"])
def test_writing_outside_the_filter_is_refused(
    name: str, mounts: Mounts, s3: S3Client, gateway: Gateway, filled: str
) -> None:
    mount = mounts("--prefix", "projects/")
    mark = gateway.mark()
    path = mount.path / name
    attempts: dict[str, Callable[[], object]] = {
        "create": lambda: path.write_bytes(b"no"),
        "mkdir": path.mkdir,
        "symlink": lambda: path.symlink_to("projects"),
        "rename": lambda: (mount.path / "projects" / "two").rename(path),
        "rename directory": lambda: (mount.path / "projects" / "a").rename(path),
    }
    answers = {}
    for what, attempt in attempts.items():
        with pytest.raises(OSError, match=r".") as caught:
            attempt()
        answers[what] = caught.value.errno
    assert answers == dict.fromkeys(attempts, errno.EPERM)
    assert os.listdir(mount.path) == ["projects"]
    mount.unmount()
    assert bucket_keys(s3, filled) == sorted(KEYS)
    changes = [r for r in gateway.requests(mark) if r.method not in {"GET", "HEAD"}]
    assert [r for r in changes if r.path.startswith(f"/{filled}/")] == []


def test_filter_is_asked_of_the_server(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    """What is outside of the view costs nothing."""
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"outside/{number}", Body=b"")
    s3.put_object(Bucket=bucket, Key="inside/x", Body=b"")
    mount = mounts("--prefix", "inside/")
    mark = gateway.mark()
    assert set(files(mount.path)) == {"inside/x"}
    lists = [r.path for r in gateway.requests(mark) if "list-type=2" in r.path]
    assert lists
    assert all("prefix=inside" in path for path in lists)


def test_spec_of_the_sdk(mounts: Mounts, s3: S3Client, filled: str, tmp_path: Path) -> None:
    spec = {
        "bucketName": filled,
        "filtering": {"prefixFiltering": {"prefix": "projects/"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "projects/"}},
        "cacheTTLSec": 1000,
    }
    path = tmp_path / "bucket.json"
    path.write_text(json.dumps(spec))
    mount = mounts("--spec", path)
    assert set(files(mount.path)) == {"a/one", "two"}
    (mount.path / "new").write_bytes(b"new")
    mount.unmount()
    assert "projects/new" in bucket_keys(s3, filled)


def test_read_only(mounts: Mounts, s3: S3Client, filled: str) -> None:
    mount = mounts("--read-only")
    path = mount.path / "five"
    assert path.read_bytes() == b"five"
    attempts = (
        lambda: path.write_bytes(b"no"),
        path.unlink,
        lambda: path.rename(mount.path / "six"),
        lambda: path.chmod(0o600),
        (mount.path / "dir").mkdir,
        (mount.path / "new").touch,
    )
    for attempt in attempts:
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()
    mount.unmount()
    assert bucket_keys(s3, filled) == sorted(KEYS)
    assert s3.get_object(Bucket=filled, Key="five")["Body"].read() == b"five"
