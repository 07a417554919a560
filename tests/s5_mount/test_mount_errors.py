"""Errors reach the program: at close, at fsync, in `status` and at the file; the bytes are kept."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SOON = ("--upload-delay", "0")
BODY = b"what a program wrote"


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    with FaultProxy(gateway) as one:
        yield one


def puts_file(method: str, target: str) -> bool:
    return method == "PUT" and "/file" in target


def error_of(call: Any, *arguments: Any) -> int | None:
    """The errno of a system call, ``None`` when it worked."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def close_error(path: Path, flags: int = os.O_WRONLY) -> int | None:
    """What the close of a descriptor through which nothing was written says."""
    return error_of(os.close, os.open(path, flags))


def fsync_error(path: Path) -> int | None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return error_of(os.fsync, descriptor)
    finally:
        with suppress(OSError):
            os.close(descriptor)


def refused(mounts: Mounts, proxy: FaultProxy, *options: str) -> Mount:
    """A mount whose bucket has refused ``file`` for good, and would take it now."""
    mount = mounts(*SOON, *options, endpoint=proxy.endpoint)
    proxy.fail(puts_file, 403)
    with suppress(OSError):
        (mount.path / "file").write_bytes(BODY)
    eventually(lambda: mount.status()["errors"])
    proxy.calm()
    return mount


@pytest.mark.decision(1)
def test_a_refused_file_says_so_until_it_is_written_anew(
    mounts: Mounts, proxy: FaultProxy, s3: S3Client, bucket: str
) -> None:
    path = refused(mounts, proxy).path / "file"
    assert [close_error(path) for _ in range(2)] == [errno.EIO] * 2
    assert [fsync_error(path) for _ in range(2)] == [errno.EIO] * 2
    assert close_error(path, os.O_RDONLY) is None  # who only read it has lost nothing
    path.write_bytes(b"anew")
    assert (close_error(path), fsync_error(path)) == (None, None)
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"anew"


@pytest.mark.decision(1)
def test_a_refused_file_is_named_and_its_bytes_are_there(mounts: Mounts, proxy: FaultProxy) -> None:
    mount = refused(mounts, proxy)
    path = mount.path / "file"
    [error] = mount.status()["errors"]
    assert (error["path"], error["key"], error["failed"]) == ("file", "file", True)
    assert path.read_bytes() == BODY
    assert error["staged_whole"]
    assert Path(error["staged_file"]).read_bytes() == BODY
    assert os.getxattr(path, "user.qarnotfs.state") == b"failed"
    assert os.getxattr(path, "user.qarnotfs.error").decode() == error["message"]
    heading, row, *sentences = mount.text_status().splitlines()
    assert row.split()[-1] == "1"  # of errors
    assert "0 (0 B)" in row[heading.index("To upload") :]
    kept = f"It is kept in {error['staged_file']}."
    then = "Remove the reason, then mount the bucket again, or write it anew."
    assert sentences[:2] == [
        f"{path}: {error['message']} {kept} {then}",
        f"{mount.path}: 1 file refused ({len(BODY)} B)",
    ]
    (mount.path / "elsewhere").write_bytes(path.read_bytes())  # the others are not held up
    eventually(lambda: os.getxattr(mount.path / "elsewhere", "user.qarnotfs.state") == b"clean")


def test_close_that_waits_says_it_at_once(
    mounts: Mounts, proxy: FaultProxy, s3: S3Client, bucket: str
) -> None:
    mount = mounts("--close", "wait", endpoint=proxy.endpoint)
    proxy.fail(puts_file, 403)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, BODY)
    assert error_of(os.close, descriptor) == errno.EIO
    assert (mount.path / "file").read_bytes() == BODY
    proxy.calm()
    (mount.path / "file").write_bytes(b"anew")
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"anew"


def test_a_bucket_that_is_gone(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    mount = mounts(*SOON)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, BODY)
    s3.delete_bucket(Bucket=bucket)
    try:
        assert error_of(os.fsync, descriptor) == errno.EIO
        with suppress(OSError):
            os.close(descriptor)
        [error] = mount.status()["errors"]
        assert error["message"].startswith(f"There is no bucket '{bucket}'")
        assert Path(error["staged_file"]).read_bytes() == BODY
    finally:
        s3.create_bucket(Bucket=bucket)
    mount.remove()
    mounts(cache_dir=mount.cache_dir).unmount()  # tried again by the next mount
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == BODY


# --- the patience of those who wait ----------------------------------------------------------

PATIENT_SEC = 2.0
PATIENCE = ("--fsync-timeout", f"{PATIENT_SEC:g}s")


@pytest.mark.decision(1)
@pytest.mark.parametrize("close", ["later", "wait"])
def test_an_outage_ends_the_wait_and_not_the_upload(
    close: str, mounts: Mounts, gateway: Gateway, s3: S3Client, bucket: str
) -> None:
    mount = mounts(*SOON, *PATIENCE, "--close", close)
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, BODY)
    gateway.kill()
    ending = os.close if close == "wait" else os.fsync
    began = time.monotonic()
    assert error_of(ending, descriptor) == errno.EIO
    assert time.monotonic() - began >= PATIENT_SEC
    assert fsync_error(mount.path / "file") == errno.EIO  # waits again, for as long
    assert time.monotonic() - began >= 2 * PATIENT_SEC
    assert mount.status()["pending_files"] == 1
    gateway.restart()
    assert eventually(lambda: fsync_error(mount.path / "file") is None, within_sec=90)
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == BODY
    if close == "later":
        os.close(descriptor)


@pytest.mark.decision(1)
def test_a_long_upload_is_no_outage(
    mounts: Mounts, proxy: FaultProxy, s3: S3Client, bucket: str
) -> None:
    """It takes longer than anybody is patient, but the bucket takes something all the time."""
    patient_sec = 6.0  # a busy machine, too, does something in that time
    mount = mounts(*SOON, "--fsync-timeout", f"{patient_sec:g}s", endpoint=proxy.endpoint)
    proxy.inject(Rule(Fault.SLOW, puts_file))
    body = os.urandom(7 << 20)  # 14 s on that line, and one PUT
    synced = threading.Event()

    def keep_busy() -> None:
        for number in itertools.count():
            if synced.is_set():
                return
            with (mount.path / f"small{number}").open("wb", buffering=0) as file:
                file.write(b"x")
                os.fsync(file.fileno())

    other = threading.Thread(target=keep_busy)
    other.start()
    began = time.monotonic()
    try:
        with (mount.path / "file").open("wb", buffering=0) as file:
            file.write(body)
            os.fsync(file.fileno())
    finally:
        synced.set()
        other.join()
    assert time.monotonic() - began > patient_sec
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == body
