"""``qarnotfs mb`` and ``rb``: a bucket comes, a bucket goes."""

from __future__ import annotations

from typing import Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.outcome import quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import bucket_name
from qarnotfs.views import BucketSpec


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Example:
  qarnotfs mb my-new-bucket

\b
A bucket that is yours already is left as it is, with exit code 0.""",
)
@click.argument("name", metavar="BUCKET", type=bucket_name)
@quiet_option
@server_options
def mb(name: str, quiet: bool, **server: Any) -> None:
    """Make a bucket."""
    with Account(**server).buckets() as opened:
        opened(BucketSpec(name)).store.create_bucket()
    if not quiet:
        click.echo(f"The bucket {name} is there.")


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs rb my-bucket
  qarnotfs rb --force my-bucket      with all that is in it, old versions too""",
)
@click.argument("name", metavar="BUCKET", type=bucket_name)
@deed("--force", is_flag=True, help="Delete every file first. There is no way back.")
@quiet_option
@server_options
def rb(name: str, force: bool, quiet: bool, **server: Any) -> None:
    """Delete a bucket, which has to be empty."""
    with Account(**server).buckets() as opened:
        bucket = opened(BucketSpec(name))
        if force:
            bucket.delete()
        else:
            bucket.store.delete_bucket()
    if not quiet:
        click.echo(f"Deleted the bucket {name}.")
