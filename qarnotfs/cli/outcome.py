"""How results are said: lines for people, one JSON document for programs, errors on stderr.

Used by the commands that work on a bucket without mounting it.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from qarnotfs.cli.sections import section_of
from qarnotfs.figures import bytes_text, files_text

if TYPE_CHECKING:
    from qarnotfs.bucket.report import SyncReport

_output = section_of("Output")

json_option = _output("--json", "as_json", is_flag=True, help="For programs: one JSON document.")
quiet_option = _output("--quiet", "-q", is_flag=True, help="Say nothing but errors.")


REHEARSED = " It was a dry run: nothing is changed."
DEEDS = ("uploaded", "downloaded", "copied", "deleted", "unchanged")


def finish(
    run: Callable[[], SyncReport],
    *,
    as_json: bool,
    quiet: bool,
    dry_run: bool = False,
    skipping_fails: bool = False,
) -> int:
    """Run something that reports, say what it reports; the exit code.

    ``skipping_fails``: what was skipped is missing in the end, and not meant to be.
    """
    from qarnotfs.bucket.report import SyncFailed

    try:
        report = run()
    except SyncFailed as error:
        report = error.report
    if skipping_fails or not quiet:
        for name, why in report.skipped.items():
            complain(f"{name} is skipped: {why}")
    for name, why in report.failed.items():
        complain(f"{name}: {why}")
    if as_json:
        click.echo(json.dumps(report.to_json() | {"dry_run": dry_run}, indent=2))
    elif not quiet:
        _say(report, dry_run)
    return 1 if report.failed or (skipping_fails and report.skipped) else 0


def _say(report: SyncReport, dry_run: bool) -> None:
    done = {deed: getattr(report, deed) for deed in DEEDS}
    if dry_run:
        for deed in DEEDS[:-1]:
            for name in done[deed]:
                click.echo(f"{deed}: {printable(name)}")
    counts = ", ".join(f"{files_text(len(names))} {deed}" for deed, names in done.items() if names)
    moved = f" ({bytes_text(report.bytes_moved)})" if report.bytes_moved else ""
    click.echo(f"{counts or 'Nothing to do'}{moved}." + (REHEARSED if dry_run else ""))


def bar_wanted(quiet: bool) -> bool:
    """Whether progress is drawn: for eyes only, a log has no use for it."""
    return not quiet and sys.stderr.isatty()


def complain(sentence: object) -> None:
    """One thing that went wrong, after which others may still go well."""
    click.echo(f"qarnotfs: {printable(str(sentence))}", err=True)


def echo_list(items: Iterable[object]) -> None:
    """A JSON list, an item a line, without holding it."""
    separator = "["
    for item in items:
        click.echo(f"{separator}\n  {json.dumps(item)}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def printable(text: str) -> str:
    """``text`` on one line that cannot command a terminal: ``\\n``, ``\\x1b``."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if hidden else character
