"""How fast a mount uploads, and how long what is left will take. Pure.

Used by `life`, which notes every second how much has arrived.
"""

from __future__ import annotations

from collections import deque

WINDOW_SEC = 15.0  # long enough to smooth over single files, short enough to notice a change


class Pace:
    """The bytes that arrived in the bucket over the last seconds."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque()  # (when, bytes arrived since the mount)

    def note(self, now_sec: float, arrived_bytes: int, pending_bytes: int) -> None:
        """Take down how much has arrived by now; idle times, with nothing to send, do not count."""
        if not pending_bytes:
            self._notes.clear()
        self._notes.append((now_sec, arrived_bytes))
        while self._notes[0][0] < now_sec - WINDOW_SEC:
            self._notes.popleft()

    def bytes_per_sec(self) -> float:
        """The mean over the window; 0 when nothing arrived, or nothing is known yet."""
        (from_sec, from_bytes), (to_sec, to_bytes) = (
            (self._notes[0], self._notes[-1]) if self._notes else ((0.0, 0), (0.0, 0))
        )
        return max(0, to_bytes - from_bytes) / (to_sec - from_sec) if to_sec > from_sec else 0.0

    def eta_sec(self, pending_bytes: int) -> float | None:
        """Until all of it has arrived at this pace; ``None``: nobody knows."""
        rate = self.bytes_per_sec()
        return pending_bytes / rate if rate else None
