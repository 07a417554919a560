"""Objects that were copied onto themselves, for new attributes, and have another etag since.

Used by `journal`. So it is with objects made of parts, on some servers. Who builds upon the
version of before, and finds that one, has met nobody else. Dies with the mount, as do the
programs that have the former version open. Pure.
"""

from __future__ import annotations

from qarnotfs.store.base import ObjectInfo
from qarnotfs.writeback.copying import may_be_copy
from qarnotfs.writeback.debts import NO_TRIES, Debt, Tries

COPIES_MAX = 1000  # that are remembered: an open file's is hardly older


class Copies:
    """The etags of copies, by key and the etag of before."""

    def __init__(self) -> None:
        self._etags: dict[tuple[str, str | None], str] = {}

    def note(self, source: ObjectInfo, copied: ObjectInfo) -> None:
        """``source`` was copied onto itself."""
        if copied.etag != source.etag and may_be_copy(copied, source):
            self._etags[source.key, source.etag] = copied.etag
            if len(self._etags) > COPIES_MAX:
                del self._etags[next(iter(self._etags))]

    def tries(self, debt: Debt) -> Tries:
        """What the debt may find in place of the version it expects."""
        etag = self._etags.get((debt.key, debt.expected.etag))
        lineage = debt.staged.lineage if debt.staged else ""
        return {etag: lineage} if etag else NO_TRIES
