"""``qarnotfs cp``: one object becomes two, on the server."""

from __future__ import annotations

import posixpath
from typing import Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.outcome import printable, quiet_option
from qarnotfs.cli.sections import SectionedCommand
from qarnotfs.cli.target import Target, file, place


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs cp data:a.csv data:b.csv
  qarnotfs cp data:a.csv data:old/          old/a.csv

\b
The server copies, of any size, with metadata: no bytes go through this machine.""",
)
@click.argument("source", metavar="BUCKET:KEY", type=file)
@click.argument("target", metavar="BUCKET:KEY", type=place)
@quiet_option
@server_options
def cp(source: Target, target: Target, quiet: bool, **server: Any) -> None:
    """Copy a file within a bucket."""
    if source.bucket != target.bucket:
        raise click.UsageError(
            "Copying from one bucket to another is not done on the server. Through this"
            f" machine: qarnotfs cat {source} | qarnotfs put - {target}"
        )
    copy = target.named(posixpath.basename(source.key))
    with Account(**server).buckets() as opened:
        opened(source.spec).copy_file(source.key, copy.key)
    if not quiet:
        click.echo(printable(f"Copied {source} to {copy}."))
