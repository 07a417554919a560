"""The buckets of ``run`` as mounts: made before the command, and drained behind it.

Used by ``run``. Each mount is a process of its own, see `daemon`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import click

from qarnotfs.cli import daemon
from qarnotfs.cli.child import second_signal
from qarnotfs.cli.drain import Drain
from qarnotfs.cli.request import MountRequest
from qarnotfs.control.deadmount import is_mounted
from qarnotfs.errors import QarnotfsError


class Mounts(NamedTuple):
    """What is to be mounted, and how long its uploads may take in the end, if not for ever."""

    requests: list[MountRequest]
    timeout_sec: float | None
    mounted: list[Path]

    def begin(self) -> None:
        """Mount all; raises what keeps one of them from being mounted."""
        for request in self.requests:
            if not is_mounted(request.mountpoint):  # a dead one answers nothing
                request.mountpoint.mkdir(parents=True, exist_ok=True)
            daemon.start(request)
            self.mounted.append(request.mountpoint)

    def end(self) -> bool:
        """Unmount everything first, so that all upload at the same time; then watch each.

        Whether all that was written is in the buckets.
        """
        drains: list[Drain] = []

        def hurry() -> None:
            for drain in drains:
                drain.hurry()

        with contextlib.ExitStack() as stack:
            stack.enter_context(second_signal(hurry))
            for mountpoint in reversed(self.mounted):  # one may be inside of another
                if drain := _unmount(mountpoint, self.timeout_sec, stack):
                    drains.append(drain)
            arrived = [_arrived(drain) for drain in drains]
        return all(arrived) and len(drains) == len(self.mounted)


def _unmount(
    mountpoint: Path, timeout_sec: float | None, stack: contextlib.ExitStack
) -> Drain | None:
    """What the command left running may still use the mount, and is given the time to finish."""
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
