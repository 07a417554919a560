"""Sizes, times and modes as people write them on a command line.

Used by every command. Pure; how they are shown is in `figures`.
"""

from __future__ import annotations

import re

import click

from qarnotfs.figures import UNIT_BYTES

UNIT_SEC = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

PORT_MAX = 65535
LOOPBACK = "127.0.0.1"


def size(text: str) -> int:
    """Bytes: ``500000``, ``64K``, ``1.5G``, ``10GiB``; units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:I?B)?", text.strip().upper())
    if not found:
        raise click.BadParameter(f"{text!r} is not a size such as 512M or 10G.")
    return int(float(found[1]) * UNIT_BYTES[found[2]])


def duration(text: str) -> float:
    """Seconds: ``90``, ``0.5s``, ``15m``, ``12h``, ``30d``, ``2w``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)", text.strip().lower())
    if not found:
        raise click.BadParameter(f"{text!r} is not a time such as 90s, 12h or 30d.")
    return float(found[1]) * UNIT_SEC[found[2]]


def whole_seconds(text: str) -> int:
    """A `duration` without its fraction."""
    return int(duration(text))


def duration_text(seconds: float) -> str:
    """``2592000`` as ``30d``: what `duration` reads back to the same."""
    fitting = (unit for unit in "dhm" if seconds and seconds % UNIT_SEC[unit] == 0)
    unit = next(fitting, "s")
    return f"{seconds / UNIT_SEC[unit]:.10g}{unit}"


def octal(text: str) -> int:
    """Permission bits: ``022``."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise click.BadParameter(f"{text!r} is not an octal mode such as 022.")
    return int(text, 8)


def address(text: str) -> str:
    """``9200`` is on this machine only; ``0.0.0.0:9200``, ``[::]:9200``. Returns HOST:PORT."""
    found = re.fullmatch(r"(?:(\[[\da-fA-F:.]+\]|[\w.-]+):)?(\d{1,5})", text.strip())
    if not found or int(found[2]) > PORT_MAX:
        raise click.BadParameter(f"{text!r} is not an address such as 9200 or 0.0.0.0:9200.")
    return f"{found[1] or LOOPBACK}:{found[2]}"


def host_and_port(text: str) -> tuple[str, int]:
    """The two of what `address` returned."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
