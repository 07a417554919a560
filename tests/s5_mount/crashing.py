"""Ways to stop a daemon at a chosen step from outside, and to look at what it leaves.

`Gate` holds a request between the daemon and the gateway, `journal_held` the daemon itself
at its next change of the journal. Neither needs anything in the product.
"""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOLD = ("--upload-delay", "3600")  # nothing is uploaded unless somebody asks for it
GATE_SEC_MAX = 30.0


def content(s3: S3Client, bucket: str, key: str) -> bytes | None:
    """What is in the bucket, ``None`` when there is no such object."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None


def mount_again(mounts: Mounts, dead: Mount, *options: str, endpoint: str = "") -> Mount:
    """A mount at the same place with the same cache directory."""
    return mounts(*options, path=dead.path, cache_dir=dead.cache_dir, endpoint=endpoint)


def kill_during_upload(mounts: Mounts, gateway: Gateway, body: bytes) -> Mount:
    """A mount that died when the first part of its file ``large`` had arrived."""
    first = mounts(*HOLD)
    mark = gateway.mark()
    (first.path / "large").write_bytes(body)  # parts of it may be sent meanwhile, or all
    with syncing(first.path / "large"):
        # A first part has arrived; the upload's id is on record before any part is sent.
        eventually(lambda: any(r.method == "PUT" for r in gateway.requests(mark)))
        first.kill9()
    return first


@contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Somebody asks for the file's upload, and waits for it; the daemon should die inside."""
    with subprocess.Popen(["sync", "-d", path], stderr=subprocess.DEVNULL):
        yield


class Gate:
    """A chooser of requests for a `FaultProxy` that holds one of them, and breaks none."""

    def __init__(self, wanted: Callable[[str, str], bool]) -> None:
        self._wanted = wanted
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, method: str, path: str) -> bool:
        if self._wanted(method, path):
            self._reached.set()
            self._open.wait(GATE_SEC_MAX)
        return False

    def wait(self) -> None:
        """Return when the request is held."""
        assert self._reached.wait(GATE_SEC_MAX)

    def open(self) -> None:
        self._open.set()


def journals(cache_dir: Path) -> list[Path]:
    """The databases of every journal."""
    return sorted(cache_dir.glob("*/journals/*/journal.db"))


def staged_files(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.glob("*/journals/*/staged/*"))


def set_aside(cache_dir: Path) -> list[bytes]:
    """What is in quarantine."""
    return [path.read_bytes() for path in cache_dir.glob("*/journals/*/quarantine/*")]


def rows(journal: Path, table: str) -> int:
    """How many rows a table of a journal has, counted beside whoever uses it."""
    db = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    finally:
        db.close()
    return int(count)


@contextmanager
def journal_held(journal: Path) -> Iterator[None]:
    """Whoever changes the journal meanwhile waits: SQLite gives it five seconds."""
    db = sqlite3.connect(journal, isolation_level=None, timeout=GATE_SEC_MAX)
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
    finally:
        db.close()


def is_waiting(pid: int) -> bool:
    """Whether a daemon waits for its journal: its loop sleeps in the kernel at nothing else."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
