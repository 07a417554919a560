"""The multipart uploads under way: which parts arrived, and which of them still count.

Used by `multipart` (sends the parts), `streaming` and `journal` (which debt an upload is
for). `Upload` is one of them in memory; `Uploads` is the book of all, kept on disk as it
goes, so that a crash costs only the parts that were in the air.

What is recorded is a hint and no promise, and so carries no checksum: a part of a former
life counts only if the MD5 of the staged bytes is its etag, and an id that the server does
not know is forgotten. A copied part, of which there are no bytes here, counts if the base
is the same: to copy it again would prove no more, and an upload that was completed just
before the crash could not be recognised without it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from qarnotfs.errors import FileError
from qarnotfs.writeback.plan import PART_BYTES, part_bytes
from qarnotfs.writeback.records import PartRow, Records, UploadRow


@dataclass(eq=False, slots=True)
class Upload:
    """One multipart upload of one staged file to one key. Parts are numbered from 1.

    Invariant: the bytes of a part in ``etags`` are those the staged file has now.
    """

    id: str
    key: str
    staged_name: str
    part_bytes: int
    base_etag: str | None
    etags: dict[int, str] = field(default_factory=dict)
    claims: dict[int, PartRow] = field(default_factory=dict)  # of a former life, unproven
    # Written again after they were sent: not worth sending before the file is closed.
    restless: set[int] = field(default_factory=set)
    sent_bytes: int = 0  # of the dirty bytes, those in ``etags``
    number_max: int = 0  # of all that may have arrived, counting or not
    attempts: int = 0  # to abort it
    not_before_sec: float = 0.0  # for the next
    _dirty_bytes: dict[int, int] = field(default_factory=dict)  # of each part in ``etags``
    _flying: set[int] = field(default_factory=set)
    _spoilt: set[int] = field(default_factory=set)  # of those flying: their bytes changed

    def serves(self, key: str, size: int) -> bool:
        """Whether it can become an object of this key and size.

        Parts beyond the end cannot be taken back, and RGW refuses to leave them out.
        """
        count = -(-size // self.part_bytes)
        fits = size >= PART_BYTES and part_bytes(size) == self.part_bytes
        return fits and self.key == key and self.number_max <= count

    def changed(self, start: int, end: int) -> None:
        """Bytes ``[start, end)`` of the staged file are others now."""
        if start >= end:
            return
        first, last = start // self.part_bytes + 1, (end - 1) // self.part_bytes + 1
        if last - first < self.number_max:
            numbers = set(range(first, last + 1))
        else:  # far more than were ever sent
            numbers = {n for n in range(1, self.number_max + 1) if first <= n <= last}
        for number in numbers:
            self.claims.pop(number, None)
            if number in self._flying:
                self._spoilt.add(number)
            elif number not in self.etags:
                continue
            self.restless.add(number)
            self._forget(number)

    def is_flying(self, number: int) -> bool:
        return number in self._flying

    def take_off(self, number: int) -> None:
        """A part is about to be read and sent."""
        self._flying.add(number)
        self._spoilt.discard(number)
        self.number_max = max(self.number_max, number)

    def is_spoilt(self, number: int) -> bool:
        """Whether the part changed since it took off."""
        return number in self._spoilt

    def land(self, number: int) -> None:
        """It is not under way any more; whether it arrived, `arrived` says."""
        self._flying.discard(number)
        self._spoilt.discard(number)

    def arrived(self, number: int, etag: str, dirty_bytes: int) -> None:
        """The server has the part, of which ``dirty_bytes`` were written here."""
        self._forget(number)
        self.claims.pop(number, None)
        self.etags[number] = etag
        self._dirty_bytes[number] = dirty_bytes
        self.sent_bytes += dirty_bytes
        self.number_max = max(self.number_max, number)

    def _forget(self, number: int) -> None:
        self.etags.pop(number, None)
        self.sent_bytes -= self._dirty_bytes.pop(number, 0)


class Uploads:
    """Every upload of one journal: of debts, and *strays*, which nobody needs."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._strays: dict[str, Upload] = {}
        for upload in revived(records):
            self._strays[upload.id] = upload

    def begin(self, upload: Upload) -> None:
        """An upload was begun on the server. From here it will be completed or aborted.

        Nobody needs it until somebody makes it a debt's (`keep`).
        """
        row = UploadRow(
            upload.id, upload.key, upload.staged_name, upload.part_bytes, upload.base_etag
        )
        self._records.write_upload(row, list(upload.claims.values()))
        self._strays[upload.id] = upload

    def find(self, key: str, staged_name: str) -> Upload | None:
        """An upload of a former life that was for this file."""
        same = (u for u in self._strays.values() if (u.key, u.staged_name) == (key, staged_name))
        return next(same, None)

    def keep(self, upload: Upload) -> None:
        """A debt has taken it."""
        del self._strays[upload.id]

    def note_part(self, upload: Upload, number: int, *, copied: bool) -> None:
        """A part arrived. On a full disk it is not noted, and sent again after a crash."""
        with suppress(FileError):
            self._records.write_part(upload.id, PartRow(number, upload.etags[number], copied))

    def stray(self, upload: Upload) -> None:
        """Nobody needs it any more: it is to be aborted."""
        self._strays[upload.id] = upload

    def ended(self, upload: Upload) -> None:
        """The server has forgotten it."""
        self._strays.pop(upload.id, None)
        with suppress(FileError):  # then it is aborted once more, some day
            self._records.change([], [], ended=[upload.id])

    def strays(self) -> list[Upload]:
        return list(self._strays.values())

    def has_stray(self, key: str) -> bool:
        """Whether an upload of this key may still become an object by a late answer."""
        return any(upload.key == key for upload in self._strays.values())


def revived(records: Records) -> list[Upload]:
    """The uploads of a former life, with what it claims to have sent."""
    found: list[Upload] = []
    for row in records.uploads():
        claims = {part.number: part for part in records.parts(row.id)}
        found.append(Upload(*row, claims=claims, number_max=max(claims, default=0)))
    return found
