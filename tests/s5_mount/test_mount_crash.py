"""Nothing is lost: the daemon dies, the mount is taken away, the upload meets somebody else."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.crashing import HOLD, content, kill_during_upload, mount_again
from tests.s5_mount.mounting import Cli, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.decision(1)
def test_kill_between_close_and_upload(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    body = random.Random(1).randbytes(3_000_000)
    first = mounts(*HOLD)
    (first.path / "small").write_bytes(b"small")
    (first.path / "large").write_bytes(body)
    (first.path / "dir").mkdir()
    (first.path / "dir" / "empty").touch()
    first.kill9()
    assert bucket_keys(s3, bucket) == []
    with pytest.raises(OSError, match=r".") as caught:
        os.listdir(first.path)  # visibly dead, not an empty directory
    assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    again = mount_again(mounts, first)
    assert (again.path / "large").read_bytes() == body
    eventually(lambda: content(s3, bucket, "large") == body)
    eventually(lambda: content(s3, bucket, "small") == b"small")
    eventually(lambda: content(s3, bucket, "dir/empty") == b"")
    again.unmount()


def test_a_fresh_mount_elsewhere_uploads_too(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """What is owed belongs to the bucket and the cache directory, not to the mountpoint."""
    first = mounts(*HOLD)
    (first.path / "file").write_bytes(b"owed")
    first.kill9()
    mounts(cache_dir=first.cache_dir)
    eventually(lambda: content(s3, bucket, "file") == b"owed")


def test_kill_keeps_every_kind_of_change(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    for key in ("deleted", "moved", "changed", "touched", "tree/a", "tree/b"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 1000)
    first = mounts(*HOLD)
    (first.path / "deleted").unlink()
    (first.path / "moved").rename(first.path / "arrived")
    (first.path / "tree").rename(first.path / "forest")
    with (first.path / "changed").open("r+b") as file:
        file.write(b"CHANGED")
    (first.path / "touched").chmod(0o600)
    expected = sorted(os.listdir(first.path))
    first.kill9()
    again = mount_again(mounts, first)
    assert sorted(os.listdir(again.path)) == expected
    assert (again.path / "changed").read_bytes() == b"CHANGED" + (b"changed" * 1000)[7:]
    again.unmount()
    keys = [key for key in bucket_keys(s3, bucket) if not key.endswith("/")]
    assert keys == ["arrived", "changed", "forest/a", "forest/b", "touched"]
    assert content(s3, bucket, "arrived") == b"moved" * 1000
    assert content(s3, bucket, "forest/b") == b"tree/b" * 1000
    assert content(s3, bucket, "changed") == b"CHANGED" + (b"changed" * 1000)[7:]
    mode = s3.head_object(Bucket=bucket, Key="touched")["Metadata"]["mode"]
    assert int(mode) & 0o777 == 0o600


def test_kill_during_upload(mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway) -> None:
    body = random.Random(2).randbytes(1 << 20) * 48
    first = kill_during_upload(mounts, gateway, body)
    again = mount_again(mounts, first)
    assert (again.path / "large").read_bytes() == body
    again.unmount()
    assert content(s3, bucket, "large") == body


def test_no_parts_of_a_killed_upload_stay(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """They cannot be seen in a listing, and are paid for."""
    first = kill_during_upload(mounts, gateway, bytes(48 << 20))
    mount_again(mounts, first).unmount()
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_kill_twice(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    first = mounts(*HOLD)
    (first.path / "one").write_bytes(b"1")
    first.kill9()
    second = mount_again(mounts, first, *HOLD)
    (second.path / "two").write_bytes(b"2")
    (second.path / "one").rename(second.path / "three")
    second.kill9()
    third = mount_again(mounts, first)
    assert sorted(os.listdir(third.path)) == ["three", "two"]
    third.unmount()
    assert bucket_keys(s3, bucket) == ["three", "two"]
    assert content(s3, bucket, "three") == b"1"


def test_unmount_uploads_what_is_left(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*HOLD)
    for number in range(20):
        (mount.path / f"file{number:02}").write_bytes(b"%d" % number)
    assert mount.status()["pending_files"] == 20
    assert mount.status()["pending_bytes"] == 30
    mount.unmount()
    assert len(bucket_keys(s3, bucket)) == 20
    assert mount.has_ended()
    assert not mount.is_mounted()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "fusermount3"])
def test_other_ways_to_end_upload_too(how: str, mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*HOLD)
    (mount.path / "file").write_bytes(b"content")
    if how == "fusermount3":
        subprocess.run(["fusermount3", "-u", mount.path], check=True)
    else:
        mount.signal(signal.Signals[how])
    eventually(mount.has_ended)
    assert not mount.is_mounted()
    assert content(s3, bucket, "file") == b"content"


def test_unmount_of_a_busy_mount_says_so(mounts: Mounts) -> None:
    mount = mounts()
    (mount.path / "file").write_bytes(b"1")
    with (mount.path / "file").open("rb") as file:
        done = mount.try_unmount()
        assert done.code != 0
        assert "close the programs" in done.err
        assert file.read() == b"1"
        assert mount.status()["state"] == "serving"
    mount.unmount()


def test_flush_uploads_now(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*HOLD)
    (mount.path / "file").write_bytes(b"content")
    mount.flush()
    assert content(s3, bucket, "file") == b"content"
    assert mount.status()["pending_files"] == 0


@pytest.mark.decision(1)
def test_fsync_does_not_wait_for_the_delay(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*HOLD)
    with (mount.path / "file").open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
        assert content(s3, bucket, "file") == b"content"


@pytest.mark.decision(1)
def test_close_wait_means_it_is_in_the_bucket(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts("--close", "wait")
    (mount.path / "file").write_bytes(b"content")
    assert content(s3, bucket, "file") == b"content"


def test_conflict_keeps_both(mounts: Mounts, cli: Cli, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="notes.txt", Body=b"base")
    mount = mounts(*HOLD)
    assert (mount.path / "notes.txt").read_bytes() == b"base"
    (mount.path / "notes.txt").write_bytes(b"ours")
    s3.put_object(Bucket=bucket, Key="notes.txt", Body=b"theirs")
    mount.flush()
    stored = {content(s3, bucket, key) for key in bucket_keys(s3, bucket)}
    assert stored == {b"theirs", b"ours"}
    assert content(s3, bucket, "notes.txt") == b"theirs"
    assert "notes.txt.conflict-" in cli("status").ok().out


@pytest.mark.decision(4)
def test_conflict_over_a_part_of_a_file_loses_nothing(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    """The rest of our version may be gone for good; then what was written is kept, and said."""
    s3.put_object(Bucket=bucket, Key="log", Body=b"base")
    mount = mounts(*HOLD)
    with (mount.path / "log").open("ab") as file:
        file.write(b" and ours")
    s3.put_object(Bucket=bucket, Key="log", Body=b"theirs")
    flushed = mount.try_flush()
    assert content(s3, bucket, "log") == b"theirs"
    ours = [content(s3, bucket, key) for key in bucket_keys(s3, bucket) if key != "log"]
    if ours:
        assert (ours, flushed.code) == ([b"base and ours"], 0)
    else:
        assert flushed.code == 1
        [error] = mount.status()["errors"]
        assert b" and ours" in Path(error["staged_file"]).read_bytes()


def test_conflict_of_two_new_files_keeps_both(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*HOLD)
    (mount.path / "new").write_bytes(b"ours")
    s3.put_object(Bucket=bucket, Key="new", Body=b"theirs")
    mount.flush()
    stored = {content(s3, bucket, key) for key in bucket_keys(s3, bucket)}
    assert stored == {b"theirs", b"ours"}


def test_conflict_overwrite(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"base")
    mount = mounts(*HOLD, "--on-conflict", "overwrite")
    (mount.path / "file").write_bytes(b"ours")
    s3.put_object(Bucket=bucket, Key="file", Body=b"theirs")
    mount.flush()
    assert bucket_keys(s3, bucket) == ["file"]
    assert content(s3, bucket, "file") == b"ours"


def test_two_mounts_of_one_cache_directory(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    first = mounts()
    second = mounts(cache_dir=first.cache_dir)
    (first.path / "one").write_bytes(b"1")
    (second.path / "two").write_bytes(b"2")
    first.unmount()
    second.unmount()
    assert bucket_keys(s3, bucket) == ["one", "two"]


def test_full_cache_disk_is_the_writers_error(
    mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    """What was accepted before stays intact."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    try:
        mount = mounts(*HOLD, cache_dir=disk)
        (mount.path / "accepted").write_bytes(b"a" * 1_000_000)
        with pytest.raises(OSError, match="No space left"):
            (mount.path / "too large").write_bytes(bytes(40 << 20))
        (mount.path / "too large").unlink(missing_ok=True)
        mount.unmount()
        assert content(s3, bucket, "accepted") == b"a" * 1_000_000
        assert bucket_keys(s3, bucket) == ["accepted"]
    finally:
        mount.remove()
        subprocess.run(["umount", "-l", disk], check=True)
