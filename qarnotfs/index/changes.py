"""Our own changes, laid over answers that were under way while we made them. Pure.

Used by `index`. A HEAD or LIST that was sent before an upload finished may arrive after
it and tell of the state before. So a request notes when it was sent, and on its return
asks which keys we changed since.
"""

from __future__ import annotations

from qarnotfs.store.base import ObjectInfo


class Changes:
    """The changes made since the oldest request under way was sent; else empty."""

    def __init__(self) -> None:
        self._log: list[tuple[int, str, ObjectInfo | None]] = []
        self._serial = 0
        self._under_way: list[int] = []

    def __len__(self) -> int:
        return len(self._log)

    def note(self, key: str, info: ObjectInfo | None) -> None:
        """We stored ``info`` under ``key``, or deleted it (``None``)."""
        self._serial += 1
        if self._under_way:
            self._log.append((self._serial, key, info))

    def enter(self) -> int:
        """A request is sent. Give the answer to `leave`, whatever becomes of it."""
        self._under_way.append(self._serial)
        return self._serial

    def leave(self, since: int) -> dict[str, ObjectInfo | None]:
        """The last change of each key since `enter` returned ``since``."""
        self._under_way.remove(since)
        ours = {key: info for serial, key, info in self._log if serial > since}
        oldest = min(self._under_way, default=self._serial)
        if self._log and self._log[0][0] <= oldest:
            self._log = [entry for entry in self._log if entry[0] > oldest]
        return ours
