"""``qarnotfs put``: local files into a bucket."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.outcome import bar_wanted, finish, json_option, quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import STREAM, Target, local, place
from qarnotfs.errors import QarnotfsError

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.bucket.report import SyncReport


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs put a.csv data                  a.csv
  qarnotfs put a.csv data:b.csv            b.csv
  qarnotfs put *.csv data:tables/          tables/a.csv ..
  qarnotfs put -r project data:backup      all that is in project, as backup/..
  tar c src | qarnotfs put - data:src.tar

\b
A KEY that ends in '/' is a directory, anything else the file's new name. Links in a directory
are not followed. 'qarnotfs sync' sends only what differs. Exit code 1 when something could not
be stored; the rest is.""",
)
@click.argument("sources", metavar="LOCAL...", nargs=-1, required=True, type=local)
@click.argument("target", metavar="BUCKET[:KEY]", type=place)
@deed("--recursive", "-r", is_flag=True, help="LOCAL is a directory: store all that is in it.")
@json_option
@quiet_option
@server_options
def put(
    sources: tuple[str, ...],
    target: Target,
    recursive: bool,
    as_json: bool,
    quiet: bool,
    **server: Any,
) -> int:
    """Store local files, or stdin, in a bucket."""
    _check(sources, target, recursive)
    progress = bar_wanted(quiet)
    with Account(**server).buckets() as opened:
        bucket = opened(target.spec)

        def run() -> SyncReport:
            if recursive:
                return _put_tree(bucket, sources[0], target.folder, progress)
            files = _keys(sources, target)
            if len(sources) == 1 and not os.path.isfile(sources[0]):
                return _put_stream(bucket, *files.popitem(), progress)
            return _put_files(bucket, files, progress)

        return finish(run, as_json=as_json, quiet=quiet)


def _check(sources: tuple[str, ...], target: Target, recursive: bool) -> None:
    if recursive and len(sources) > 1:
        raise click.UsageError("With -r give one directory: all that is in it is stored.")
    if len(sources) > 1 and not target.is_folder:
        raise click.UsageError(f"Several files need a directory to go to: write '{target}/'.")
    if STREAM in sources and (recursive or len(sources) > 1 or target.is_folder):
        raise click.UsageError("stdin needs a name: write 'qarnotfs put - BUCKET:KEY'.")
    for source in sources:
        if not recursive and os.path.isdir(source):
            raise click.UsageError(f"{source} is a directory: use -r to store all that is in it.")


def _keys(sources: tuple[str, ...], target: Target) -> dict[str, str]:
    """Which file goes to which key."""
    files: dict[str, str] = {}
    for source in sources:
        key = target.named(os.path.basename(source)).key
        if key in files:
            raise click.UsageError(f"{files[key]} and {source} would both be stored as '{key}'.")
        files[key] = source
    return files


def _put_tree(bucket: Bucket, root: str, folder: str, progress: bool) -> SyncReport:
    from qarnotfs.bucket import upward
    from qarnotfs.bucket.local import tree_of
    from qarnotfs.bucket.manner import Manner
    from qarnotfs.bucket.sources import Sources

    sources = Sources.of_tree(root, tree_of(root), folder)
    return upward.add(bucket.store, sources, Manner(progress=progress))


def _put_files(bucket: Bucket, files: dict[str, str], progress: bool) -> SyncReport:
    from qarnotfs.bucket import upward
    from qarnotfs.bucket.manner import Manner
    from qarnotfs.bucket.report import SyncFailed
    from qarnotfs.bucket.sources import Sources

    sources = Sources.of_files(files, "")
    try:
        return upward.add(bucket.store, sources, Manner(progress=progress))
    except SyncFailed as error:  # a person knows the files by the names they have here
        failed = {files[key]: why for key, why in error.report.failed.items()}
        raise SyncFailed(replace(error.report, failed=failed)) from None


def _put_stream(bucket: Bucket, key: str, source: str, progress: bool) -> SyncReport:
    """What has no size before it has ended: stdin, a named pipe, ``<(COMMAND)``."""
    from qarnotfs.bucket import transfer
    from qarnotfs.bucket.progress import shown
    from qarnotfs.bucket.report import Tally

    tally = Tally()
    is_stdin = source == STREAM
    try:
        with (
            open(0 if is_stdin else source, "rb", closefd=not is_stdin) as file,
            shown(progress) as told,
        ):
            tally.moved.append(transfer.upload(bucket.store, file, key, told))
    except (OSError, QarnotfsError) as error:
        tally.fail(source, error)
    else:
        tally.uploaded.append(key)
    return tally.report()
