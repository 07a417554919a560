"""The log of a mount process: for people, for journald, or for programs.

Used by `daemon`. What is logged is decided where it happens; here is how it is written.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from logging.handlers import DatagramHandler
from pathlib import Path
from typing import IO, Any

from qarnotfs.errors import UsageError

AUTO, TEXT, JSON, JOURNAL = FORMATS = ("auto", "text", "json", "journal")
FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TERMINAL_FORMAT = "%(asctime)s %(levelname)s %(message)s"  # who looks on knows the day
TALKATIVE = ("boto3", "botocore", "s3transfer", "urllib3")  # their debug logs show signatures
JOURNAL_SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog's


def configure(kind: str, level_name: str, path: Path | None, fields: dict[str, str]) -> None:
    """Log to the file ``path``, else to stderr or the journal. ``fields`` say which mount it is.

    ``kind`` is one of `FORMATS`; ``auto`` is the journal's where stderr ends there, else text.
    """
    if kind == JOURNAL or (kind == AUTO and path is None and _is_journal()):
        handler: logging.Handler = _Journal(fields)
    else:
        handler = logging.StreamHandler(open_log(path) if path else sys.stderr)
        handler.setFormatter(_Json(fields) if kind == JSON else _text(path))
    level = level_name.upper()
    logging.basicConfig(level=level, handlers=[handler])
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level)))


def open_log(path: Path) -> IO[str]:
    """Append to a log that only its owner can read: it names files."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(path, flags, 0o600), "a")
    except OSError as error:
        raise UsageError(
            f"Cannot write the log {path}: {error.strerror}. Choose another with --log-file."
        ) from error


def _text(path: Path | None) -> logging.Formatter:
    if path is None and sys.stderr.isatty():
        return logging.Formatter(TERMINAL_FORMAT, "%H:%M:%S")
    return logging.Formatter(FILE_FORMAT)


def _is_journal() -> bool:
    """Whether systemd connected stderr with the journal, and nobody redirected it since."""
    with suppress(OSError):
        found = os.fstat(2)
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


class _Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time_sec": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


class _Journal(DatagramHandler):
    """journald's own protocol, a datagram of fields; its Python library wants a C compiler."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(JOURNAL_SOCKET, None)
        self.setFormatter(logging.Formatter())  # the message alone; the rest are fields
        self._fields = {f"QARNOTFS_{name.upper()}": value for name, value in fields.items()}

    def makePickle(self, record: logging.LogRecord) -> bytes:
        said = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(PRIORITIES.get(record.levelname, 6)),
            "SYSLOG_IDENTIFIER": "qarnotfs",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            **self._fields,
        }
        return b"".join(_field(name, value) for name, value in said.items())


def _field(name: str, value: str) -> bytes:
    """``NAME=value``, or with its length where the value has several lines."""
    raw = value.encode(errors="surrogateescape")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
