"""``qarnotfs run``: mount, run a command, upload, unmount. What a container starts with."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import click

from qarnotfs import control
from qarnotfs.cli import daemon
from qarnotfs.cli.drain import Drain
from qarnotfs.cli.options import SectionedCommand, Settings, mount_options
from qarnotfs.cli.request import MountRequest
from qarnotfs.errors import QarnotfsError

NOT_UPLOADED = 124  # CMD succeeded, but not everything it wrote is in the bucket
NOT_MOUNTED = 125
NOT_EXECUTABLE = 126  # this one and the next as a shell has them
NOT_FOUND = 127
KILLED = 128  # plus the signal's number

FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
SI_KERNEL = 0x80  # siginfo: sent by the terminal, so to every process in front of it


@click.command(
    cls=SectionedCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  qarnotfs run data:/data -- python train.py --epochs 3
  qarnotfs run --read-only models:/models -- ./serve
  qarnotfs run inputs:/in results:/out -- sh -c 'work < /in/x > /out/y'

\b
Options come before the first BUCKET:DIR and hold for all of them; a missing DIR is made.
Exit code: CMD's own (128 + N when signal N ended it); 127 or 126 when CMD was not found or
cannot be executed; 125 when a bucket could not be mounted, and CMD was not run; 124 when
CMD succeeded, but not everything it wrote is in the bucket.""",
)
@click.argument("words", metavar="BUCKET:DIR... -- CMD [ARG]...", nargs=-1, required=True)
@mount_options
def run(words: tuple[str, ...], **given: Any) -> int:
    """Mount buckets, run CMD, wait until what it wrote is in the buckets."""
    targets, command = _parted(words)
    requests = [_request(target, Settings(spec=None, **given)) for target in targets]
    signal.signal(signal.SIGTERM, _terminated)
    mounted: list[Path] = []
    try:
        if not _mount_all(requests, mounted):
            return NOT_MOUNTED
        code = _run(command)
    finally:
        arrived = _unmount_all(mounted)
    return code or (0 if arrived else NOT_UPLOADED)


def _parted(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "--" not in words:
        raise click.UsageError("Write '--' between the buckets and the command.")
    at = words.index("--")
    targets, command = words[:at], words[at + 1 :]
    if not targets or not command:
        raise click.UsageError("Give at least one BUCKET:DIR, then '--' and a command.")
    return targets, command


def _request(target: str, settings: Settings) -> MountRequest:
    bucket, colon, directory = target.partition(":")
    if not (bucket and colon and directory):
        raise click.UsageError(f"{target!r} is not a BUCKET:DIR.")
    return MountRequest(bucket, control.canonical(Path(directory)), settings)


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(KILLED + number)


def _mount_all(requests: list[MountRequest], mounted: list[Path]) -> bool:
    for request in requests:
        try:
            request.mountpoint.mkdir(parents=True, exist_ok=True)
            daemon.start(request)
        except (QarnotfsError, OSError) as error:
            click.echo(f"qarnotfs: {error}", err=True)
            return False
        mounted.append(request.mountpoint)
    return True


# --- the command ------------------------------------------------------------------------------


def _run(command: tuple[str, ...]) -> int:
    """Run ``command`` with our signals forwarded to it; its exit code as a shell gives it."""
    awaited = FORWARDED | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        pid = _spawn(command)
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


def _spawn(command: tuple[str, ...]) -> int:
    return os.posix_spawnp(
        command[0],
        command,
        os.environ,
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


# --- the end ----------------------------------------------------------------------------------


def _unmount_all(mounted: list[Path]) -> bool:
    """Unmount everything first, so that all upload at the same time; then watch each."""
    with contextlib.ExitStack() as stack:
        drains = [_unmount(mountpoint, stack) for mountpoint in mounted]
        arrived = [_arrived(drain) for drain in drains]
    return all(arrived)


def _unmount(mountpoint: Path, stack: contextlib.ExitStack) -> Drain | None:
    """What CMD left running may still use the mount; it keeps what it has open, no more."""
    try:
        drain = stack.enter_context(Drain(mountpoint))
        try:
            drain.unmount(force=False)
        except QarnotfsError:
            drain.unmount(force=True)
    except QarnotfsError as error:
        click.echo(f"qarnotfs: {mountpoint}: {error}", err=True)
        return None
    return drain


def _arrived(drain: Drain | None) -> bool:
    if drain is None:
        return False
    try:
        drain.watch()
    except QarnotfsError as error:
        click.echo(f"qarnotfs: {error}", err=True)
        return False
    return True
