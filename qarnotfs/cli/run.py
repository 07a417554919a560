"""``qarnotfs run``: mount, run a command, upload, unmount. What a container starts with."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from qarnotfs import control
from qarnotfs.cli import daemon
from qarnotfs.cli.child import KILLED, execute
from qarnotfs.cli.drain import UPLOADS_HELP, Drain, timeout_option
from qarnotfs.cli.options import Settings, mount_options
from qarnotfs.cli.request import MountRequest
from qarnotfs.cli.sections import SectionedCommand
from qarnotfs.errors import QarnotfsError

NOT_UPLOADED = 124  # CMD succeeded, but not everything it wrote is in the bucket
NOT_MOUNTED = 125


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
CMD succeeded, but not everything it wrote is in the bucket.

\b
SIGTERM and Ctrl-C go to CMD. While it uploads afterwards, the second of them ends that;
what is left stays in the cache directory.""",
)
@click.argument("words", metavar="BUCKET:DIR... -- CMD [ARG]...", nargs=-1, required=True)
@timeout_option(UPLOADS_HELP)
@mount_options
def run(words: tuple[str, ...], timeout: float | None, **given: Any) -> int:
    """Mount buckets, run CMD, wait until what it wrote is in the buckets."""
    targets, command = _parted(words)
    requests = [_request(target, Settings(spec=None, **given)) for target in targets]
    signal.signal(signal.SIGTERM, _terminated)
    mounted: list[Path] = []
    try:
        if not _mount_all(requests, mounted):
            return NOT_MOUNTED
        code = execute(command)
    finally:
        arrived = _unmount_all(mounted, timeout)
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


def _unmount_all(mounted: list[Path], timeout_sec: float | None) -> bool:
    """Unmount everything first, so that all upload at the same time; then watch each."""
    drains: list[Drain] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_second_signal_hurries(drains))
        for mountpoint in mounted:
            if drain := _unmount(mountpoint, timeout_sec, stack):
                drains.append(drain)
        arrived = [_arrived(drain) for drain in drains]
    return all(arrived) and len(drains) == len(mounted)


@contextlib.contextmanager
def _second_signal_hurries(drains: list[Drain]) -> Iterator[None]:
    """One signal may be meant for CMD, or be a slip; the second ends the uploads."""
    heard = 0

    def count(number: int, _frame: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            os.write(2, b"Uploading what is left; once more ends that.\n")  # echo may be under way
        else:
            for drain in drains:
                drain.hurry()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, count) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _unmount(
    mountpoint: Path, timeout_sec: float | None, stack: contextlib.ExitStack
) -> Drain | None:
    """What CMD left running may still use the mount, and is given the time to finish."""
    try:
        drain = stack.enter_context(Drain(mountpoint))
        try:
            drain.unmount(force=False, timeout_sec=timeout_sec)
        except QarnotfsError:
            click.echo(f"{mountpoint} is in use: waiting for what was left running.", err=True)
            drain.unmount(force=True, timeout_sec=timeout_sec)
    except QarnotfsError as error:
        click.echo(f"qarnotfs: {mountpoint}: {error}", err=True)
        return None
    return drain


def _arrived(drain: Drain) -> bool:
    try:
        drain.watch()
    except QarnotfsError as error:
        click.echo(f"qarnotfs: {error}", err=True)
        return False
    return True
