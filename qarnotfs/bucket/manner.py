"""How a synchronisation is to be done.

Used by `upward` and `downward`; made by `Bucket`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from qarnotfs.bucket.progress import Progress, Told, shown


@dataclass(frozen=True)
class Manner:
    """``delete``: what the other side has not; ``dry_run``: change nothing; ``say``: each step."""

    delete: bool = False
    dry_run: bool = False
    progress: Progress | None = None
    say: Callable[[str], object] = lambda step: None

    def told(self, total_bytes: int) -> AbstractContextManager[Told]:
        """Whom to tell about the bytes that have moved."""
        return shown(self.progress, total_bytes)
