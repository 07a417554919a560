"""How a synchronisation is to be done, and running one step for many at once.

Used by `upward` and `downward`; made by `Bucket`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from qarnotfs.bucket.progress import Progress, Told, shown

T = TypeVar("T")


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


def each(step: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Do ``step`` for each item in a few threads. What one raises ends it: no other begins."""
    pool = ThreadPoolExecutor(threads, "qarnotfs-bucket")
    try:
        for _ in pool.map(step, items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
