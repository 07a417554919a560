"""What ``progress=`` means: a bar on stderr, a function that is called, or nothing.

Used by every method of `Bucket` that moves bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Told = Callable[[int, int, str], object]  # (bytes so far, bytes in all, file name)
Progress = Told | bool


@contextmanager
def shown(progress: Progress | None, total_bytes: int | None = None) -> Iterator[Told]:
    """The function to tell; it may be called from any thread and tells one at a time.

    ``total_bytes``: of all files together, where that is known.
    """
    if not progress:
        yield lambda read, total, name: None
    elif progress is True:
        with _bar(total_bytes) as bar:
            yield bar
    else:
        yield _one_at_a_time(progress)


def _one_at_a_time(told: Told) -> Told:
    lock = threading.Lock()

    def tell(read: int, total: int, name: str) -> None:
        with lock:
            told(read, total, name)

    return tell


@contextmanager
def _bar(total_bytes: int | None) -> Iterator[Told]:
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        yield _one_at_a_time(_Bar(bars, total_bytes))


class _Bar:
    """One bar for all files; it shows the name of the last that moved."""

    def __init__(self, bars: Any, total_bytes: int | None) -> None:
        self._bars = bars
        self._total = total_bytes
        self._task = bars.add_task("", total=total_bytes)
        self._unfinished: dict[str, int] = {}
        self._moved = 0

    def __call__(self, read: int, total: int, name: str) -> None:
        self._moved += read - self._unfinished.pop(name, 0)
        if read < total:
            self._unfinished[name] = read
        whole = total if self._total is None else self._total
        self._bars.update(self._task, completed=self._moved, total=whole, description=name)
