"""``qarnotfs rm``: files of a bucket go, a thousand at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.outcome import finish, json_option, quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import Target, place
from qarnotfs.errors import StoreError
from qarnotfs.store.base import DELETE_COUNT_MAX
from qarnotfs.views import BucketSpec

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.bucket.report import Tally

NO_FILE = "There is no such file; to delete a directory, use -r."
NOTHING = "There is nothing of this name."


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs rm data:old.csv data:tmp/x
  qarnotfs rm -r data:tmp                 tmp/x and tmp/a/b, not tmpfile
  qarnotfs rm -r --dry-run data:tmp
  qarnotfs rm -r --all data               everything; the bucket stays

\b
KEY is the stored one: no view of a mount counts here. Exit code 1 when something could not be
deleted, or was not there; the rest is deleted.""",
)
@click.argument("targets", metavar="BUCKET:KEY...", nargs=-1, required=True, type=place)
@deed("--recursive", "-r", is_flag=True, help="Also every file in the directory KEY.")
@deed("--all", "whole", is_flag=True, help="With -r and a BUCKET without KEY: all that is in it.")
@deed("--dry-run", "-n", is_flag=True, help="Only say what would be deleted.")
@json_option
@quiet_option
@server_options
def rm(
    targets: tuple[Target, ...],
    recursive: bool,
    whole: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **server: Any,
) -> int:
    """Delete files of a bucket."""
    for target in targets:
        _check(target, recursive, whole)
    from qarnotfs.bucket.report import Tally

    tally = Tally()
    with Account(**server).buckets() as opened:
        for name, group in groupby(dict.fromkeys(targets), lambda target: target.bucket):
            bucket = opened(BucketSpec(name))
            chosen = _trees if recursive else _files
            try:
                _delete(bucket, chosen(bucket, group, tally), tally, dry_run)
            except StoreError as error:
                tally.failed[name] = str(error)
    return finish(tally.report, as_json=as_json, quiet=quiet, dry_run=dry_run)


def _check(target: Target, recursive: bool, whole: bool) -> None:
    if whole and (target.key or not recursive):
        raise click.UsageError("--all goes with -r and a BUCKET without a KEY.")
    if not target.key and not whole:
        raise click.UsageError(
            f"'{target}' is a whole bucket: write BUCKET:KEY, or -r --all to delete all"
            " that is in it."
        )


def _files(bucket: Bucket, targets: Iterable[Target], tally: Tally) -> Iterator[str]:
    """The keys of those that are there: deleting what is not would be no error to the store."""
    from qarnotfs.cli.listing import find_all

    for key, info in find_all(bucket, (target.key for target in targets)):
        if info is not None:
            yield key
        else:
            tally.failed[str(Target(bucket.uuid, key))] = NO_FILE


def _trees(bucket: Bucket, targets: Iterable[Target], tally: Tally) -> Iterator[str]:
    """The keys in these directories, and of files of these names."""
    from qarnotfs.cli.listing import find, pages

    for target in targets:
        there = False
        if target.key != target.folder and find(bucket, target.key):
            there = True
            yield target.key
        for page in pages(bucket.store, target.folder):
            there = there or bool(page.objects)
            yield from (info.key for info in page.objects)
        if not there and target.key:
            tally.failed[str(target)] = NOTHING


def _delete(bucket: Bucket, keys: Iterator[str], tally: Tally, dry_run: bool) -> None:
    from qarnotfs.bucket import transfer

    while batch := list(dict.fromkeys(islice(keys, DELETE_COUNT_MAX))):
        failed = {} if dry_run else transfer.delete(bucket.store, batch)
        for key in batch:
            target = str(Target(bucket.uuid, key))
            if key in failed:
                tally.failed[target] = str(failed[key])
            else:
                tally.deleted.append(target)
