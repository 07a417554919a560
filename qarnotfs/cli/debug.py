"""``qarnotfs debug``: more in the log of one running mount, for as long as it is needed."""

from __future__ import annotations

from pathlib import Path

import click

from qarnotfs import control
from qarnotfs.cli.completing import directory_argument
from qarnotfs.errors import NoDaemon, UsageError


@click.command(
    epilog="""\b
Examples:
  qarnotfs debug /mnt/data on      every request from now on, with its outcome and time
  qarnotfs debug /mnt/data off     what --log-level said, but no requests

\b
The log is CACHE-DIR/logs/BUCKET.log, unless --log-file said otherwise. It names files, but
never holds what is in them."""
)
@directory_argument
@click.argument("what", metavar="on|off", type=click.Choice(["on", "off"]))
def debug(directory: Path, what: str) -> None:
    """Log every request to the mount on DIR, or stop doing so."""
    mountpoint = control.canonical(directory)
    try:
        control.request(control.socket_path(mountpoint), "debug", on=what == "on")
    except NoDaemon as error:
        raise UsageError(f"{mountpoint} is no qarnotfs mount that answers.") from error
    click.echo(f"Debugging of {mountpoint} is {what}.")
