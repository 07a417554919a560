"""Directories that are, or are to be, mountpoints: free, in use, or left dead.

Used by ``mount``, ``run`` and ``umount``. It unmounts what is certainly dead, nothing else.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from qarnotfs import control
from qarnotfs.errors import NoDaemon, QarnotfsError, UsageError


def make_way(mountpoint: Path) -> None:
    """See that ``mountpoint`` can be mounted on; take away a dead mount of ours.

    Raises `UsageError` when it is no directory, is mounted, or still drains.
    """
    try:
        status = control.request(control.socket_path(mountpoint), "status")
    except NoDaemon:
        if is_mounted(mountpoint):
            _clean(mountpoint)
    else:
        raise UsageError(_occupied(mountpoint, status))
    if not _is_directory(mountpoint):
        raise UsageError(f"{mountpoint} is not an existing directory.")


def is_mounted(mountpoint: Path) -> bool:
    """Whether one of our mounts, alive or dead, is on ``mountpoint``."""
    entry = control.mount_entry(control.canonical(mountpoint))
    return entry is not None and entry.fstype == control.FSTYPE


def is_dead(mountpoint: Path) -> bool:
    """Whether the FUSE mount there has lost its process.

    Asked by ``statfs``, which the kernel never answers from its cache, as it does ``stat``.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def unmount_dead(mountpoint: Path) -> None:
    """Take away a mount whose process died, also one that programs still stand in."""
    try:
        done = subprocess.run(
            ["fusermount3", "-uz", "--", os.fspath(mountpoint)],
            capture_output=True,
            check=False,
            text=True,
        )
    except FileNotFoundError as error:
        raise UsageError("fusermount3 is not installed (Debian: fuse3).") from error
    if done.returncode:
        raise QarnotfsError(f"Cannot unmount {mountpoint}: {done.stderr.strip()}.")


def _clean(mountpoint: Path) -> None:
    if not is_dead(mountpoint):
        raise UsageError(f"{mountpoint} is already mounted, and its process cannot be asked.")
    unmount_dead(mountpoint)


def _occupied(mountpoint: Path, status: dict[str, object]) -> str:
    if status["state"] == "serving":
        return f"{mountpoint} is already mounted: bucket '{status['bucket']}'."
    return (
        f"The mount before on {mountpoint} is still uploading;"
        f" 'qarnotfs umount {mountpoint}' waits for them."
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a dead mount of another kind, perhaps
        raise UsageError(f"{path} cannot be used: {error.strerror}.") from error
