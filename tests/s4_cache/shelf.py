"""What the tests of `cache.disk` share."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qarnotfs.cache.disk import Disk
from qarnotfs.store.base import ObjectInfo

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now_sec = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_sec


def version(body: bytes, key: str = "key") -> ObjectInfo:
    return ObjectInfo(key, len(body), hashlib.md5(body).hexdigest(), 1_700_000_000)


def keep(disk: Disk, body: bytes, key: str = "key") -> ObjectInfo:
    info = version(body, key)
    disk.store(info, 0, body)
    return info


def on_disk(directory: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in directory.rglob(pattern))


def taken(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in on_disk(directory, "*.map", "*.data"))


@contextmanager
def made_room_in(directory: Path) -> Iterator[None]:
    """Another process makes room there, and does not end: it may be stopped."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


Make = Callable[..., Disk]
