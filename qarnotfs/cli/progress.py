"""How uploads are shown: a bar on a terminal, now and then a line anywhere else.

Used by `drain`. Writes to stderr only; shows nothing while nothing waits for upload.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from qarnotfs.figures import files_text, going, left_text, pace_text

LINE_SEC = 5.0  # between two lines of a log that a person may read later


class Display(Protocol):
    """Something that is shown one status after the other."""

    def show(self, status: dict[str, Any]) -> None: ...


@contextmanager
def display(title: str) -> Iterator[Display]:
    """What suits stderr."""
    if sys.stderr.isatty():
        with _bar(title) as bar:
            yield bar
    else:
        yield Lines(title)


class Lines:
    """A plain line every few seconds, while there is something new to say."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next_sec = 0.0
        self._said = ""

    def show(self, status: dict[str, Any]) -> None:
        line = f"{self._title}: {left_text(status)}"
        if status["pending_files"] and line != self._said and time.monotonic() > self._next_sec:
            click.echo(line, err=True)
            self._said, self._next_sec = line, time.monotonic() + LINE_SEC


@contextmanager
def _bar(title: str) -> Iterator[Display]:
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TextColumn("{task.fields[left]}"),
        progress.TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        yield _Bar(bars, title)


class _Bar:
    """A bar whose whole is the most that ever waited: writers may add to it."""

    def __init__(self, bars: Any, title: str) -> None:
        self._bars = bars
        self._title = title
        self._task: Any = None
        self._total = 0

    def show(self, status: dict[str, Any]) -> None:
        files, waiting = going(status)
        said = {"left": f"{files_text(files)} left", "pace": pace_text(status)}
        if self._task is None:
            if not files:
                return
            self._task = self._bars.add_task(self._title, total=waiting, **said)
        self._total = max(self._total, waiting)
        self._bars.update(self._task, total=self._total, completed=self._total - waiting, **said)
