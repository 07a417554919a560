"""``qarnotfs status``: what is mounted, and what waits for upload."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from qarnotfs import control
from qarnotfs.cli.board import board
from qarnotfs.cli.completing import any_directory_argument
from qarnotfs.control import MountState
from qarnotfs.control.deadmount import is_dead
from qarnotfs.errors import UsageError

# The states of a mount whose process does not answer; what it says itself is in `session`.
DEAD, UNREACHABLE = "dead", "unreachable"
DIED = (
    "The mount process has died. 'qarnotfs umount' cleans up; the next mount of the bucket"
    " uploads what is left."
)
SILENT = "The mount process does not answer: it hangs, or uses another QARNOTFS_RUNTIME_DIR."
PIPE_COLUMNS = 10_000  # what no terminal shows needs no folding
NOTHING = "Nothing is mounted."
WATCH_SEC = 1.0


@click.command(
    epilog="""\b
Examples:
  qarnotfs status
  qarnotfs status --watch
  qarnotfs status --json | jq '.[].pending_files'

\b
With --json, a list with one object for each mount: at least mountpoint, bucket, state
(serving, draining, dead, unreachable), pid, pending_files, pending_bytes (of which refused for
good: refused_files, refused_bytes), transfers (on their way now), upload_bytes_per_sec,
upload_eta_sec, cache_bytes, errors (with staged_file)."""
)
@any_directory_argument
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="QARNOTFS_JSON",
    show_envvar=True,
    help="For programs: a JSON list.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Show it anew every second until Ctrl-C; with --json, a list a line.",
)
def status(directory: Path | None, as_json: bool, watch: bool) -> None:
    """Show your mounts, or the one on DIR."""
    if watch:
        _watch(directory, as_json=as_json)
        return
    found = _found(directory)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        _print(found)
    else:
        click.echo(NOTHING)


def _found(directory: Path | None) -> list[dict[str, Any]]:
    return [_described(state) for state in _chosen(directory)]


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


def _print(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else PIPE_COLUMNS)
    for part in board(found, terminal=terminal):
        console.print(part, soft_wrap=isinstance(part, Text))


def _watch(directory: Path | None, *, as_json: bool) -> None:
    """Again and again until interrupted: a live picture, or for programs a JSON list a line."""
    if not as_json and not sys.stdout.isatty():
        raise UsageError("--watch draws on a terminal: for a program or a file add --json.")
    with contextlib.suppress(KeyboardInterrupt):
        if as_json:
            while True:
                click.echo(json.dumps(_found(directory)))
                time.sleep(WATCH_SEC)  # until the next picture: what --watch is for
        _draw(directory)


def _draw(directory: Path | None) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            found = _found(directory)
            head = Text(f"qarnotfs status at {datetime.now():%H:%M:%S}; Ctrl-C ends it\n", "dim")
            shown = board(found, terminal=True) if found else [NOTHING]
            live.update(Group(head, *shown), refresh=True)
            time.sleep(WATCH_SEC)  # until the next picture: what --watch is for
