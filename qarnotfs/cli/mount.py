"""``qarnotfs mount``: one bucket, one directory, in the background unless told otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from qarnotfs import control
from qarnotfs.cli import daemon
from qarnotfs.cli.options import Settings, mount_only_options, mount_options
from qarnotfs.cli.request import MountRequest
from qarnotfs.cli.sections import SectionedCommand

NAMES_MAX = 2


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs mount data /mnt/data
  qarnotfs mount data /mnt/data --prefix projects/ --strip-prefix projects/
  qarnotfs mount --spec bucket.json /mnt/data --cache-ttl 30d
  qarnotfs mount data /mnt/data --endpoint https://s3.example.org --profile work

\b
Returns once the mount answers. What it refuses (a wrong token, an unknown bucket) is said
here, and nothing is mounted; what happens later is in the log and in 'qarnotfs status'.""",
)
@click.argument("names", metavar="[BUCKET] DIR", nargs=-1, required=True)
@mount_only_options
@mount_options
def mount(foreground: bool, ready_fd: int | None, **given: Any) -> int:
    """Show a bucket as a directory.

    DIR is an existing directory. BUCKET may be left out when --spec names it.
    """
    request = request_of(given)
    if foreground:
        return daemon.serve(request, ready_fd)
    daemon.start(request)
    click.echo(f"Mounted {request.spec().bucket} on {request.mountpoint}.")
    return 0


def request_of(given: Mapping[str, Any]) -> MountRequest:
    """What the parameters of `mount` ask for."""
    names = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in given.items() if name in names})
    bucket, directory = _bucket_and_directory(given["names"], settings)
    return MountRequest(bucket, control.canonical(directory), settings)


def _bucket_and_directory(names: tuple[str, ...], settings: Settings) -> tuple[str | None, Path]:
    if len(names) > NAMES_MAX or (len(names) < NAMES_MAX and settings.spec is None):
        raise click.UsageError("Give a BUCKET and a DIR; or --spec FILE and a DIR.")
    return (names[0] if len(names) == NAMES_MAX else None), Path(names[-1])
