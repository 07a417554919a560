"""What can be chosen about a mount, with every default decided.

Made by `cli`, used by `session`; changed by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class MountOptions:
    """How a bucket is mounted. Sizes in bytes, times in seconds."""

    mountpoint: Path
    cache_dir: Path
    cache_bytes_max: int
    dirty_bytes_max: int
    cache_ttl_sec: int | None  # None: what the bucket says, else 60
    read_only: bool
    allow_other: bool
    uid: int
    gid: int
    file_mode: int  # permission bits of what does not tell any
    dir_mode: int
    close: Literal["later", "wait"]
    fsync_timeout_sec: float  # 0: wait for ever
    upload_delay_sec: float
    io_timeout_sec: float
    attrs: Literal["full", "listing"]
    on_conflict: Literal["keep-both", "overwrite"]
    offline_reads: bool = False
    inodes_max: int = 50_000  # files the kernel may know
    pins: tuple[str, ...] = ()  # prefixes of keys to fetch ahead and keep
    metrics: tuple[str, int] | None = None  # host and port where Prometheus may ask
