"""``qarnotfs run``: mount, run a command, upload, unmount. What a container starts with."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

from qarnotfs import control
from qarnotfs.cli.child import KILLED, execute
from qarnotfs.cli.drain import UPLOADS_HELP, timeout_option
from qarnotfs.cli.nofuse import Copies
from qarnotfs.cli.options import Settings, mount_options
from qarnotfs.cli.places import Placed, placed, wanted_of
from qarnotfs.cli.privacy import without_login
from qarnotfs.cli.request import MountRequest
from qarnotfs.cli.sections import FILE, SectionedCommand, section_of
from qarnotfs.cli.withfuse import Mounts
from qarnotfs.errors import QarnotfsError

NOT_UPLOADED = 124  # CMD succeeded, but not everything it wrote is in the bucket
NOT_MOUNTED = 125

_shown, _process = section_of("What is shown"), section_of("Mount process")


@click.command(
    cls=SectionedCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  qarnotfs run data:/data -- python train.py --epochs 3
  qarnotfs run models:/models:ro out:/out -- ./serve
  qarnotfs run data:train/:/in results:/out -- sh -c 'work < /in/x > /out/y'
  qarnotfs run --spec task.json /job -- ./job      /job/resources/BUCKET.., /job/results
  qarnotfs run --no-fuse data:/data -- ./job       without FUSE: copied in and back

\b
BUCKET:DIR shows a bucket on DIR, which is made where it is missing; BUCKET:PREFIX:DIR what is
in its directory PREFIX; ':ro' behind it refuses changes. Options come first and hold for all.
--spec: a task of the Qarnot SDK, its list of resources, or one bucket. BUCKET:DIR says where
one of its buckets is, a DIR alone where the others are. Resources are read-only.

\b
Exit code: CMD's own (128 + N when signal N ended it); 127 or 126 when CMD was not found or
cannot be executed; 125 when a bucket could not be mounted, and CMD was not run; 124 when
CMD succeeded, but not everything it wrote is in the bucket.

\b
CMD does not find the token and keys of the account in its environment, but with --keep-login.
Signals go to CMD, which has stdin and the terminal. While it uploads afterwards, the second
SIGTERM or Ctrl-C ends that; what is left stays in the cache directory (--no-fuse: in DIR).""",
)
@click.argument("words", metavar="BUCKET:DIR... -- CMD [ARG]...", nargs=-1, required=True)
@timeout_option(UPLOADS_HELP)
@_shown("--spec", type=FILE, help="The buckets of a task, as the Qarnot SDK writes them in JSON.")
@_process(
    "--no-fuse",
    is_flag=True,
    help="Mount nothing: copy the buckets into their DIRs first, and what CMD changed back.",
)
@_process(
    "--keep-login",
    is_flag=True,
    help="Leave CMD the token and keys that are in the environment; they are taken out otherwise.",
)
@mount_options
def run(
    words: tuple[str, ...],
    timeout: float | None,
    spec: Path | None,
    no_fuse: bool,
    keep_login: bool,
    **given: Any,
) -> int:
    """Mount buckets, run CMD, wait until what it wrote is in the buckets."""
    targets, command = _parted(words)
    settings = Settings(spec=None, **given)
    places = placed(targets, wanted_of(spec) if spec else ())
    requests = list(_requests(places, settings))
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _terminated)
    way = Copies(requests, timeout) if no_fuse else Mounts(requests, timeout, [])
    try:
        way.begin()
        code = execute(command, os.environ if keep_login else without_login())
    except (QarnotfsError, OSError) as error:
        click.echo(f"qarnotfs: {error}", err=True)
        return NOT_MOUNTED
    finally:
        arrived = way.end()
    return code or (0 if arrived else NOT_UPLOADED)


def _parted(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "--" not in words:
        raise click.UsageError("Write '--' between the buckets and the command.")
    at = words.index("--")
    targets, command = words[:at], words[at + 1 :]
    if not targets or not command:
        raise click.UsageError("Give at least one BUCKET:DIR, then '--' and a command.")
    return targets, command


def _requests(places: Iterable[Placed], settings: Settings) -> Iterable[MountRequest]:
    """What the options say holds for all; a view of its own is that of one bucket."""
    for spec, directory, read_only in places:
        said = replace(settings, read_only=read_only or settings.read_only)
        if spec.cache_ttl_sec is not None and said.cache_ttl is None:
            said = replace(said, cache_ttl=spec.cache_ttl_sec)
        if spec.view.filter_prefix or spec.view.strip_prefix:
            if said.prefix is not None or said.strip_prefix is not None:
                raise click.UsageError(
                    f"'{spec.bucket}' has a view of its own: leave --prefix and --strip-prefix out."
                )
            view = spec.view
            said = replace(said, prefix=view.filter_prefix, strip_prefix=view.strip_prefix)
        yield MountRequest(spec.bucket, control.canonical(directory), said)


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(KILLED + number)
