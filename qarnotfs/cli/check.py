"""``qarnotfs check``: is this machine, the server, and all that waits for upload in order?

It also says which names are odd. Looks, and changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import PREFIX_OPTIONS, SERVER_OPTIONS, Account, Shown
from qarnotfs.cli.oddnames import Odd, odd_names
from qarnotfs.cli.options import cache_dir_option
from qarnotfs.cli.outcome import json_option, printable
from qarnotfs.cli.sections import SectionedCommand, deed, with_options
from qarnotfs.errors import UsageError

if TYPE_CHECKING:
    from qarnotfs.cli.doctor import Observation, Server
    from qarnotfs.writeback.inspection import Finding, Inspected

FOUND = 1
REACH = "'qarnotfs get' and 'cp' reach it by its key"

with_prefixes = partial(with_options, [*PREFIX_OPTIONS, *SERVER_OPTIONS])


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs check                       this machine, the account, the journals
  qarnotfs check my-bucket --speed     the bucket and its odd names, too, and how fast it is
  qarnotfs check --offline             without asking the server
  qarnotfs check --json | jq '.findings[].what'

\b
Exit code 0: all is well, or odd names only. 1: something is not, each with what to do next.
With --json: checks (well, what, next), journals (path, in_use), findings in them (severity,
what, where, next, details; of a file, the ranges that its staged file holds) and names
(bucket, key, path or null, why).""",
)
@click.argument("places", metavar="[BUCKET|CACHE-DIR]...", nargs=-1)
@deed("--offline", is_flag=True, help="Ask no server; without credentials, nothing is missing.")
@deed("--speed", is_flag=True, help="Store, fetch and delete 8 MiB in each BUCKET.")
@cache_dir_option
@json_option
@with_prefixes
def check(
    places: tuple[str, ...],
    offline: bool,
    speed: bool,
    cache_dir: Path,
    as_json: bool,
    prefix: str | None,
    strip_prefix: str | None,
    **server: Any,
) -> int:
    """Find out what is wrong and what to do: FUSE, account, server, cache, what was not uploaded.

    Of every bucket in the cache directory, or of those named. Running mounts are not
    disturbed, and nothing is changed. A named BUCKET is listed, and every key is explained
    that a mount shows under another name.
    """
    from qarnotfs.cli.doctor import Server
    from qarnotfs.writeback.inspection import inspect

    buckets = tuple(place for place in places if not _is_directory(place))
    if speed and not buckets:
        raise click.UsageError("--speed needs a BUCKET.")
    account = Account(**server)
    seen: list[Observation] = []
    for one in _observed(cache_dir, Server(account, buckets, speed), offline):
        seen.append(one)
        if not as_json:
            _say(one)
    shown = Shown(spec=None, prefix=prefix, strip_prefix=strip_prefix)
    odd = [] if offline else odd_names(account, shown, buckets)
    found = (
        path
        for place in places or (cache_dir,)
        for path in _journals(place, cache_dir, unknown_is_wrong=offline)
    )
    journals = [inspect(path) for path in dict.fromkeys(found)]
    if as_json:
        click.echo(json.dumps(_whole(seen, journals, odd), indent=2))
    else:
        _say_rest(journals, odd)
    well = all(one.well for one in seen) and not any(one.findings for one in journals)
    return 0 if well else FOUND


def _observed(cache_dir: Path, server: Server, offline: bool) -> Iterator[Observation]:
    from qarnotfs.cli.doctor import machine

    yield from machine(cache_dir)
    if not offline:
        yield from server.observations()


def _say(one: Observation) -> None:
    click.echo(f"{'ok   ' if one.well else 'WRONG'}  {printable(one.what)}")
    if one.next:
        click.echo(f"  -> {printable(one.next)}")


def _say_rest(journals: Sequence[Inspected], odd: Sequence[Odd]) -> None:
    for bucket, one in odd:
        click.echo(f"name: {bucket}: {printable(one.key)}\n  {printable(one.why)}")
        click.echo(f"  -> {printable(one.path) if one.path else 'not on a mount: ' + REACH}")
    findings = [finding for one in journals for finding in one.findings]
    for finding in findings:
        click.echo(f"{finding.severity.value}: {finding.where}\n  {finding.what}")
        click.echo(f"  -> {finding.next}")
    in_use = sum(one.in_use for one in journals)
    found = _counted(len(findings), "finding") if findings else "no findings"
    click.echo(f"{_counted(len(journals), 'journal')} checked, {in_use} in use; {found}.")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _whole(
    seen: Sequence[Observation], journals: Sequence[Inspected], odd: Sequence[Odd]
) -> dict[str, Any]:
    return {
        "checks": [one._asdict() for one in seen],
        "journals": [{"path": str(one.directory), "in_use": one.in_use} for one in journals],
        "findings": [_as_json(finding) for one in journals for finding in one.findings],
        "names": [
            {"bucket": bucket, "key": one.key, "path": one.path, "why": one.why}
            for bucket, one in odd
        ],
    }


def _is_directory(place: str) -> bool:
    return os.sep in place or place == os.curdir


def _journals(place: str | Path, cache_dir: Path, *, unknown_is_wrong: bool) -> list[Path]:
    """The journal directories of a bucket, or of a whole cache directory."""
    if place == cache_dir:
        return sorted(_below(cache_dir))  # which need not be there: nothing was ever mounted
    if _is_directory(str(place)):
        root = Path(place)
        if not root.is_dir():
            raise UsageError(f"There is no directory {place}.")
        return sorted(_below(root))
    found = sorted(p for p in _below(cache_dir) if p.parent.parent.name.rpartition("-")[0] == place)
    if not found and unknown_is_wrong:
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
