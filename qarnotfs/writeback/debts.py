"""What a debt is, and how one becomes a record on disk and comes back. Pure.

Used by `journal` (keeps them) and `uploader` (pays them). A debt is one thing the
bucket is owed for one key: bytes (`PUT`), new attributes (`META`) or its end (`DELETE`).
"""

from __future__ import annotations

import json
import socket
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from qarnotfs.checksums import CHECKSUMS, CRC32
from qarnotfs.errors import Corrupt
from qarnotfs.store.base import KEY_BYTES_MAX, UNCONDITIONAL, Attributes, Condition, ObjectInfo
from qarnotfs.writeback.plan import is_temporary
from qarnotfs.writeback.staging import Seal, Staged
from qarnotfs.writeback.uploads import Upload

ANY = "*"
Tries = Mapping[str, str]
"""Etags that may have been stored, and of which lineage each; empty: of none."""

NO_TRIES: Tries = {}
_encode = json.JSONEncoder(sort_keys=True).encode
TEMPORARY_DELAYS = 10  # its program may be slow, and what is sent of it is sent for nothing


class Kind(Enum):
    PUT = "put"
    META = "meta"
    DELETE = "delete"


class State(Enum):
    """The life of a debt; the first two only while a file is open.

    OPEN      being written; nothing newer than the last record is promised
    HELD      recorded on disk, but a program may still write, or read what goes: not sent yet
    QUEUED    recorded, and due from ``not_before_sec``
    PAYING    being sent: its staged file must not change
    FAILED    refused for good: kept, reported, tried again by the next mount
    """

    OPEN = "open"
    HELD = "held"
    QUEUED = "queued"
    PAYING = "paying"
    FAILED = "failed"


@dataclass(eq=False, slots=True)
class Debt:
    """One thing owed. Mutable; only `journal` changes what is recorded of it."""

    id: int
    kind: Kind
    key: str
    attributes: Attributes = field(default_factory=Attributes)
    staged: Staged | None = None  # of a PUT; None: an empty object
    seal: Seal | None = None  # what the record says of the staged file
    expected: Condition = UNCONDITIONAL  # what we believe the bucket has under the key
    after: int = 0  # the id of a debt that must be paid first; 0: none
    state: State = State.QUEUED
    error: str | None = None
    # Etags that may have been stored under the key by tries of ours without an answer, and of which
    # lineage: whoever finds one of them there has met nobody else. `ANY`: a former life may have
    # stored others. Never changed in place: debts hand it on.
    perhaps: Tries = field(default_factory=dict)
    beside: str = ""  # its key after a conflict; if set, it never overwrites
    recorded: bool = False
    counted_bytes: int = 0  # its share of `Journal.bytes_dirty`
    upload: Upload | None = None  # its multipart upload, kept in a book of its own
    # Not recorded: they begin anew with each mount.
    attempts: int = 0
    not_before_sec: float = 0.0
    urgent: bool = False
    begun: bool = False  # whether any of it may have reached the bucket
    yields: bool = False  # of a marker: its attributes, to those of one that others stored
    paid: bool = False
    # What it took the place of: stays on disk, with its staged file, until this is recorded.
    replaced: list[Debt] = field(default_factory=list)
    stored: ObjectInfo | None = None  # once paid: the version that holds its bytes; for the core

    @property
    def size(self) -> int:
        return self.staged.size if self.staged else 0

    @property
    def dirty_bytes(self) -> int:
        """What was written here: all that has to be sent."""
        return self.staged.extents.total if self.staged else 0

    @property
    def unsent_bytes(self) -> int:
        """What of it has not arrived as a part yet."""
        return self.dirty_bytes - (self.upload.sent_bytes if self.upload else 0)

    @property
    def delays(self) -> int:
        """How many times as long as others it waits to be sent.

        If parts of it have arrived, not at all: a rename would be their end, and of the object it
        costs a copy on the server.
        """
        if is_temporary(self.key):
            return TEMPORARY_DELAYS
        return 0 if self.upload and self.upload.etags else 1

    @property
    def promised(self) -> bool:
        """Whether a program was told that it will be paid; a full disk may not say so yet."""
        return self.recorded or self.state is not State.OPEN

    @property
    def present(self) -> bool:
        """Whether the key exists once this debt is paid."""
        return self.kind is not Kind.DELETE


def conflict_key(key: str, now_sec: float, number: int = 1) -> str:
    """Where ours goes when the name is taken: ``report.txt.conflict-host-20260131T235959``.

    The second of the same second ends in ``-2``. A long name is cut to leave room for that.
    """
    host, stamp = socket.gethostname(), time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_sec))
    suffix = f".conflict-{host}-{stamp}" + (f"-{number}" if number > 1 else "")
    room = KEY_BYTES_MAX - len(suffix.encode())
    return key.encode()[:room].decode(errors="ignore") + suffix


def pack(debt: Debt) -> str:
    """The record of a debt: JSON and, in front, its checksum."""
    staged = debt.staged
    body = _encode(
        {
            "kind": debt.kind.value,
            "key": debt.key,
            "metadata": dict(debt.attributes.metadata),
            "content_type": debt.attributes.content_type,
            "staged": staged.path.name if staged else None,
            "lineage": staged.lineage if staged else None,
            "base": _info_to_json(staged.base) if staged and staged.base else None,
            "seal": _flat(debt.seal) if debt.seal else None,
            "open": debt.state is State.OPEN,
            "expected": _flat(debt.expected),
            "after": debt.after,
            "error": debt.error if debt.state is State.FAILED else None,
            "beside": debt.beside,
            "perhaps": list(debt.perhaps.items()),
        }
    )
    return f"{zlib.crc32(body.encode()):08x}{body}"


@dataclass(frozen=True, slots=True)
class Record:
    """A debt as it stood on disk; the staged file is still only a name."""

    kind: Kind
    key: str
    attributes: Attributes
    staged_name: str | None
    lineage: str | None
    base: ObjectInfo | None
    seal: Seal | None
    was_open: bool
    expected: Condition
    after: int
    error: str | None  # of one that failed
    perhaps: Tries
    beside: str
    upload: tuple[str, str] | None  # (key, id): only in the first journals


def unpack(text: str) -> Record:
    """Read a record back; `Corrupt` when it is not exactly what was written."""
    body = text[8:]
    try:
        if int(text[:8], 16) != zlib.crc32(body.encode()):
            raise Corrupt("A journal record has a wrong checksum.")
        return _record(json.loads(body))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"A journal record cannot be read: {error}.") from error


def _record(raw: dict[str, Any]) -> Record:
    seal = raw["seal"]
    return Record(
        kind=Kind(raw["kind"]),
        key=raw["key"],
        attributes=Attributes(raw["metadata"], raw["content_type"]),
        staged_name=raw["staged"],
        lineage=raw.get("lineage"),
        base=ObjectInfo(**raw["base"]) if raw["base"] else None,
        seal=_seal(seal) if seal else None,
        was_open=raw["open"],
        expected=Condition(**raw["expected"]),
        after=raw["after"],
        error=raw.get("error"),
        perhaps=_tries(raw.get("perhaps", ())),
        beside=raw.get("beside", ""),
        upload=(raw["upload"][0], raw["upload"][1]) if raw.get("upload") else None,
    )


def _seal(raw: dict[str, Any]) -> Seal:
    """The first journals did not say which checksum it is."""
    checksum = CHECKSUMS[raw.get("checksum", CRC32.name)].name
    extents = tuple((start, end) for start, end in raw["extents"])
    return Seal(raw["size"], raw["base_limit"], extents, raw["crc"], checksum)


def _tries(raw: list[tuple[str, str] | str]) -> Tries:
    """The first journals did not say of which lineage: of none, then."""
    return dict((one, "") if isinstance(one, str) else one for one in raw)


def _flat(value: Seal | Condition) -> dict[str, Any]:
    """Its fields, not copied: `asdict` takes longer than all the rest of a record."""
    return {name: getattr(value, name) for name in value.__slots__}


def _info_to_json(info: ObjectInfo) -> dict[str, Any]:
    return info.without_metadata()._asdict()
