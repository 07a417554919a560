"""Mounts whose process died: recognised, and taken away.

Used by `session`, which puts a new mount over a dead one, and by ``umount``. Until then a dead
mount stays: the empty directory below it would be mirrored as deletions.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from qarnotfs.control.mounttable import FSTYPE, mount_entry, mount_table
from qarnotfs.control.places import canonical
from qarnotfs.control.unmounting import unmount
from qarnotfs.errors import QarnotfsError, UsageError


def is_mounted(mountpoint: Path) -> bool:
    """Whether one of our mounts, alive or dead, is on ``mountpoint``."""
    entry = mount_entry(canonical(mountpoint))
    return entry is not None and entry.fstype == FSTYPE


def is_dead(mountpoint: Path) -> bool:
    """Whether the FUSE mount there has lost its process.

    Asked by ``statfs``, which the kernel never answers from its cache, as it does ``stat``.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def cover_dead(mountpoint: Path, device: int, options: set[str]) -> None:
    """Mount over a dead mount, as root only can: ``device`` is ``/dev/fuse``, opened.

    ``options`` are those that libfuse takes. Raises `UsageError` when the kernel refuses.
    """
    source = next(o for o in options if o.startswith("fsname=")).partition("=")[2]
    kernels = {o for o in options if not o.startswith(("fsname=", "subtype="))}
    needed = (f"fd={device}", "rootmode=40000", f"user_id={os.getuid()}", f"group_id={os.getgid()}")
    words = ["-o", ",".join(sorted(kernels.union(needed))), source, os.fspath(mountpoint)]
    done = subprocess.run(
        ["mount", "--internal-only", "--no-canonicalize", "-t", FSTYPE, *words],
        pass_fds=[device],
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise UsageError(f"{mountpoint} cannot be mounted: {done.stderr.strip()}.")


def unmount_dead(mountpoint: Path, *, keep: int = 0) -> None:
    """Take away mounts whose process died, also those that programs still stand in.

    One that was mounted over another shows that one again; the lowest ``keep`` stay.
    """
    while _layers(mountpoint) > keep and is_dead(mountpoint):
        if reason := unmount(mountpoint, lazily=True):
            raise QarnotfsError(f"Cannot unmount {mountpoint}: {reason}.")


def _layers(mountpoint: Path) -> int:
    """How many of our mounts are on top of each other there."""
    place = canonical(mountpoint)
    return sum(one.mountpoint == place and one.fstype == FSTYPE for one in mount_table())
