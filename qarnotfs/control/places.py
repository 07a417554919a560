"""Where the control sockets are, and the one spelling of a mountpoint they are named by.

Used by both sides of `control` and by `cli`. A directory that someone else could have
prepared is refused; nothing here connects to anything.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from qarnotfs.errors import UsageError

ROOTS_DIR = Path("/run/qarnotfs")
LINKS_MAX = 40  # Linux: MAXSYMLINKS, links followed before a path is called a loop


def runtime_dir() -> Path:
    """The private directory of this user's sockets; made when missing.

    ``$QARNOTFS_RUNTIME_DIR`` if set; ``/run/qarnotfs`` for root, whoever's session root
    was reached from, if root may write there; else ``$XDG_RUNTIME_DIR/qarnotfs`` or
    ``/tmp/qarnotfs-UID``.
    Raises `UsageError` when it cannot be made or is not private to this user.
    """
    return make_private(_chosen_dir(), "set QARNOTFS_RUNTIME_DIR to a directory of yours")


def is_roots(place: Path) -> bool:
    """Whether we are root and may use ``place``: in a user namespace one is root only in name."""
    return os.getuid() == 0 and os.access(place if place.exists() else place.parent, os.W_OK)


def make_private(directory: Path, instead: str) -> Path:
    """Make ``directory``, for this user alone. Whoever may write in it could swap what is there.

    Raises `UsageError` when that is impossible, or it is someone else's or a link; ``instead``
    is what to do then.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        refuse_strangers(directory, instead)
        if os.lstat(directory).st_mode & 0o077:
            os.chmod(directory, 0o700)
    except OSError as error:
        raise UsageError(f"Cannot make {directory} ({error.strerror}): {instead}.") from error
    return directory


def refuse_strangers(directory: Path, instead: str) -> None:
    """`UsageError` when ``directory`` is there, and is not a directory of this user."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{directory} cannot be used ({error.strerror}): {instead}.") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UsageError(f"{directory} belongs to someone else, or is no directory: {instead}.")


def _chosen_dir() -> Path:
    if chosen := os.environ.get("QARNOTFS_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if is_roots(ROOTS_DIR):
        return ROOTS_DIR
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "qarnotfs"
    return Path(f"/tmp/qarnotfs-{os.getuid()}")


def socket_path(mountpoint: Path) -> Path:
    """The socket of the mount on ``mountpoint``, whether there is one or not.

    Named by a digest, because a socket's path may have no more than 107 bytes.
    """
    place = canonical(mountpoint)
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    return runtime_dir() / f"{digest}.sock"


def canonical(path: Path) -> Path:
    """``path`` absolute and without links, found without asking what is mounted there.

    `os.path.realpath` would stat the mountpoint, and hang with its daemon; ``readlink``
    on the root of a mount is answered by the kernel alone.
    """
    place = Path(os.path.abspath(path))
    for _ in range(LINKS_MAX):
        place = Path(os.path.realpath(place.parent)) / place.name
        try:
            target = os.readlink(place)
        except OSError:
            return place
        place = Path(os.path.abspath(place.parent / target))
    raise UsageError(f"Too many symbolic links in {path}.")
