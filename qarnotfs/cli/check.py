"""``qarnotfs check``: is everything that waits for upload in order? Looks, and changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.options import default_cache_dir
from qarnotfs.cli.sections import twin
from qarnotfs.errors import UsageError

if TYPE_CHECKING:
    from qarnotfs.writeback.inspection import Finding

FOUND = 1


@click.command(
    epilog="""\b
Examples:
  qarnotfs check
  qarnotfs check my-bucket --json | jq '.findings[].what'

\b
Exit code 0: nothing to say. 1: there are findings, each with what to do next.
With --json: journals (path, in_use) and findings (severity, what, where, next, details);
'details' of a file has the ranges that its staged file holds."""
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
def check(places: tuple[str, ...], cache_dir: Path, as_json: bool) -> int:
    """Verify what waits for upload: journals, staged files, and what was set aside.

    Without arguments, of every bucket in the cache directory. Running mounts are not disturbed.
    """
    from qarnotfs.writeback.inspection import inspect

    journals = {
        path: None for place in places or (cache_dir,) for path in _journals(place, cache_dir)
    }
    seen = [inspect(path) for path in journals]
    findings = [finding for one in seen for finding in one.findings]
    if as_json:
        said = [{"path": str(one.directory), "in_use": one.in_use} for one in seen]
        found = [_as_json(finding) for finding in findings]
        click.echo(json.dumps({"journals": said, "findings": found}, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.severity.value}: {finding.where}\n  {finding.what}")
            click.echo(f"  -> {finding.next}")
        counts = f"{len(seen)} journals checked, {sum(one.in_use for one in seen)} in use"
        click.echo(f"{counts}; {len(findings) or 'no'} findings.")
    return FOUND if findings else 0


def _journals(place: str | Path, cache_dir: Path) -> list[Path]:
    """The journal directories of a bucket, or of a whole cache directory."""
    if place == cache_dir:
        return sorted(_below(cache_dir))  # which need not be there: nothing was ever mounted
    if os.sep in str(place) or place == os.curdir:
        root = Path(place)
        if not root.is_dir():
            raise UsageError(f"There is no directory {place}.")
        return sorted(_below(root))
    found = sorted(p for p in _below(cache_dir) if p.parent.parent.name.rpartition("-")[0] == place)
    if not found:
        raise UsageError(f"Nothing of the bucket '{place}' is in {cache_dir}; see --cache-dir.")
    return found


def _below(cache_dir: Path) -> Iterator[Path]:
    """Journals of a cache directory, or of one bucket's directory in it."""
    for pattern in ("*/journals/*", "journals/*"):
        yield from (path for path in cache_dir.glob(pattern) if path.is_dir())


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "what": finding.what,
        "where": str(finding.where),
        "next": finding.next,
        "details": finding.details,
    }
