"""``qarnotfs debug``: more in the log of one running mount, for as long as it is needed."""

from __future__ import annotations

from pathlib import Path

import click

from qarnotfs import control
from qarnotfs.cli.completing import directory_argument


@click.command(
    epilog="""\b
Examples:
  qarnotfs debug /mnt/data on      every request from now on, with its outcome and time
  qarnotfs debug /mnt/data off     what --log-level said at the beginning

\b
The log is CACHE-DIR/logs/BUCKET.log, unless --log-file said otherwise. It names files, but
never holds what is in them."""
)
@directory_argument
@click.argument("what", metavar="on|off", type=click.Choice(["on", "off"]))
def debug(directory: Path, what: str) -> None:
    """Log every request to the mount on DIR, or stop doing so."""
    control.request(control.socket_path(directory), "debug", on=what == "on")
    click.echo(f"Debugging of {control.canonical(directory)} is {what}.")
