"""Sizes, counts and times as people read them, and the one line that says how an upload goes.

Used by `cli`, and by `session` for the log, so that both show the same. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNIT_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
MINUTE_SEC, HOUR_SEC = 60, 3600
BAR_CELLS = 20


def bytes_text(count: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    unit, size = next(
        ((unit, size) for unit, size in reversed(UNIT_BYTES.items()) if count >= size), ("", 1)
    )
    return f"{count / size:.1f} {unit}iB" if unit else f"{count:.0f} B"


def files_text(count: int) -> str:
    """``1 file``, ``2 files``."""
    return "1 file" if count == 1 else f"{count} files"


def time_text(seconds: float) -> str:
    """``8 s``, ``2 min 05 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < MINUTE_SEC:
        return f"{whole} s"
    if whole < HOUR_SEC:
        return f"{whole // MINUTE_SEC} min {whole % MINUTE_SEC:02} s"
    return f"{whole // HOUR_SEC} h {whole % HOUR_SEC // MINUTE_SEC:02} min"


def pace_text(status: Mapping[str, Any]) -> str:
    """How fast a mount uploads and for how long yet, from its status; empty: not known."""
    if not status["upload_bytes_per_sec"]:
        return ""
    rate = f"{bytes_text(status['upload_bytes_per_sec'])}/s"
    eta_sec = status["upload_eta_sec"]
    return rate if eta_sec is None else f"{rate}, {time_text(eta_sec)} to go"


def going(status: Mapping[str, Any]) -> tuple[int, int]:
    """Files and bytes that a mount still uploads: those refused for good wait for the next one."""
    files, bytes_left = status["pending_files"], status["pending_bytes"]
    return files - status["refused_files"], bytes_left - status["refused_bytes"]


def left_text(status: Mapping[str, Any]) -> str:
    """``2 files left (1.2 GiB), 34.5 MiB/s, 35 s to go; 1 file refused (5 B)``, of a mount."""
    said = []
    files, bytes_left = going(status)
    if files or not status["refused_files"]:
        left = f"{files_text(files)} left ({bytes_text(bytes_left)})"
        pace = pace_text(status)
        said.append(f"{left}, {pace}" if pace else left)
    if status["refused_files"]:
        refused = bytes_text(status["refused_bytes"])
        said.append(f"{files_text(status['refused_files'])} refused ({refused})")
    return "; ".join(said)


def bar_text(done: int, whole: int) -> str:
    """``[########............]``, for those who cannot see a moving one."""
    filled = BAR_CELLS * done // whole if whole else BAR_CELLS
    return f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}]"
