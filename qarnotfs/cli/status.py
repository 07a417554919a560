"""``qarnotfs status``: what is mounted, and what waits for upload."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from qarnotfs import control
from qarnotfs.control import MountState
from qarnotfs.control.deadmount import is_dead
from qarnotfs.errors import UsageError
from qarnotfs.figures import bar_text, bytes_text, files_text, left_text

# The states of a mount whose process does not answer; what it says itself is in `session`.
DEAD, UNREACHABLE = "dead", "unreachable"
DIED = (
    "The mount process has died. 'qarnotfs umount' cleans up; the next mount of the bucket"
    " uploads what is left."
)
SILENT = "The mount process does not answer: it hangs, or uses another QARNOTFS_RUNTIME_DIR."
PIPE_COLUMNS = 10_000  # what no terminal shows needs no folding
HEADINGS = ("Mountpoint", "Bucket", "State", "To upload", "Uploaded", "Cache", "Errors")


@click.command(
    epilog="""\b
Examples:
  qarnotfs status
  qarnotfs status --json | jq '.[].pending_files'

\b
With --json, a list with one object for each mount: at least mountpoint, bucket, state
(serving, draining, dead, unreachable), pid, pending_files, pending_bytes, transfers (on their
way now), upload_bytes_per_sec, upload_eta_sec, cache_bytes, errors (with staged_file)."""
)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="QARNOTFS_JSON",
    show_envvar=True,
    help="For programs: a JSON list.",
)
def status(directory: Path | None, as_json: bool) -> None:
    """Show your mounts, or the one on DIR."""
    found = [_described(state) for state in _chosen(directory)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        _print_table(found)
    else:
        click.echo("Nothing is mounted.")


def _chosen(directory: Path | None) -> list[MountState]:
    states = control.survey()
    if directory is None:
        return states
    mountpoint = control.canonical(directory)
    chosen = [state for state in states if state.mountpoint == mountpoint]
    if not chosen:
        raise UsageError(f"{mountpoint} is not a qarnotfs mount.")
    return chosen


def _described(state: MountState) -> dict[str, Any]:
    if state.status is not None:
        return state.status
    dead = not state.listening and is_dead(state.mountpoint)
    return {
        "mountpoint": str(state.mountpoint),
        "bucket": None,
        "state": DEAD if dead else UNREACHABLE,
        "pid": None,
        "pending_files": None,
        "pending_bytes": None,
        "cache_bytes": None,
        "errors": [{"path": "", "message": DIED if dead else SILENT, "staged_file": None}],
    }


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for mount in found:
        table.add_row(*(Text(cell) for cell in _cells(mount)))
    console.print(table)
    for mount in found:
        for line in _lines(mount):
            console.print(Text(line), soft_wrap=True)


def _lines(mount: dict[str, Any]) -> Iterator[str]:
    """What a person should know of a mount beyond its row."""
    if mount.get("pending_files"):
        yield f"{mount['mountpoint']}: {left_text(mount)}"
    for one in mount.get("transfers", []):
        bar = bar_text(one["bytes_sent"], one["bytes"])
        yield f"{bar} {bytes_text(one['bytes_sent'])} of {bytes_text(one['bytes'])} {one['path']}"
    for pin in mount.get("pins", []):
        yield f"{mount['mountpoint']}: {_pinned(pin)}"
    if mount.get("unvalidated_since_sec"):
        since = datetime.fromtimestamp(mount["unvalidated_since_sec"]).astimezone()
        yield (
            f"{mount['mountpoint']}: the server does not answer; what is shown is as it was at"
            f" {since:%Y-%m-%d %H:%M:%S} or before, and not validated since"
        )
    for error in mount["errors"]:
        place = "/".join(part for part in (mount["mountpoint"], error["path"]) if part)
        yield f"{place}: {error['message']}{_where(error)}"
    for key in mount.get("conflicts", []):
        yield f"{mount['mountpoint']}: someone else changed the file too; ours is stored as {key}"
    if mount.get("best_effort"):
        yield f"{mount['mountpoint']}: {mount['best_effort']}"
    for finding in mount.get("findings", []):
        yield f"{mount['mountpoint']}: {finding}"


def _pinned(pin: dict[str, Any]) -> str:
    name = f"'{pin['prefix']}'"
    if pin["message"]:
        return f"{name} is not pinned: {pin['message']}"
    if not pin["done"]:
        return f"{name} is being fetched: {pin['files']} of {pin['files_total']} files"
    failed = f", {files_text(len(pin['failed']))} could not be fetched" if pin["failed"] else ""
    return f"{name} is pinned: {files_text(pin['files_total'])}, {bytes_text(pin['bytes'])}{failed}"


def _where(error: dict[str, Any]) -> str:
    """Where the bytes are that did not get into the bucket."""
    if not error["staged_file"]:
        return ""
    kept = "It is" if error["staged_whole"] else "What was changed of it is"
    return f" {kept} kept in {error['staged_file']}."


def _cells(mount: dict[str, Any]) -> tuple[str, ...]:
    if mount["pid"] is None:
        return (mount["mountpoint"], "-", mount["state"], "-", "-", "-", "1")
    return (
        mount["mountpoint"],
        mount["bucket"],
        mount["state"],
        f"{mount['pending_files']} ({bytes_text(mount['pending_bytes'])})",
        f"{mount['uploaded_files']} ({bytes_text(mount['uploaded_bytes'])})",
        bytes_text(mount["cache_bytes"]),
        str(len(mount["errors"])),
    )
