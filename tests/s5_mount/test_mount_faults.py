"""A network that breaks requests in every way it can: all bytes arrive, or the program is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.copying import (
    FAULTS,
    but_for_conflicts,
    check,
    cp,
    drain,
    in_bucket,
    in_directory,
    make_files,
    rule,
    write_files,
)
from tests.faults import Chooser, Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SEED = 5
COUNT = 500
SURE = 50  # of far more requests than that
SOON = ("--upload-delay", "0")
IMPATIENT = ("--io-timeout", "2", *SOON)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("source")
    write_files(top, make_files(SEED, COUNT))
    return top


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    with FaultProxy(gateway, SEED) as one:
        yield one


def once_at_least(fault: Fault) -> tuple[Rule, Rule]:
    """The fault at its usual share, which may be of none, and at one request of those chosen."""
    usual = rule(fault)
    return Rule(fault, usual.chooser, nth=SURE), usual


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", FAULTS)
def test_copy_in_and_out(
    fault: Fault,
    source: Path,
    mounts: Mounts,
    s3: S3Client,
    proxy: FaultProxy,
    bucket: str,
    tmp_path: Path,
) -> None:
    files = make_files(SEED, COUNT)
    mount = mounts(*IMPATIENT, endpoint=proxy.endpoint)
    proxy.inject(*once_at_least(fault))
    told = cp(source, mount.path)
    drain(mount, proxy, fault, IMPATIENT)
    check(files, but_for_conflicts(fault, files, in_bucket(s3, bucket)), told)
    assert proxy.injected[fault] > 0 or fault is Fault.WRONG_BYTES

    proxy.calm()
    again = mounts(*IMPATIENT, endpoint=proxy.endpoint)
    proxy.inject(*once_at_least(fault))
    target = tmp_path / "out"
    target.mkdir()
    told = cp(again.path, target)
    stored = in_bucket(s3, bucket)
    check(stored, in_directory(target, stored), told)
    assert proxy.injected[fault] > 0


def completes(method: str, path: str) -> bool:
    return method == "POST" and "uploadId=" in path


def begins(method: str, path: str) -> bool:
    return method == "POST" and path.endswith("uploads")


def sends_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber=" in path


def puts(method: str, path: str) -> bool:
    return method == "PUT" and path.endswith("/file")


def deletes(method: str, path: str) -> bool:
    return method == "DELETE" or (method == "POST" and path.endswith("delete"))


NO_ANSWER = (Fault.AFTER_COMMIT, Fault.RESET_ANSWER, Fault.TRUNCATED)


@pytest.mark.parametrize("fault", NO_ANSWER)
@pytest.mark.parametrize("chooser", [begins, sends_part, completes])
def test_upload_in_parts_whose_answer_is_lost(
    fault: Fault, chooser: Chooser, mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    """It was carried out: no lost file, no second one beside it, no conflict, no parts left."""
    body = make_files(SEED, 3)["d2/large2"]
    mount = mounts(*SOON, endpoint=proxy.endpoint)
    proxy.inject(*[Rule(fault, chooser, nth=number) for number in (1, 2, 3)])
    (mount.path / "file").write_bytes(body)
    drain(mount, proxy, fault, SOON)
    assert proxy.injected[fault] > 0
    assert in_bucket(s3, bucket) == {"file": body}
    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    # Nobody was told the id of one that was begun: it is like one that was never asked for.
    assert len(left) == (proxy.injected[fault] if chooser is begins else 0)


@pytest.mark.parametrize("fault", NO_ANSWER)
@pytest.mark.parametrize("old", [None, b"what was there before"])
def test_put_whose_answer_is_lost(
    fault: Fault,
    old: bytes | None,
    mounts: Mounts,
    s3: S3Client,
    proxy: FaultProxy,
    bucket: str,
) -> None:
    """Its repetition meets our own bytes, which is no conflict."""
    if old is not None:
        s3.put_object(Bucket=bucket, Key="file", Body=old)
    mount = mounts(*SOON, endpoint=proxy.endpoint)
    proxy.inject(*[Rule(fault, puts, nth=number) for number in (1, 2, 3)])
    (mount.path / "file").write_bytes(b"first")
    with (mount.path / "file").open("ab") as file:
        file.write(b" and second")
    drain(mount, proxy, fault, SOON)
    assert proxy.injected[fault] > 0
    assert in_bucket(s3, bucket) == {"file": b"first and second"}


@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize("old", [None, b"what was there before"])
def test_large_file_that_arrived_unheard_is_changed_again(
    old: bytes | None,
    dies: bool,
    mounts: Mounts,
    s3: S3Client,
    proxy: FaultProxy,
    bucket: str,
) -> None:
    """What the server has is ours, though nobody told us: no conflict, also in the next life."""
    if old is not None:
        s3.put_object(Bucket=bucket, Key="file", Body=old)
    body = bytearray(make_files(SEED, 3)["d2/large2"])
    mount = mounts(*SOON, endpoint=proxy.endpoint)

    def asks_afterwards(method: str, _: str) -> bool:
        return method == "HEAD" and proxy.injected[Fault.AFTER_COMMIT] > 0

    proxy.inject(Rule(Fault.AFTER_COMMIT, completes), Rule(Fault.SLOW_DOWN, asks_afterwards))
    (mount.path / "file").write_bytes(body)
    eventually(lambda: proxy.injected[Fault.AFTER_COMMIT])
    assert in_bucket(s3, bucket) == {"file": body}
    if dies:
        mount.kill9()
        proxy.calm()
        mount = mounts(*SOON, cache_dir=mount.cache_dir, endpoint=proxy.endpoint)
    with (mount.path / "file").open("r+b") as file:
        file.seek(len(body) // 2)
        file.write(b"changed")
    body[len(body) // 2 : len(body) // 2 + 7] = b"changed"
    proxy.calm()
    drain(mount, proxy, Fault.AFTER_COMMIT, SOON)
    assert in_bucket(s3, bucket) == {"file": body}
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_delete_whose_answer_is_lost(
    fault: Fault, mounts: Mounts, s3: S3Client, proxy: FaultProxy, bucket: str
) -> None:
    """Repeating it must not take the file that was made anew meanwhile."""
    for key in ("file", "gone"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"old")
    mount = mounts(*SOON, endpoint=proxy.endpoint)
    proxy.inject(*[Rule(fault, deletes, nth=number) for number in (1, 2, 3)])
    (mount.path / "file").unlink()
    (mount.path / "gone").unlink()
    eventually(lambda: proxy.injected[fault])
    (mount.path / "file").write_bytes(b"made anew")
    drain(mount, proxy, fault, SOON)
    assert in_bucket(s3, bucket) == {"file": b"made anew"}
