"""``qarnotfs check``: is everything that waits for upload in order, and which names are odd?

Looks, and changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import PREFIX_OPTIONS, SERVER_OPTIONS, Account, Shown
from qarnotfs.cli.options import default_cache_dir
from qarnotfs.cli.outcome import printable
from qarnotfs.cli.sections import SectionedCommand, twin, with_options
from qarnotfs.errors import QarnotfsError, UsageError

if TYPE_CHECKING:
    from qarnotfs.core.explain import Explained
    from qarnotfs.writeback.inspection import Finding

FOUND = 1
REACH = "'qarnotfs get' and 'cp' reach it by its key"

with_prefixes = partial(with_options, [*PREFIX_OPTIONS, *SERVER_OPTIONS])


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs check
  qarnotfs check my-bucket                       and why some names differ from the keys
  qarnotfs check my-bucket --json | jq '.findings[].what'

\b
Exit code 0: nothing to say, or odd names only. 1: there are findings, each with what to do.
With --json: journals (path, in_use), findings (severity, what, where, next, details; of a file,
the ranges that its staged file holds) and names (bucket, key, path or null, why).""",
)
@click.argument("places", metavar="[BUCKET|CACHE-DIR]...", nargs=-1)
@click.option(
    "--cache-dir",
    type=click.Path(resolve_path=True, path_type=Path),
    default=default_cache_dir,
    show_default=str(default_cache_dir()),
    envvar=twin("--cache-dir"),
    show_envvar=True,
    help="Where the named buckets keep what is not yet uploaded.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar=twin("--json"),
    show_envvar=True,
    help="For programs: one JSON object.",
)
@with_prefixes
def check(
    places: tuple[str, ...],
    cache_dir: Path,
    as_json: bool,
    prefix: str | None,
    strip_prefix: str | None,
    **server: Any,
) -> int:
    """Verify what waits for upload: journals, staged files, and what was set aside.

    Without arguments, of every bucket in the cache directory. Running mounts are not disturbed.
    A named BUCKET is listed, and every key is explained that a mount shows under another name.
    """
    from qarnotfs.writeback.inspection import inspect

    shown = Shown(spec=None, prefix=prefix, strip_prefix=strip_prefix)
    journals: dict[Path, None] = {}
    odd: list[tuple[str, Explained]] = []
    for place in places or (cache_dir,):
        found = _journals(place, cache_dir)
        journals |= dict.fromkeys(found)
        if not _is_directory(place, cache_dir):
            names = _names(Account(**server), shown, str(place), is_known=bool(found))
            odd += [(str(place), one) for one in names]
    seen = [inspect(path) for path in journals]
    findings = [finding for one in seen for finding in one.findings]
    if as_json:
        said = [{"path": str(one.directory), "in_use": one.in_use} for one in seen]
        whole = {
            "journals": said,
            "findings": [_as_json(finding) for finding in findings],
            "names": [_name_as_json(bucket, one) for bucket, one in odd],
        }
        click.echo(json.dumps(whole, indent=2))
    else:
        for bucket, one in odd:
            click.echo(f"name: {bucket}: {printable(one.key)}\n  {printable(one.why)}")
            click.echo(f"  -> {printable(one.path) if one.path else 'not on a mount: ' + REACH}")
        for finding in findings:
            click.echo(f"{finding.severity.value}: {finding.where}\n  {finding.what}")
            click.echo(f"  -> {finding.next}")
        counts = f"{len(seen)} journals checked, {sum(one.in_use for one in seen)} in use"
        click.echo(f"{counts}; {len(findings) or 'no'} findings.")
    return FOUND if findings else 0


def _journals(place: str | Path, cache_dir: Path) -> list[Path]:
    """The journal directories of a bucket, or of a whole cache directory."""
    if not _is_directory(place, cache_dir):
        name = place
        return sorted(
            p for p in _below(cache_dir) if p.parent.parent.name.rpartition("-")[0] == name
        )
    if place == cache_dir:
        return sorted(_below(cache_dir))  # which need not be there: nothing was ever mounted
    root = Path(place)
    if not root.is_dir():
        raise UsageError(f"There is no directory {place}.")
    return sorted(_below(root))


def _is_directory(place: str | Path, cache_dir: Path) -> bool:
    return place == cache_dir or os.sep in str(place) or place == os.curdir


def _names(account: Account, shown: Shown, bucket: str, *, is_known: bool) -> list[Explained]:
    """The odd names of a bucket. ``is_known``: something of it is on this machine to be checked."""
    from qarnotfs.cli.listing import pages
    from qarnotfs.core.explain import explain

    spec = shown.of(bucket)
    try:
        with account.buckets() as opened:
            store = opened(spec).store
            keys = (
                (info.key, info.size)
                for page in pages(store, spec.view.filter_prefix)
                for info in page.objects
            )
            return list(explain(spec.view, keys))
    except QarnotfsError as error:
        if not is_known:
            raise
        click.echo(f"The names in '{bucket}' are not checked: {error}", err=True)
        return []


def _below(cache_dir: Path) -> Iterator[Path]:
    """Journals of a cache directory, or of one bucket's directory in it."""
    for pattern in ("*/journals/*", "journals/*"):
        yield from (path for path in cache_dir.glob(pattern) if path.is_dir())


def _name_as_json(bucket: str, one: Explained) -> dict[str, Any]:
    return {"bucket": bucket, "key": one.key, "path": one.path, "why": one.why}


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "what": finding.what,
        "where": str(finding.where),
        "next": finding.next,
        "details": finding.details,
    }
