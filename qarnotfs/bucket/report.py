"""What a synchronisation did, or would do.

Made by `upward` and `downward`, returned by `Bucket`; `SyncFailed` carries it when some of
it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qarnotfs.errors import CredentialsExpired, CredentialsRejected, NoSuchBucket, QarnotfsError

HOPELESS = (NoSuchBucket, CredentialsRejected, CredentialsExpired)
NAMED_MAX = 3  # failures that the sentence names


@dataclass(frozen=True)
class SyncReport:
    """Each name once, where it ended; keys, except for what was downloaded or local.

    ``skipped`` and ``failed``: name -> a sentence why. ``bytes_moved``: over the network.
    """

    uploaded: tuple[str, ...] = ()
    downloaded: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    bytes_moved: int = 0

    def to_json(self) -> dict[str, Any]:
        """Lists, objects and a number under the names of the fields."""
        fields = asdict(self).items()
        return {name: list(value) if type(value) is tuple else value for name, value in fields}


class SyncFailed(QarnotfsError):
    """Some files failed; everything else is done. Running it again does what is left."""

    def __init__(self, report: SyncReport) -> None:
        self.report = report
        first = list(report.failed.items())[:NAMED_MAX]
        more = len(report.failed) - len(first)
        named = "; ".join(f"{name!r}: {reason}" for name, reason in first)
        super().__init__(
            f"{len(report.failed)} could not be synchronised, run it again: {named}"
            + (f"; and {more} more." if more else "")
        )


class Tally:
    """A report in the making; any thread adds to it."""

    def __init__(self) -> None:
        self.uploaded: list[str] = []
        self.downloaded: list[str] = []
        self.copied: list[str] = []
        self.deleted: list[str] = []
        self.unchanged: list[str] = []
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.moved: list[int] = []  # bytes of each transfer: appending needs no lock

    def fail(self, name: str, error: BaseException) -> None:
        """Note why a file failed; an error that all others will meet, too, is raised instead."""
        if isinstance(error, HOPELESS):
            raise error
        self.failed[name] = reason_of(error)

    def report(self) -> SyncReport:
        """What there is now; `SyncFailed` when some of it failed."""
        made = SyncReport(
            uploaded=tuple(sorted(self.uploaded)),
            downloaded=tuple(sorted(self.downloaded)),
            copied=tuple(sorted(self.copied)),
            deleted=tuple(sorted(self.deleted)),
            unchanged=tuple(sorted(self.unchanged)),
            skipped=dict(sorted(self.skipped.items())),
            failed=dict(sorted(self.failed.items())),
            bytes_moved=sum(self.moved),
        )
        if made.failed:
            raise SyncFailed(made)
        return made


def reason_of(error: BaseException) -> str:
    """One sentence for a person."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return str(error)
