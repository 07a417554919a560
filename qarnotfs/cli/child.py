"""A command run in our place: it gets our signals, and we end as it ends.

Used by ``run``. It knows nothing of mounts. As the first process of a container it also
collects the processes that others left behind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click

NOT_EXECUTABLE = 126  # this one and the next as a shell has them
NOT_FOUND = 127
KILLED = 128  # plus the signal's number

FORWARDED = frozenset(
    {
        *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
    }
)
SI_KERNEL = 0x80  # siginfo: sent by the terminal, so to every process in front of it


def execute(command: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Run ``command`` with our signals forwarded to it; its exit code as a shell gives it."""
    awaited = FORWARDED | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        pid = _spawn(command, environ)
        return _wait(pid, awaited)
    except FileNotFoundError:
        click.echo(f"qarnotfs: {command[0]}: command not found", err=True)
        return NOT_FOUND
    except OSError as error:
        click.echo(f"qarnotfs: {command[0]}: {error.strerror}", err=True)
        return NOT_EXECUTABLE
    finally:
        while signal.sigtimedwait(awaited, 0):
            pass  # meant for the command: they must not interrupt the uploads
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)


def _spawn(command: tuple[str, ...], environ: Mapping[str, str]) -> int:
    return os.posix_spawnp(
        command[0],
        command,
        environ,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGTERM],
    )


def _wait(pid: int, awaited: frozenset[signal.Signals]) -> int:
    """Forward signals until ``pid`` ends, burying orphans: we may be a container's first process.

    What the terminal sent, the command has got already.
    """
    while True:
        told = signal.sigwaitinfo(awaited)
        if told.si_signo == signal.SIGCHLD:
            code = _bury(pid)
            if code is not None:
                return code
        elif told.si_code != SI_KERNEL:
            os.kill(pid, told.si_signo)


def _bury(pid: int) -> int | None:
    """Collect every process that ended; the exit code of ``pid`` if it is one of them."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if not ended:
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            code = KILLED - code if code < 0 else code


@contextmanager
def second_signal(hurry: Callable[[], None]) -> Iterator[None]:
    """During uploads: one signal may be meant for the command, or be a slip; the second hurries."""
    heard = 0

    def count(number: int, _frame: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            os.write(2, b"Uploading what is left; once more ends that.\n")  # echo may be under way
        else:
            hurry()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, count) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
