"""The times of directories that changed here, and that no marker in the bucket says. Pure.

Used by `lookup`. The kernel forgets directories when it likes and then asks for them anew: what
was shown once is shown again, as long as the mount lives and the marker is the same.
"""

from __future__ import annotations

from collections import OrderedDict

from qarnotfs.core.attributes import Posix

DIRECTORIES_MAX = 50_000  # some 20 MB; of more, those that changed last


class Dates:
    """By the visible prefix of a directory."""

    def __init__(self) -> None:
        # The marker's ctime, which whoever writes one sets; mtime and ctime as they are here.
        self._known: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def keep(self, prefix: str, posix: Posix, marker: Posix) -> None:
        """A directory is dated ``posix`` here, and ``marker`` in the bucket."""
        self._known[prefix] = marker.ctime_ns, posix.mtime_ns, posix.ctime_ns
        self._known.move_to_end(prefix)
        if len(self._known) > DIRECTORIES_MAX:
            self._known.popitem(last=False)

    def dated(self, prefix: str, marker: Posix) -> Posix:
        """What a directory with this marker shows."""
        known = self._known.get(prefix)
        if known is None or known[0] != marker.ctime_ns:
            return marker
        return marker._replace(mtime_ns=known[1], ctime_ns=known[2])

    def move(self, old: str, new: str) -> None:
        """A directory was renamed, with all that is in it."""
        for prefix in [prefix for prefix in self._known if prefix.startswith(old)]:
            self._known[new + prefix.removeprefix(old)] = self._known.pop(prefix)
