"""``qarnotfs get`` and ``cat``: files of a bucket, stored here or written to stdout."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, Shown, server_options, view_options
from qarnotfs.cli.outcome import bar_wanted, complain, finish, json_option, quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import STREAM, Target, file, local, place
from qarnotfs.errors import MissingFile, StoreError

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.bucket.report import SyncReport
    from qarnotfs.store.base import ObjectInfo

NO_FOLDER = "There is nothing in such a directory."
NO_FILE = "There is no such file; to get a directory, use -r."


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs get data:tables/a.csv .
  qarnotfs get data:tables/a.csv b.csv
  qarnotfs get data:a.csv data:b.csv tables/      the directory is made
  qarnotfs get -r data:tables here                here/a.csv ..
  qarnotfs get -r --prefix tables/ data: here     here/tables/a.csv ..

\b
A file takes its name here when it is complete. 'qarnotfs sync' fetches only what differs. Exit
code 1 when something could not be fetched, or has a key that no file can have; the rest is.""",
)
@click.argument("sources", metavar="BUCKET:KEY...", nargs=-1, required=True, type=place)
@click.argument("target", metavar="LOCAL", type=local)
@deed("--recursive", "-r", is_flag=True, help="All that is in the directory KEY, into LOCAL.")
@json_option
@quiet_option
@view_options
@server_options
def get(
    sources: tuple[Target, ...],
    target: str,
    recursive: bool,
    as_json: bool,
    quiet: bool,
    spec: Path | None,
    prefix: str | None,
    strip_prefix: str | None,
    **server: Any,
) -> int:
    """Fetch files of a bucket."""
    _check(sources, target, recursive)
    shown = Shown(spec=spec, prefix=prefix, strip_prefix=strip_prefix).of(sources[0].bucket)
    with Account(**server).buckets() as opened:
        fetching = _Fetching(opened(shown), bar_wanted(quiet))

        def run() -> SyncReport:
            if recursive:
                return fetching.tree(sources[0], target)
            return fetching.files(*_places(sources, target))

        return finish(run, as_json=as_json, quiet=quiet, skipping_fails=True)


def _check(sources: tuple[Target, ...], target: str, recursive: bool) -> None:
    if recursive and len(sources) > 1:
        raise click.UsageError("With -r give one directory: all that is in it is fetched.")
    if len({source.bucket for source in sources}) > 1:
        raise click.UsageError("Give files of one bucket at a time.")
    if not recursive and (folders := [source for source in sources if source.is_folder]):
        raise click.UsageError(f"'{folders[0]}' is a directory: use -r for all that is in it.")
    if target == STREAM:
        raise click.UsageError("'qarnotfs cat' writes to stdout.")
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise click.UsageError(f"{target} is no file: use 'qarnotfs cat' with '> {target}'.")


def _places(sources: tuple[Target, ...], target: str) -> tuple[str, dict[str, str]]:
    """The directory where files are to be, and the key of each name in it."""
    if not (len(sources) > 1 or target.endswith("/") or os.path.isdir(target)):
        folder, name = os.path.split(target)
        return folder or ".", {name: sources[0].key}
    keys: dict[str, str] = {}
    for source in sources:
        name = posixpath.basename(source.key)
        if name in keys:
            raise click.UsageError(f"'{keys[name]}' and '{source.key}' would both be '{name}'.")
        keys[name] = source.key
    return target, keys


class _Fetching:
    """From one bucket, with what is wrong on the way to it."""

    def __init__(self, bucket: Bucket, progress: bool) -> None:
        from qarnotfs.bucket.report import Tally

        self._bucket = bucket
        self._progress = progress
        self._tally = Tally()

    def tree(self, source: Target, local: str) -> SyncReport:
        return self._fetch(local, self._below(source))

    def files(self, folder: str, keys: dict[str, str]) -> SyncReport:
        return self._fetch(folder, self._named(keys))

    def _fetch(self, folder: str, objects: Iterator[tuple[str, ObjectInfo]]) -> SyncReport:
        from qarnotfs.bucket import downward
        from qarnotfs.bucket.manner import Manner

        manner = Manner(progress=self._progress)
        return downward.get(self._bucket.store, folder, objects, manner, self._tally)

    def _below(self, source: Target) -> Iterator[tuple[str, ObjectInfo]]:
        from qarnotfs.cli.listing import entries

        there = not source.key
        for entry in entries(self._bucket, source.folder, recursive=True):
            there = True
            if entry.info is not None:
                yield entry.name[len(source.folder) :], entry.info
        if not there:
            self._tally.failed[str(source)] = NO_FOLDER

    def _named(self, keys: dict[str, str]) -> Iterator[tuple[str, ObjectInfo]]:
        from qarnotfs.cli.listing import find_all

        found = find_all(self._bucket, keys.values())
        for name, (key, info) in zip(keys, found, strict=True):
            if info is not None:
                yield name, info
            else:
                self._tally.failed[str(Target(self._bucket.uuid, key))] = NO_FILE


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs cat data:notes.txt | less
  qarnotfs cat data:part1 data:part2 > whole
  qarnotfs cat data:src.tar | tar x""",
)
@click.argument("targets", metavar="BUCKET:KEY...", nargs=-1, required=True, type=file)
@view_options
@server_options
def cat(
    targets: tuple[Target, ...],
    spec: Path | None,
    prefix: str | None,
    strip_prefix: str | None,
    **server: Any,
) -> int:
    """Write files of a bucket to stdout."""
    shown = Shown(spec=spec, prefix=prefix, strip_prefix=strip_prefix)
    code = 0
    with Account(**server).buckets() as opened:
        for target in targets:
            try:
                _pour(opened(shown.of(target.bucket)), target)
            except StoreError as error:
                complain(error)
                code = 1
    return code


def _pour(bucket: Bucket, target: Target) -> None:
    from qarnotfs.bucket import transfer
    from qarnotfs.cli.listing import find

    info = find(bucket, target.key)
    if info is None:
        raise MissingFile(f"There is no file '{target}'.")
    out = sys.stdout.buffer
    for piece in transfer.pieces(bucket.store, info):
        out.write(piece)
    out.flush()
