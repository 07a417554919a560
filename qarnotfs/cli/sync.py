"""``qarnotfs sync``: make a directory of a bucket like a local one, or the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.outcome import bar_wanted, finish, json_option, quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import is_remote, local, place

if TYPE_CHECKING:
    from qarnotfs.bucket.report import SyncReport


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs sync results data:results          upload what is new or changed
  qarnotfs sync data:results results          download it
  qarnotfs sync . data: --delete --dry-run    what would be done to the whole bucket

\b
Files are compared by name, size and content. What a bucket holds already under another key is
copied there on the server. Links are not followed. PREFIX is a directory: 'a' is never 'ab', and
as SRC it must be there. With --json: {uploaded, downloaded, copied, deleted, unchanged: [names],
skipped, failed: {name: why}, bytes_moved, dry_run}. Exit code 1: something failed, or has a key
that no file can have.""",
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@deed("--delete", is_flag=True, help="Delete in DST what is not in SRC. Never done without.")
@deed("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
@json_option
@quiet_option
@server_options
def sync(
    source: str,
    target: str,
    delete: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **server: Any,
) -> int:
    """Make DST like SRC: one is BUCKET:PREFIX, the other a local directory."""
    from qarnotfs.bucket import downward, upward
    from qarnotfs.bucket.local import tree_of
    from qarnotfs.bucket.manner import Manner
    from qarnotfs.bucket.sources import Sources

    upload = is_remote(target)
    if upload == is_remote(source):
        raise click.UsageError(
            "One of SRC and DST is BUCKET:PREFIX, or BUCKET: for all of it; the other is a local"
            " directory."
        )
    there = place(target if upload else source)
    here = local(source if upload else target)
    with Account(**server).buckets() as opened:
        store = opened(there.spec).store
        manner = Manner(delete, dry_run, progress=bar_wanted(quiet))

        def run() -> SyncReport:
            if upload:
                return upward.sync(
                    store, Sources.of_tree(here, tree_of(here), there.folder), manner
                )
            return downward.sync(store, here, there.folder, manner, must_exist=True)

        return finish(run, as_json=as_json, quiet=quiet, dry_run=dry_run, skipping_fails=not upload)
