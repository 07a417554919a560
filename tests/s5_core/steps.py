"""Every step of I/O that a mount in memory takes, counted; and what becomes of the N-th.

A step is a change of a SQLite file, a change of a local file or directory, or a call of the
store: once before it is carried out, and once before its answer is heard. Used by the tests
that die, or fail, at each of them.
"""

from __future__ import annotations

import io
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore

FILE_CALLS = (
    *("copy_file_range", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "pwrite"),
    *("rename", "replace", "truncate", "unlink"),
)
SQL_CHANGES = {"BEGIN", "COMMIT", "CREATE", "DELETE", "INSERT", "REPLACE", "UPDATE"}
HOT = ("head", "get", "put", "upload_part", "copy_object")
CONTROL = (
    *("list_page", "copy", "delete", "create_upload", "copy_part", "complete_upload"),
    "abort_upload",
)


@dataclass(frozen=True)
class Step:
    """One step: where, and the name of the call."""

    where: Literal["file", "sql", "request", "answer"]
    name: str


class Steps:
    """Calls ``fate(step)`` at a chosen step: it raises, or never returns.

    ``met`` is that step once it was there. Nobody takes a step while ``fate`` is at work.
    """

    def __init__(self, fate: Callable[[Step], None]) -> None:
        self.met: Step | None = None
        self._count = self._number = 0
        self._fate = fate
        self._lock = threading.Lock()

    def choose(self, number: int) -> None:
        """The ``number``-th step from here, counted from 1."""
        self._count, self._number = 0, number

    def __call__(self, where: Literal["file", "sql", "request", "answer"], name: str) -> None:
        with self._lock:
            self._count += 1
            if self._count == self._number:
                self.met = Step(where, name)
                self._fate(self.met)

    @contextmanager
    def watching(self, store: MemoryStore) -> Iterator[Steps]:
        """Every step of this process is one of ours for the length of a block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in FILE_CALLS:
                patch.setattr(os, name, self._stepping(getattr(os, name), "file", name))
            patch.setattr(os, "open", self._opening(os.open))
            patch.setattr(io, "open", self._opening(io.open))
            patch.setattr(sqlite3, "connect", self._connecting(sqlite3.connect))
            for name in CONTROL:
                patch.setattr(store, name, self._asking(getattr(store, name)))
            for name in HOT:
                patch.setattr(store, name, self._flying(getattr(store, name)))
            yield self

    def _stepping(
        self, call: Callable[..., Any], where: Literal["file", "sql"], name: str
    ) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self(where, name)
            return call(*args, **kwargs)

        return stepping

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Only where it makes or empties a file."""

        def opening(path: Any, how: Any = "r", *args: Any, **kwargs: Any) -> Any:
            makes = how & (os.O_CREAT | os.O_TRUNC) if isinstance(how, int) else set(how) & {*"wx"}
            if makes and isinstance(path, str | Path):
                self("file", "open")
            return call(path, how, *args, **kwargs)

        return opening

    def _connecting(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        steps = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                steps._sql(sql)
                return super().execute(sql, *args)

            def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
                steps._sql(sql)
                return super().executemany(sql, *args)

        return lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)

    def _sql(self, text: str) -> None:
        word = text.split(maxsplit=1)[0].upper()
        if word in SQL_CHANGES:
            self("sql", word)

    def _asking(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asking(*args: Any, **kwargs: Any) -> Any:
            self("request", call.__name__)
            made = call(*args, **kwargs)
            self("answer", call.__name__)
            return made

        return asking

    def _flying(self, call: Callable[..., Flight[Any]]) -> Callable[..., Flight[Any]]:
        asking = self._asking(call)

        def flying(*args: Any, **kwargs: Any) -> Flight[Any]:
            try:
                flight: Flight[Any] = asking(*args, **kwargs)
            except Exception as error:  # what `fate` raised
                return Flight.failed(error)
            return flight

        return flying
