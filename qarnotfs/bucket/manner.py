"""How a synchronisation is to be done.

Used by `upward` and `downward`; made by `Bucket`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from qarnotfs.bucket.progress import Progress, Told, shown
from qarnotfs.store.base import ObjectInfo


@dataclass(frozen=True)
class Manner:
    """``delete``: what the other side has not; ``dry_run``: change nothing; ``say``: each step.

    ``arrived``: name and version, with its metadata, of each file that was fetched; an empty
    one needs no fetching.
    """

    delete: bool = False
    dry_run: bool = False
    progress: Progress | None = None
    say: Callable[[str], object] = lambda step: None
    arrived: Callable[[str, ObjectInfo], object] = lambda name, info: None

    def told(self, total_bytes: int) -> AbstractContextManager[Told]:
        """Whom to tell about the bytes that have moved."""
        return shown(self.progress, total_bytes)
