"""The buckets of ``run`` where there is no FUSE: copied in before the command, and back behind it.

Used by ``run``. What a directory holds and what is sent is `bucket.stage`'s business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from qarnotfs.cli.child import second_signal
from qarnotfs.cli.outcome import bar_wanted, complain
from qarnotfs.cli.request import MountRequest
from qarnotfs.errors import QarnotfsError

if TYPE_CHECKING:
    from qarnotfs.bucket.stage import Stage

NAMED_MAX = 3
THREADS_SEC = 5.0


@dataclass
class Copies:
    """What is to be staged, and how long the way back may take, if not for ever."""

    requests: list[MountRequest]
    timeout_sec: float | None
    _stages: list[tuple[Stage, MountRequest]] = field(default_factory=list)

    def begin(self) -> None:
        """Fetch all; raises what keeps one of the buckets from being complete."""
        for request in self.requests:
            stage = _stage(request)
            for name, why in stage.fill().items():
                complain(f"{name} is not there: {why}")
            stage.bucket.close()
            self._stages.append((stage, request))
        _await_threads()

    def end(self) -> bool:
        """Send back what was changed, and empty the directories.

        Whether all that was written is in the buckets; what is not, stays in its directory.
        """
        arrived = [True]
        with second_signal(_interrupt), _limited(self.timeout_sec):
            for stage, request in self._stages:
                arrived.append(_attempt(partial(_send, stage, request)))
        for stage, _ in self._stages:
            stage.bucket.close()
        return all(arrived)


def _await_threads() -> None:
    """Let closed buckets end: a thread of theirs could be given the signals for the command."""
    deadline = time.monotonic() + THREADS_SEC
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(THREADS_SEC / 1000)  # between two looks, until the deadline


def _stage(request: MountRequest) -> Stage:
    from qarnotfs.bucket.stage import Stage

    bucket = request.make_bucket()
    bucket.store.check()
    root, umask = os.fspath(request.mountpoint), request.settings.umask
    return Stage(bucket, root, umask, progress=bar_wanted(quiet=False))


def _attempt(send: Callable[[], bool]) -> bool:
    try:
        return send()
    except (QarnotfsError, OSError) as error:
        complain(error)
    except KeyboardInterrupt:
        complain("Interrupted: what is not in the bucket is still in its directory.")
    return False


def _send(stage: Stage, request: MountRequest) -> bool:
    if request.settings.read_only:
        if changed := stage.changed():
            complain(f"{stage.root} is read-only, and is not sent back: {_named(changed)}.")
        return not changed
    from qarnotfs.bucket.report import SyncFailed

    failed = None
    try:
        report = stage.send()
    except SyncFailed as error:
        failed, report = error, error.report
    for name, why in report.skipped.items():
        complain(f"{name}: {why}")
    left = stage.clear()
    if failed or left:
        complain(f"{failed or 'Not sent'}: kept in {stage.root}: {_named(left)}.")
    return not (failed or left)


def _named(paths: list[str]) -> str:
    more = len(paths) - NAMED_MAX
    return ", ".join(paths[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _interrupt() -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _limited(timeout_sec: float | None) -> Iterator[None]:
    """After this time it is as if somebody had pressed Ctrl-C."""
    before = signal.signal(signal.SIGALRM, lambda *_: _interrupt())
    signal.setitimer(signal.ITIMER_REAL, timeout_sec or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
