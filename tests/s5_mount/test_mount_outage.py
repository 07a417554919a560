"""A server that hangs, goes away or says "later": an error in time, and never an absence."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.faults import FaultProxy
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import bucket_keys, patiently
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIZE = 40 << 20
IMPATIENT = ("--io-timeout", "2")


@contextmanager
def paused(gateway: Gateway) -> Iterator[None]:
    gateway.pause()
    try:
        yield
    finally:
        gateway.resume()


@contextmanager
def gone(gateway: Gateway) -> Iterator[None]:
    gateway.kill()
    try:
        yield
    finally:
        gateway.restart()


@contextmanager
def suppress_only(*numbers: int) -> Iterator[None]:
    """Both an answer and one of these errors will do, but no other error."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


Outage = Callable[[Gateway], AbstractContextManager[None]]
outages = pytest.mark.parametrize("outage", [paused, gone])


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    with FaultProxy(gateway) as one:
        yield one


@outages
def test_read(outage: Outage, mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str) -> None:
    body = random.Random(1).randbytes(SIZE)
    s3.put_object(Bucket=bucket, Key="large", Body=body)
    mount = mounts(*IMPATIENT)
    path = mount.path / "large"
    with patiently(lambda: path.open("rb", buffering=0)) as file:
        assert patiently(lambda: os.pread(file.fileno(), 10, 0)) == body[:10]
        with outage(gateway):
            with pytest.raises(OSError, match=r".") as caught:
                os.pread(file.fileno(), 4096, SIZE - 100_000)
            assert caught.value.errno in {errno.EIO, errno.ETIMEDOUT}
            assert mount.status()["pid"] == mount.pid
        again = patiently(lambda: os.pread(file.fileno(), 4096, SIZE - 100_000))
        assert again == body[-100_000:][:4096]
    assert patiently(path.read_bytes) == body


@outages
def test_lookup_and_listing(
    outage: Outage, mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="dir/file", Body=b"1")
    mount = mounts(*IMPATIENT, "--cache-ttl", "0")
    attempts = (
        (mount.path / "dir" / "file").stat,
        lambda: os.listdir(mount.path / "dir"),
        (mount.path / "dir" / "file").read_bytes,
    )
    with outage(gateway):
        for attempt in attempts:
            with pytest.raises(OSError, match=r".") as caught:
                attempt()
            assert caught.value.errno in {errno.EIO, errno.ETIMEDOUT}
    assert patiently(lambda: os.listdir(mount.path / "dir")) == ["file"]
    assert patiently((mount.path / "dir" / "file").read_bytes) == b"1"


@outages
def test_what_was_written_arrives_later(
    outage: Outage, mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    mount = mounts(*IMPATIENT)
    assert patiently(lambda: os.listdir(mount.path)) == []
    with outage(gateway):
        (mount.path / "file").write_bytes(b"written meanwhile")
        assert (mount.path / "file").read_bytes() == b"written meanwhile"
        assert mount.status()["pending_files"] == 1
        assert mount.unmount_unless_busy("--timeout", "1").code == 1
    eventually(mount.has_ended, within_sec=60)
    again = mounts(cache_dir=mount.cache_dir)
    assert (again.path / "file").read_bytes() == b"written meanwhile"
    again.unmount()
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"written meanwhile"
    assert bucket_keys(s3, bucket) == ["file"]


@outages
def test_cached_files_can_be_read_without_a_server(
    outage: Outage, mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"cached")
    mount = mounts(*IMPATIENT, "--cache-ttl", "3600")
    assert patiently((mount.path / "file").read_bytes) == b"cached"
    with outage(gateway):
        assert (mount.path / "file").read_bytes() == b"cached"


@pytest.mark.decision(11)
@pytest.mark.parametrize("status", [500, 503, 403])
def test_failing_head_and_list_are_no_absence(
    status: int, mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="dir/file", Body=b"precious")
    mount = mounts(*IMPATIENT, "--cache-ttl", "0", endpoint=proxy.endpoint)
    path = mount.path / "dir" / "file"

    def asks_for_names(method: str, target: str) -> bool:
        return method == "HEAD" or "list-type=2" in target

    proxy.fail(asks_for_names, status)
    attempts = (
        path.stat,
        path.read_bytes,
        path.unlink,
        lambda: path.open("xb"),
        lambda: path.rename(mount.path / "moved"),
        lambda: os.close(os.open(path, os.O_RDWR | os.O_CREAT)),
        lambda: os.listdir(mount.path / "dir"),
        (mount.path / "dir").rmdir,
    )
    for attempt in attempts:
        with pytest.raises(OSError, match=r".") as caught:
            attempt()
        assert caught.value.errno in {errno.EIO, errno.EACCES}
    assert proxy.failed > 0
    proxy.calm()
    assert patiently(path.read_bytes) == b"precious"
    mount.unmount()
    assert bucket_keys(s3, bucket) == ["dir/file"]
    assert s3.get_object(Bucket=bucket, Key="dir/file")["Body"].read() == b"precious"


@pytest.mark.decision(11)
def test_failing_head_alone_is_no_absence(
    mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    """Also with fresh listings in memory that could answer half of the question."""
    s3.put_object(Bucket=bucket, Key="file", Body=b"precious")
    mount = mounts(*IMPATIENT, endpoint=proxy.endpoint)
    assert patiently(lambda: os.listdir(mount.path)) == ["file"]
    proxy.fail(lambda method, _: method == "HEAD")
    with suppress_only(errno.EIO):
        (mount.path / "file").stat()
    assert os.listdir(mount.path) == ["file"]
    proxy.calm()
    assert patiently((mount.path / "file").read_bytes) == b"precious"


def test_upload_is_repeated_until_it_works(
    mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    mount = mounts("--upload-delay", "0", endpoint=proxy.endpoint)
    proxy.fail(lambda method, target: method == "PUT" and "/file" in target)
    (mount.path / "file").write_bytes(b"stubborn")
    eventually(lambda: proxy.failed >= 3)
    assert mount.status()["pending_files"] == 1
    proxy.calm()
    mount.flush()
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"stubborn"


def test_refused_upload_keeps_the_bytes_and_says_so(
    mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    mount = mounts("--upload-delay", "0", endpoint=proxy.endpoint)
    proxy.fail(lambda method, target: method == "PUT" and "/file" in target, 403)
    (mount.path / "file").write_bytes(b"kept")
    eventually(lambda: mount.status()["errors"])
    assert (mount.path / "file").read_bytes() == b"kept"
    descriptor = os.open(mount.path / "file", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"!")
    with pytest.raises(OSError, match=r".") as caught:
        os.fsync(descriptor)
    with suppress_only(errno.EIO, errno.EACCES):
        os.close(descriptor)
    assert caught.value.errno in {errno.EIO, errno.EACCES}
    assert mount.unmount_unless_busy("--timeout", "3").code == 1
    assert bucket_keys(s3, bucket) == []
    proxy.calm()
    mount.remove()
    again = mounts(cache_dir=mount.cache_dir, endpoint=proxy.endpoint)
    assert (again.path / "file").read_bytes() == b"kept!"
    again.unmount()
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"kept!"


@pytest.mark.decision(11)
def test_bucket_that_vanishes_is_no_empty_directory(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="file", Body=b"1")
    mount = mounts(*IMPATIENT, "--cache-ttl", "0")
    assert patiently(lambda: os.listdir(mount.path)) == ["file"]
    s3.delete_object(Bucket=bucket, Key="file")
    s3.delete_bucket(Bucket=bucket)
    try:
        with pytest.raises(OSError, match=r".") as caught:
            os.listdir(mount.path)
        assert caught.value.errno != errno.ENOENT
    finally:
        s3.create_bucket(Bucket=bucket)
