"""``qarnotfs umount`` and ``qarnotfs flush``: what was written reaches the bucket."""

from __future__ import annotations

from pathlib import Path

import click

from qarnotfs import control
from qarnotfs.cli.completing import directory_argument
from qarnotfs.cli.drain import UPLOADS_HELP, Drain, timeout_option, wait_for_uploads
from qarnotfs.control.deadmount import is_dead, is_mounted, unmount_dead
from qarnotfs.errors import NoDaemon, QarnotfsError, UsageError


@click.command(
    epilog="""\b
Examples:
  qarnotfs umount /mnt/data
  qarnotfs umount /mnt/data --timeout 5m

\b
Exit code 0: every file is in the bucket. 1: some are not; they are kept on this machine,
and the next mount of the bucket uploads them. 2: DIR is not a qarnotfs mount.

\b
Interrupted, it stops watching: the mount process goes on uploading in the background."""
)
@directory_argument
@timeout_option(UPLOADS_HELP)
@click.option(
    "--force",
    is_flag=True,
    envvar="QARNOTFS_FORCE",
    show_envvar=True,
    help="Also when programs still use it: they keep what they have open.",
)
def umount(directory: Path, timeout: float | None, force: bool) -> None:
    """Unmount DIR and wait until what was written is in the bucket."""
    mountpoint = control.canonical(directory)
    try:
        with Drain(mountpoint) as drain:
            drain.unmount(force=force, timeout_sec=timeout)
            status = drain.watch()
    except NoDaemon:
        _unmount_orphan(mountpoint)
    except KeyboardInterrupt:
        click.echo("Uploading goes on in the background; see 'qarnotfs status'.", err=True)
        raise
    else:
        click.echo(f"Unmounted {mountpoint}; everything is in {status['bucket']}.")


@click.command(
    epilog="""\b
Example:
  qarnotfs flush /mnt/data && notify-others"""
)
@directory_argument
@timeout_option(
    "Stop waiting after this time, with exit code 1; uploading goes on. [default: never]"
)
def flush(directory: Path, timeout: float | None) -> None:
    """Wait until everything written to DIR is in the bucket."""
    mountpoint = control.canonical(directory)
    try:
        wait_for_uploads(mountpoint, timeout)
    except NoDaemon as error:
        if not is_mounted(mountpoint):
            raise _not_ours(mountpoint) from error
        if not is_dead(mountpoint):
            raise _out_of_reach(mountpoint) from error
        raise QarnotfsError(f"The mount process of {mountpoint} has died.") from error
    click.echo("Everything is in the bucket.")


def _unmount_orphan(mountpoint: Path) -> None:
    if not is_mounted(mountpoint):
        raise _not_ours(mountpoint)
    if not is_dead(mountpoint):
        raise _out_of_reach(mountpoint)
    unmount_dead(mountpoint)
    raise QarnotfsError(
        f"The mount process of {mountpoint} had died; the mountpoint is cleaned up. What was"
        " not uploaded is kept in the journal, and the next mount of the bucket uploads it."
    )


def _out_of_reach(mountpoint: Path) -> UsageError:
    return UsageError(
        f"The mount process of {mountpoint} cannot be asked: someone else's, or mounted with"
        " another QARNOTFS_RUNTIME_DIR."
    )


def _not_ours(mountpoint: Path) -> UsageError:
    return UsageError(f"{mountpoint} is not a qarnotfs mount.")
