"""What the kernel has mounted, read from ``/proc/self/mountinfo``.

Used by `control` and `cli` to tell a mountpoint from a directory. It never touches the
mountpoint itself: asking a file system whose daemon hangs would hang too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qarnotfs.errors import QarnotfsError

FSTYPE = "fuse.qarnotfs"  # what the session mounts as: subtype=qarnotfs

MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One mount. ``owner_uid`` is who mounted it, as FUSE says, else ``None``."""

    mountpoint: Path
    fstype: str
    source: str
    owner_uid: int | None


def mount_table() -> list[MountEntry]:
    """Every mount of this mount namespace, oldest first."""
    try:
        text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:  # too many open files
        raise QarnotfsError(f"{MOUNTINFO} cannot be read: {error.strerror}.") from error
    return [_entry(line) for line in text.splitlines()]


def mount_entry(mountpoint: Path) -> MountEntry | None:
    """What is mounted on ``mountpoint`` (in canonical form); the topmost of several."""
    return next((e for e in reversed(mount_table()) if e.mountpoint == mountpoint), None)


def _entry(line: str) -> MountEntry:
    """proc(5): ID parent major:minor root MOUNTPOINT options tags... - FSTYPE SOURCE options."""
    left, right = line.split(" - ", 1)
    fstype, source, options = right.split(" ", 2)
    owner = re.search(r"\buser_id=(\d+)", options)
    return MountEntry(
        Path(_unescape(left.split(" ")[4])),
        fstype,
        _unescape(source),
        int(owner[1]) if owner else None,
    )


def _unescape(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
