"""``qarnotfs ls``: the account's buckets, or what is in one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, Shown, server_options, view_options
from qarnotfs.cli.outcome import echo_list, json_option, printable
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import Target, place
from qarnotfs.errors import MissingFile
from qarnotfs.figures import bytes_text

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.cli.listing import Entry

DATE_FORMAT = "%Y-%m-%d %H:%M:%S"  # and in the local time zone
JSON_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
DATE_WIDTH, SIZE_WIDTH = 19, 10


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs ls                                    your buckets
  qarnotfs ls data
  qarnotfs ls -l data:projects                   what is in projects/, with sizes and dates
  qarnotfs ls -r data:projects                   at any depth, with whole keys
  qarnotfs ls -r --json data | jq '.[].size'
  qarnotfs ls --prefix img data                  keys that begin with img, 'img1.png' too

\b
Control characters in keys are shown as \\n and the like; --json has them as they are.
With --json, a list: {type: bucket, name}, {type: directory, key}, or {type: file, key, size,
etag, last_modified, stored_key}, where stored_key is the key without the view.""",
)
@click.argument("target", metavar="[BUCKET[:PREFIX]]", required=False, type=place)
@deed("--recursive", "-r", is_flag=True, help="Every file at any depth.")
@deed("--long", "-l", is_flag=True, help="With date and size.")
@json_option
@view_options
@server_options
def ls(
    target: Target | None,
    recursive: bool,
    long: bool,
    as_json: bool,
    spec: Path | None,
    prefix: str | None,
    strip_prefix: str | None,
    **server: Any,
) -> None:
    """List buckets, or what a mount of BUCKET would show in the directory PREFIX."""
    account = Account(**server)
    if target is None and spec is None:
        if prefix is not None or strip_prefix is not None:
            raise click.UsageError("--prefix and --strip-prefix need a BUCKET.")
        _list_buckets(account, as_json)
        return
    shown = Shown(spec=spec, prefix=prefix, strip_prefix=strip_prefix)
    described = shown.of(target.bucket if target else None)
    target = target or Target(described.bucket, "")
    with account.buckets() as opened:
        found = _seen(opened(described), target, recursive)
        if as_json:
            echo_list(_described(entry) for entry in found)
            return
        for entry in found:
            name = entry.name if recursive else _within(target, entry.name)
            click.echo((_columns(entry) if long else "") + printable(name))


def _list_buckets(account: Account, as_json: bool) -> None:
    names = account.connection().bucket_names()
    if as_json:
        echo_list({"type": "bucket", "name": name} for name in names)
    else:
        for name in names:
            click.echo(name)


def _seen(bucket: Bucket, target: Target, recursive: bool) -> Iterator[Entry]:
    """The file of this name, and what is in the directory of this name."""
    from qarnotfs.cli.listing import Entry, entries, find

    there = not target.key
    if target.key != target.folder and (info := find(bucket, target.key)):
        there = True
        yield Entry(target.key, info)
    for entry in entries(bucket, target.folder, recursive=recursive):
        there = True
        marker = entry.name == target.folder and entry.info is not None and not entry.info.size
        if recursive or not marker:
            yield entry
    if not there:
        raise MissingFile(f"There is nothing at '{target}'.")


def _within(target: Target, name: str) -> str:
    """A name as in its directory."""
    return name.removeprefix(target.folder) or name


def _columns(entry: Entry) -> str:
    if entry.info is None:
        return " " * (DATE_WIDTH + 2 + SIZE_WIDTH + 2)
    date = time.strftime(DATE_FORMAT, time.localtime(entry.info.modified_sec))
    return f"{date}  {bytes_text(entry.info.size):>{SIZE_WIDTH}}  "


def _described(entry: Entry) -> dict[str, object]:
    if entry.info is None:
        return {"type": "directory", "key": entry.name}
    return {
        "type": "file",
        "key": entry.name,
        "size": entry.info.size,
        "etag": entry.info.etag,
        "last_modified": time.strftime(JSON_FORMAT, time.gmtime(entry.info.modified_sec)),
        "stored_key": entry.info.key,
    }
