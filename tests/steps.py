"""Random steps of programs and of others: what they are, and how they are done to a directory.

Used by `model`, and by the models of the lower storeys, which have no files to open.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

PATHS = ("a", "b", "d", "d/a", "d/b", "d/e", "d/e/a")
FLAGS = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY,
    "both": os.O_RDWR,
    "new": os.O_RDWR | os.O_CREAT,
    "only new": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "empty": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "cut": os.O_WRONLY | os.O_TRUNC,
    "append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}
SLOTS = 3
NEAR_A_PAGE = (4095, 4096, 4097, 131_072, 262_145)
NEAR_A_CELL = (1, 4096, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 9 << 20, 17 << 20)
MODES = (0o600, 0o644, 0o755)
READ_BYTES = 64 << 20  # more than any file here has


class Pattern(bytes):
    """``size`` random bytes that say in a failure's report how to make them again."""

    seed: int

    def __new__(cls, seed: int, size: int) -> Pattern:
        self = super().__new__(cls, random.Random(seed).randbytes(size))
        self.seed = seed
        return self

    def __repr__(self) -> str:
        return f"Pattern({self.seed}, {len(self)})"


@dataclass(frozen=True)
class Step:
    """One call. ``path`` and what the call needs besides; ``slot`` numbers an open file."""

    what: str
    path: str = ""
    other: str = ""
    slot: int = 0
    offset: int = 0
    data: bytes = b""


paths = st.sampled_from(PATHS)
slots = st.integers(0, SLOTS - 1)
small = st.integers(0, 40)
sizes = st.one_of(small, small, small, st.sampled_from(NEAR_A_PAGE))
large = st.sampled_from(NEAR_A_CELL)


def patterns(size: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    return st.builds(Pattern, st.integers(0, 255), size)


def steps(
    what: str, path: st.SearchStrategy[str] = paths, **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[Step]:
    """A step that names a path."""
    return st.builds(Step, st.just(what), path, **more)


def slot_steps(what: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """A step on an open file; nothing is done when the slot is empty."""
    return st.builds(Step, st.just(what), slot=slots, **more)


def local_steps(
    size: st.SearchStrategy[int], path: st.SearchStrategy[str] = paths
) -> list[st.SearchStrategy[Step]]:
    """Everything a program does, with offsets and lengths of ``size``."""
    opened = steps("open", path, other=st.sampled_from(sorted(FLAGS)), slot=slots)
    written = slot_steps("pwrite", offset=size, data=patterns(size))
    return [
        steps("write", path, offset=size, data=patterns(size)),
        steps("truncate", path, offset=size),
        steps("unlink", path),
        steps("mkdir", path),
        steps("rmdir", path),
        *[steps("rename", path, other=path)] * 2,
        *[opened] * 3,
        *[written] * 3,
        slot_steps("pread", offset=size),
        slot_steps("ftruncate", offset=size),
        slot_steps("fsync"),
        st.just(Step("settle")),
        *[slot_steps("close")] * 2,
    ]


def lives(step: st.SearchStrategy[Step], longest: int) -> st.SearchStrategy[list[Step]]:
    """Lists of any length up to ``longest``, each as likely; ``st.lists`` favours the short."""
    lengths = st.integers(0, longest)
    return lengths.flatmap(lambda length: st.lists(step, min_size=length, max_size=length))


chmod = steps("chmod", offset=st.sampled_from(MODES))
any_local = st.one_of(*local_steps(sizes), chmod)
patches = patterns(st.sampled_from((1, 4096, 70_000)))
few = st.sampled_from(PATHS[:4])  # so that what is large is changed and renamed again
any_large = st.one_of(
    *local_steps(large, few),
    *[steps("write", few, offset=large, data=patches)] * 3,
    steps("rename", few, other=few),
    st.sampled_from([Step("kill"), Step("remount")]),
)
any_remote = st.one_of(
    *local_steps(sizes), *[steps("put", data=patterns(sizes)), steps("delete")] * 2
)
any_or_death = st.one_of(
    *[*local_steps(sizes), chmod] * 2,
    st.sampled_from([Step("kill"), Step("kill"), Step("remount")]),
)


def on_path(top: Path, step: Step) -> object:
    """Do a step that names a path below ``top``; what the call returned."""
    path = top / step.path
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: _write(path, step),
        "truncate": lambda: os.truncate(path, step.offset),
        "chmod": lambda: _chmod(path, step.offset),
        "unlink": path.unlink,
        "mkdir": path.mkdir,
        "rmdir": path.rmdir,
        "rename": lambda: os.rename(path, top / step.other),
    }
    return calls[step.what]()


def on_file(descriptor: int, step: Step) -> object:
    """Do a step on an open file; what the call returned."""
    calls: dict[str, Callable[[], object]] = {
        "pwrite": lambda: os.pwrite(descriptor, step.data, step.offset),
        "pread": lambda: os.pread(descriptor, READ_BYTES, step.offset),
        "ftruncate": lambda: os.ftruncate(descriptor, step.offset),
        "fsync": lambda: os.fsync(descriptor),
        "close": lambda: os.close(descriptor),
    }
    return calls[step.what]()


def _chmod(path: Path, mode: int) -> int:
    path.chmod(mode)
    return path.stat().st_mode


def _write(path: Path, step: Step) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        return os.pwrite(descriptor, step.data, step.offset)
    finally:
        os.close(descriptor)
