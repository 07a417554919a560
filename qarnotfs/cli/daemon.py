"""The mount process: how a command starts it, and what it does when it is one.

Used by ``mount`` and ``run``. The parent never forks: it starts ``python -m qarnotfs mount
--foreground``, which leaves our session when it has mounted, and reads one line from a pipe,
``ready`` or an error.
Secrets reach the process through its environment only.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from qarnotfs.cli import configfile, logs, privacy
from qarnotfs.cli.mountpoint import check_free
from qarnotfs.cli.options import twins
from qarnotfs.cli.request import MountRequest
from qarnotfs.errors import QarnotfsError

log = logging.getLogger(__name__)

READY = b"ready\n"
# Parts of files are MiB large and live for a moment: a fifth of the kernel's work for them was to
# find pages of 4 KiB. See "Memory Allocation Tunables" in the manual of the GNU C library.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SUPERVISED = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
STOP_SEC = 10.0  # for a mount process that is told to stop before it mounted anything


def start(request: MountRequest) -> None:
    """Start the mount process and return once its mount answers.

    Raises `QarnotfsError` with its sentence and exit code when it does not mount; then no
    process is left.
    """
    request.spec()
    request.prepare()
    check_free(request.mountpoint)
    receiving, sending = os.pipe()
    process: subprocess.Popen[bytes] | None = None
    with os.fdopen(receiving, "rb") as pipe:
        try:
            with _heard_later(signal.SIGINT, signal.SIGTERM):
                try:
                    process = _spawn(request, sending)
                finally:
                    os.close(sending)
            line = pipe.readline()
        except BaseException:
            if process is not None:
                _stop(process)
            raise
    if line != READY:
        _stop(process)
        raise _failure(line, request.log_path())
    process.returncode = 0  # it is on its own now: no warning that we did not wait for it


@contextmanager
def _heard_later(*numbers: signal.Signals) -> Iterator[None]:
    """Signals wait for the end of the block: a process that was just started must be known."""
    heard: list[int] = []
    before = [signal.signal(number, lambda n, _: heard.append(n)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for one in heard:
            signal.raise_signal(one)


def _spawn(request: MountRequest, ready_fd: int) -> subprocess.Popen[bytes]:
    program, *arguments = request.argv()
    hidden = ["--foreground", f"--ready-fd={ready_fd}"]
    unsaid = twins() | SUPERVISED  # said already, or of this process alone
    with logs.open_log(request.log_path()) as output:
        return subprocess.Popen(
            [sys.executable, "-m", "qarnotfs", program, *hidden, *arguments],
            # Nor does it read our files of settings again: the arguments say it all.
            env=HUGE_PAGES
            | {n: v for n, v in os.environ.items() if n not in unsaid}
            | {configfile.VARIABLE: os.devnull},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[ready_fd],
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(line: bytes, log_path: Path) -> QarnotfsError:
    if not line.endswith(b"\n"):
        return QarnotfsError(f"The mount process died before it mounted; see {log_path}.")
    told = json.loads(line)
    error = QarnotfsError(told["message"])
    error.exit_code = told["exit_code"]
    return error


class _Parent:
    """Whoever waits for this mount process, told once: by a pipe, or not at all."""

    def __init__(self, ready_fd: int | None) -> None:
        self._pipe: TextIO | None = None
        if ready_fd is not None:
            # A helper that outlives us must not hold the pipe open, or the parent waits for it.
            os.set_inheritable(ready_fd, False)
            self._pipe = os.fdopen(ready_fd, "w")

    def tell(self, line: str) -> None:
        if self._pipe is None:
            return
        try:
            with self._pipe as pipe:
                pipe.write(line)
        except BrokenPipeError:  # it was killed; the mount is there all the same
            log.warning("Nobody waits for this mount any more")
        self._pipe = None


def serve(request: MountRequest, ready_fd: int | None) -> int:
    """Be the mount process, until it is unmounted and drained; return its exit code.

    With ``ready_fd`` (`start` is at its other end) what prevents the mount is told there.
    """
    in_background = ready_fd is not None
    privacy.close_to_onlookers()
    _configure_logging(request, to_file=not in_background)
    _allow_many_open_files()
    parent = _Parent(ready_fd)
    try:
        return _mount(request, parent, in_background)
    except QarnotfsError as error:
        if in_background:
            log.error("%s", error)
        parent.tell(json.dumps({"message": str(error), "exit_code": error.exit_code}) + "\n")
        raise
    except Exception:
        log.exception("The mount process failed")
        raise


def _allow_many_open_files() -> None:
    """Each file that a program writes to is open here, too."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # the system's own limit was lowered below it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _mount(request: MountRequest, parent: _Parent, in_background: bool) -> int:
    from qarnotfs import session

    if not in_background:  # else the parent has done it
        check_free(request.mountpoint)
    request.prepare()
    bucket, options = request.make_bucket(), request.mount_options()
    privacy.forget_secrets(request.settings.profile)
    if in_background:
        os.chdir("/")  # or the directory we were started in could not be unmounted

    def ready() -> None:
        if in_background:
            # Not earlier: autofs lets only the process group of systemd, which is that of
            # mount(8), through to the directory. Everybody else waits for the mount there.
            os.setsid()
        parent.tell(READY.decode())

    return session.run_mount(bucket, options, ready)


def _configure_logging(request: MountRequest, *, to_file: bool) -> None:
    """Log to stderr, which `start` made the log file; or to a file that was asked for."""
    said = request.settings
    fields = {"bucket": request.spec().bucket, "mountpoint": os.fspath(request.mountpoint)}
    logs.configure(said.log_format, said.log_level, said.log_file if to_file else None, fields)
