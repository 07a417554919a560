"""A tree of files copied into a mount and out again by ``cp``, while requests are broken.

Used by `test_mount_faults` and the soak. Each file ends right, or ``cp`` (going in also the
drain) says that it did not: never silently wrong.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults import Fault, FaultProxy, Rule, any_request, reads_object
from tests.load import first_difference
from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COPY_SEC_MAX = 300.0
SMALL_BYTES = 100 << 10
LARGE_BYTES = (9 << 20, 20 << 20)
FOLDERS = 10
# Shares of all requests. What is only noticed when time is over is rarer, or nothing else happens.
SHARES = dict.fromkeys(Fault, 0.1) | {Fault.HANG: 0.01, Fault.REFUSED: 0.005, Fault.SLOW: 0.05}
FAULTS = tuple(Fault)

Files = dict[str, bytes]


@dataclass
class Outcome:
    """What `check` found: files that are right, and those that somebody was told of."""

    right: int = 0
    told: int = 0
    bytes_checked: int = 0


def rule(fault: Fault) -> Rule:
    """The fault at its usual share. Only the whole of an object has a checksum to catch
    a wrong byte with (S3 has none for a range), so only small objects get one."""
    chooser = reads_small if fault is Fault.WRONG_BYTES else any_request
    return Rule(fault, chooser, SHARES[fault])


def reads_small(method: str, path: str) -> bool:
    return reads_object(method, path) and "large" not in path


def make_files(seed: int, count: int) -> Files:
    """Relative path -> bytes: mostly small ones, an empty one, two that go in parts."""
    dice = random.Random(seed)
    sizes = [0, *LARGE_BYTES, *(int(SMALL_BYTES * dice.random() ** 3) for _ in range(count - 3))]
    return {
        f"d{number % FOLDERS}/{'large' if size > SMALL_BYTES else 'file'}{number}": dice.randbytes(
            size
        )
        for number, size in enumerate(sizes)
    }


def write_files(top: Path, files: Files) -> None:
    for path, body in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(body)


def cp(source: Path, target: Path) -> str:
    """``cp -r`` of what is in ``source``; what it complained of."""
    done = subprocess.run(
        ["cp", "-r", f"{source}/.", target],
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COPY_SEC_MAX,
        check=False,
    )
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr


def drain(mount: Mount, proxy: FaultProxy, fault: Fault, options: Sequence[str]) -> None:
    """End the mount: everything arrives. Only a server that lies about etags may keep a file
    from it, which the mount says; the next mount, once the server is honest, uploads it."""
    if fault is not Fault.WRONG_ETAG:
        mount.unmount()
    elif mount.unmount_unless_busy().code:
        eventually(mount.has_ended)
        proxy.calm()
        mount.start_patiently(options, {"AWS_ENDPOINT_URL": proxy.endpoint})
        mount.unmount()
    eventually(mount.has_ended)


def but_for_conflicts(fault: Fault, files: Files, found: Files) -> Files:
    """What was found, without the files that a lie about an etag put beside: they are whole."""
    beside = (
        {path for path in found if ".conflict-" in path} if fault is Fault.WRONG_ETAG else set()
    )
    for path in beside:
        assert found[path] == files[path.partition(".conflict-")[0]], path
    return {path: body for path, body in found.items() if path not in beside}


def check(files: Files, found: Files, told: str) -> Outcome:
    """Every file is right or was complained of, and there are no others."""
    outcome = Outcome()
    assert found.keys() <= files.keys(), f"invented: {found.keys() - files.keys()}"
    for path, body in files.items():
        is_right = path in found and found[path] == body
        if is_right:
            outcome.right += 1
            outcome.bytes_checked += len(body)
        else:
            assert is_named(path, told), (
                f"{path} is silently {'wrong' if path in found else 'missing'}; first difference "
                f"at {first_difference(found.get(path, b''), body)} of {len(body)}"
            )
            outcome.told += 1
    return outcome


def is_named(path: str, told: str) -> bool:
    """Whether there is a complaint of this file, or of the directory it is in."""
    folder = path.rpartition("/")[0]
    return any(line.count(f"/{path}'") or line.count(f"/{folder}'") for line in told.splitlines())


def in_directory(top: Path, paths: Iterable[str]) -> Files:
    return {path: (top / path).read_bytes() for path in paths if (top / path).is_file()}


def in_bucket(s3: S3Client, bucket: str) -> Files:
    """Everything but the directories' markers, by a client that knows no proxy."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in keys
        if not key.endswith("/")
    }
