"""System calls as any user makes them, and what came of them.

Used by the tests that hold a mount against a local disk: the same calls, the same outcome.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE: by which file systems date changes
ROOT, USER, OTHER = 0, 65531, 65532  # uid and gid alike; the last two belong to nobody

_libc = ctypes.CDLL(None, use_errno=True)
# Of this thread alone: glibc's own function would change every thread of the process.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}.get(platform.machine())


@contextmanager
def acting_as(uid: int, gid: int | None = None) -> Iterator[None]:
    """To file systems this thread is that user, with one group and no privilege, inside."""
    if uid == ROOT:
        yield
        return
    groups = os.getgroups()
    _set_groups([])
    _libc.setfsgid(uid if gid is None else gid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())
        _set_groups(groups)


def _set_groups(groups: list[int]) -> None:
    assert _SETGROUPS is not None, f"no number of setgroups is known for {platform.machine()}"
    failed = _libc.syscall(_SETGROUPS, len(groups), (ctypes.c_uint * len(groups))(*groups))
    assert not failed, errno.errorcode[ctypes.get_errno()]


def outcome(call: Callable[[], object], uid: int = ROOT) -> str:
    """``ok``, or the name of the errno."""
    try:
        with acting_as(uid):
            call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def next_tick() -> int:
    """The time, once the clock by which file systems date changes has moved on."""
    before = time.clock_gettime_ns(COARSE_CLOCK)
    while (now := time.clock_gettime_ns(COARSE_CLOCK)) == before:
        pass
    return now


def closing(flags: int, mode: int = 0o644) -> Callable[[str], None]:
    """A call that opens a file with these flags, and closes it."""
    return lambda path: os.close(os.open(path, flags, mode))


def in_parallel(*calls: Callable[[], object]) -> list[object]:
    """What all of them return, begun at once."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
