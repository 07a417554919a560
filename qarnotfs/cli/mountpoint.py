"""Directories that are, or are to be, mountpoints: free, in use, or left dead.

Used by ``mount`` and ``run``. It only looks: a dead mount is what keeps programs from taking
the empty directory below it for the bucket, and stays until the new mount is there.
"""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from qarnotfs import control
from qarnotfs.control.deadmount import is_dead, is_mounted
from qarnotfs.errors import NoDaemon, UsageError

FUSE_CONF = Path("/etc/fuse.conf")
MTAB = Path("/etc/mtab")


def check_free(mountpoint: Path) -> None:
    """See that ``mountpoint`` can be mounted on; a dead mount of ours may be there.

    Raises `UsageError` when it is no directory, is mounted, or still drains.
    """
    try:
        status = control.request(control.socket_path(mountpoint), "status")
    except NoDaemon:
        if not is_mounted(mountpoint):
            _check_directory(mountpoint)
        elif not is_dead(mountpoint):
            raise UsageError(
                f"{mountpoint} is already mounted, and its process cannot be asked."
            ) from None
    else:
        raise UsageError(_occupied(mountpoint, status))


def check_unmountable() -> None:
    """For users fusermount3 unmounts what it finds in /etc/mtab, and else nothing, not even then.

    Raises `UsageError` where there is none, as in a root file system straight from debootstrap.
    """
    if os.getuid() and not MTAB.exists():
        raise UsageError(
            f"There is no {MTAB}, and only root can unmount without it: as root, make it with"
            f" 'ln -s /proc/self/mounts {MTAB}'."
        )


def others_allowed() -> bool:
    """Whether root lets every user let others into a mount."""
    try:
        lines = FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)


def _occupied(mountpoint: Path, status: dict[str, object]) -> str:
    if status["state"] == "serving":
        return f"{mountpoint} is already mounted: bucket '{status['bucket']}'."
    return (
        f"The mount before on {mountpoint} is still uploading;"
        f" 'qarnotfs umount {mountpoint}' waits for them."
    )


def _check_directory(path: Path) -> None:
    try:
        found = path.is_dir()
    except OSError as error:  # a dead mount of another kind, perhaps
        raise UsageError(f"{path} cannot be used: {error.strerror}.") from error
    if not found:
        if path.exists():
            raise UsageError(f"{path} is not a directory: name one.")
        make = f"mkdir -p {quote(str(path))}"
        raise UsageError(f"{path} does not exist: make the directory first, {make}")
