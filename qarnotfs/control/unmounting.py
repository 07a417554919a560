"""Taking a mount away, also where there is no fusermount3.

Used by `session` for its own mount, and by `deadmount`. It waits for the kernel, which may ask
the mount's process first: that one calls it in a thread.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from qarnotfs.errors import UsageError

MNT_DETACH = 2  # umount(2)


def unmount(mountpoint: Path, *, lazily: bool) -> str:
    """Unmount; why it did not work, or the empty string. `UsageError`: that needs fusermount3.

    Root can do without, as when it mounts: also where no other program can be started.
    """
    words = ["fusermount3", "-u", *(["-z"] if lazily else []), "--", os.fspath(mountpoint)]
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError as error:  # it is not there, or there are too many open files or processes
        if os.geteuid() == 0:
            return _detached(mountpoint, MNT_DETACH if lazily else 0)
        if isinstance(error, FileNotFoundError):
            raise UsageError("fusermount3 is not installed (Debian: fuse3).") from error
        return f"fusermount3 cannot be run: {error.strerror}"
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().partition(": ")[2]  # behind its name
    return said.removeprefix(f"failed to unmount {mountpoint}: ") or "unknown reason"


def _detached(mountpoint: Path, flags: int) -> str:
    failed = ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(mountpoint), flags)
    return os.strerror(ctypes.get_errno()) if failed else ""
