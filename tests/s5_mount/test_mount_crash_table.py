"""The crash table of docs/CONCURRENCY.md, row by row: the daemon is killed at that very step.

Where the step is too short to be met, the journal or a request is held from outside, until
the daemon stands there. Row 9 lies between two system calls: what it leaves is made by hand.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.crashing import (
    HOLD,
    Gate,
    content,
    is_waiting,
    journal_held,
    journals,
    kill_during_upload,
    mount_again,
    rows,
    set_aside,
    staged_files,
    syncing,
)
from tests.s5_mount.mounting import PROGRAM, Cli, Mount, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TABLE = Path(__file__).parents[2] / "docs" / "CONCURRENCY.md"
LARGE = random.Random(6).randbytes(9 << 20)  # sent in parts


def test_every_row_has_a_test() -> None:
    steps = re.findall(r"^\| (\d+)\. ", TABLE.read_text(), re.MULTILINE)
    tested = {name.split("_")[2] for name in globals() if name.startswith("test_row_")}
    assert steps
    assert steps == sorted(tested, key=int)


def arrives(
    mounts: Mounts, s3: S3Client, dead: Mount, expected: dict[str, bytes], endpoint: str = ""
) -> None:
    """The next mount uploads exactly this, and owes and keeps nothing afterwards."""
    again = mount_again(mounts, dead, endpoint=endpoint)
    again.unmount()
    assert bucket_keys(s3, dead.bucket) == sorted(expected)
    for key, data in expected.items():
        assert content(s3, dead.bucket, key) == data
    assert staged_files(dead.cache_dir) == []
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=dead.bucket)


def leave_unclosed(mount: Mount, name: str, data: bytes) -> int:
    """Write without closing; the descriptor is the caller's."""
    descriptor = os.open(mount.path / name, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, data)
    return descriptor


def close_dead(descriptor: int) -> None:
    with suppress(OSError):  # its mount has died
        os.close(descriptor)


def close_slowly(descriptor: int) -> threading.Thread:
    """Close in a thread, which waits for the daemon as long as that lives."""
    thread = threading.Thread(target=close_dead, args=(descriptor,))
    thread.start()
    return thread


def test_row_1_while_a_program_writes(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    first = mounts()
    descriptor = leave_unclosed(first, "half", b"half")
    first.kill9()
    close_dead(descriptor)
    again = mount_again(mounts, first)
    assert "was not closed" in again.status()["findings"][0]
    assert os.listdir(again.path) == []
    again.unmount()
    assert bucket_keys(s3, bucket) == []
    assert set_aside(first.cache_dir) == [b"half"]


def test_row_1_while_a_large_file_streams(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """Its first parts are in the bucket already, where no listing shows them."""
    mark = gateway.mark()
    first = mounts()
    descriptor = leave_unclosed(first, "large", LARGE + LARGE)
    eventually(lambda: any("partNumber=" in r.path for r in gateway.requests(mark)))
    first.kill9()
    close_dead(descriptor)
    arrives(mounts, s3, first, {})
    assert set_aside(first.cache_dir) == [LARGE + LARGE]


def test_row_2_before_the_record(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    first = mounts()
    descriptor = leave_unclosed(first, "half", b"half")
    with journal_held(*journals(first.cache_dir)):
        closing = close_slowly(descriptor)
        eventually(lambda: is_waiting(first.pid))
        first.kill9()
    closing.join()
    arrives(mounts, s3, first, {})
    assert set_aside(first.cache_dir) == [b"half"]


def test_row_3_after_the_record(mounts: Mounts, s3: S3Client) -> None:
    first = mounts(*HOLD)
    (first.path / "file").write_bytes(b"closed")
    first.kill9()
    arrives(mounts, s3, first, {"file": b"closed"})


def test_row_4_reopened_and_written_again(mounts: Mounts, s3: S3Client) -> None:
    first = mounts(*HOLD)
    (first.path / "file").write_bytes(b"closed")
    descriptor = os.open(first.path / "file", os.O_WRONLY)
    os.pwrite(descriptor, b"C", 0)
    first.kill9()
    close_dead(descriptor)
    arrives(mounts, s3, first, {"file": b"Closed"})


def test_row_4_reopened_and_cut_off(mounts: Mounts, s3: S3Client) -> None:
    """As an editor saves: what was closed counts until the new content is."""
    first = mounts(*HOLD)
    (first.path / "file").write_bytes(b"closed")
    descriptor = os.open(first.path / "file", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"half")
    first.kill9()
    close_dead(descriptor)
    arrives(mounts, s3, first, {"file": b"closed"})
    assert set_aside(first.cache_dir) == [b"half"]


def test_row_5_while_a_put_is_on_its_way(mounts: Mounts, s3: S3Client, gateway: Gateway) -> None:
    gate = Gate(lambda method, path: method == "PUT" and path.endswith("/file"))
    with FaultProxy(gateway) as proxy:
        first = mounts(endpoint=proxy.endpoint)
        proxy.fail(gate)
        (first.path / "file").write_bytes(b"closed")
        gate.wait()
        first.kill9()
        gate.open()
        arrives(mounts, s3, first, {"file": b"closed"}, proxy.endpoint)


def test_row_6_while_parts_are_on_their_way(mounts: Mounts, s3: S3Client, gateway: Gateway) -> None:
    body = random.Random(2).randbytes(1 << 20) * 48
    first = kill_during_upload(mounts, gateway, body)
    arrives(mounts, s3, first, {"large": body})


def test_row_6_sends_again_only_what_had_not_arrived(
    mounts: Mounts, s3: S3Client, gateway: Gateway
) -> None:
    body = LARGE * 4
    with FaultProxy(gateway) as proxy:
        first = mounts(*HOLD, endpoint=proxy.endpoint)
        proxy.inject(Rule(Fault.HANG, lambda _, path: "partNumber=3&" in f"{path}&"))
        (first.path / "large").write_bytes(body)
        [journal] = journals(first.cache_dir)
        with syncing(first.path / "large"):
            eventually(lambda: rows(journal, "parts") == 4)
            first.kill9()
        proxy.calm()
        mark = gateway.mark()
        arrives(mounts, s3, first, {"large": body}, proxy.endpoint)
        sent = [r for r in gateway.requests(mark) if r.method == "PUT" and "partNumber=" in r.path]
    assert len(sent) == 1


@pytest.mark.parametrize("patched", [False, True])
def test_row_7_before_the_object_is_paid(
    patched: bool, mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """The upload is complete; the HEAD that would say so is held."""
    completed: list[str] = []

    def looks_back(method: str, path: str) -> bool:
        if method == "POST" and "uploadId=" in path:
            completed.append(path)
        return method == "HEAD" and bool(completed)

    if patched:
        s3.put_object(Bucket=bucket, Key="large", Body=LARGE)
    gate = Gate(looks_back)
    with FaultProxy(gateway) as proxy:
        first = mounts(*HOLD, endpoint=proxy.endpoint)
        if patched:
            with (first.path / "large").open("r+b") as file:
                file.write(b"PATCHED")
        else:
            (first.path / "large").write_bytes(LARGE)
        proxy.fail(gate)
        with syncing(first.path / "large"):
            gate.wait()
            first.kill9()
        gate.open()
        expected = b"PATCHED" + LARGE[7:] if patched else LARGE
        assert content(s3, bucket, "large") == expected
        arrives(mounts, s3, first, {"large": expected}, proxy.endpoint)


def test_row_8_after_the_cache_adopted_it(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    gate = Gate(lambda method, path: method == "PUT" and path.endswith("/file"))
    with FaultProxy(gateway) as proxy:
        first = mounts(endpoint=proxy.endpoint)
        proxy.fail(gate)
        (first.path / "file").write_bytes(b"closed")
        gate.wait()
        with journal_held(*journals(first.cache_dir)):
            gate.open()
            [staged] = staged_files(first.cache_dir)
            eventually(lambda: staged.stat().st_nlink == 2 and is_waiting(first.pid))
            first.kill9()
        assert content(s3, bucket, "file") == b"closed"
        arrives(mounts, s3, first, {"file": b"closed"}, proxy.endpoint)


@pytest.mark.parametrize("adopted", [False, True])
def test_row_9_after_the_row_was_deleted(adopted: bool, mounts: Mounts, s3: S3Client) -> None:
    first = mounts(*HOLD)
    (first.path / "file").write_bytes(b"closed")
    first.kill9()
    [staged] = staged_files(first.cache_dir)
    if adopted:
        os.link(staged, first.cache_dir / "the cache's link")
    [journal] = journals(first.cache_dir)
    with sqlite3.connect(journal) as db:
        db.execute("DELETE FROM debts")
    db.close()
    arrives(mounts, s3, first, {})
    assert set_aside(first.cache_dir) == ([] if adopted else [b"closed"])


def test_row_10_after_the_copies_of_a_rename(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """The answer to one of the copies is never heard."""
    for name in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=f"old/{name}", Body=name.encode())
    everything = ["new/a", "new/b", "old/a", "old/b"]
    with FaultProxy(gateway) as proxy:
        first = mounts(endpoint=proxy.endpoint)
        proxy.inject(
            Rule(Fault.AFTER_COMMIT, lambda method, path: (method, path[-6:]) == ("PUT", "/new/b"))
        )
        renaming = threading.Thread(target=_rename_in_vain, args=(first,))
        renaming.start()
        eventually(lambda: bucket_keys(s3, bucket) == everything)
        first.kill9()
        proxy.calm()
        renaming.join()
        assert bucket_keys(s3, bucket) == everything
        again = mount_again(mounts, first, endpoint=proxy.endpoint)
        assert os.listdir(again.path) == ["new"]
        again.unmount()
    assert {key: content(s3, bucket, key) for key in bucket_keys(s3, bucket)} == {
        "new/a": b"a",
        "new/b": b"b",
    }


def _rename_in_vain(mount: Mount) -> None:
    with suppress(OSError):
        os.rename(mount.path / "old", mount.path / "new")


def test_row_11_after_the_deletions_are_recorded(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    for key in ("gone", "kept"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    first = mounts(*HOLD)
    (first.path / "gone").unlink()
    first.kill9()
    arrives(mounts, s3, first, {"kept": b"kept"})


def test_row_12_while_adopting_a_dead_mounts_journal(
    mounts: Mounts, cli: Cli, s3: S3Client
) -> None:
    """Two mounts die; a third has taken over a debt, and not removed it there, when it dies."""
    first = mounts(*HOLD)
    second = mounts(*HOLD, cache_dir=first.cache_dir)
    (first.path / "one").write_bytes(b"1")
    (second.path / "two").write_bytes(b"2")
    first.kill9()
    second.kill9()
    ours, theirs = journals(first.cache_dir)
    with journal_held(theirs):
        third = subprocess.Popen(
            [PROGRAM, "mount", first.bucket, first.path, "--foreground"],
            env=cli.environment | {"QARNOTFS_CACHE_DIR": str(first.cache_dir)},
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: rows(ours, "debts") == 2 and is_waiting(third.pid))
        third.kill()
        third.wait()
    assert rows(theirs, "debts") == 1
    arrives(mounts, s3, first, {"one": b"1", "two": b"2"})
