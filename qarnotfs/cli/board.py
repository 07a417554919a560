"""How mounts are shown to a person: one table, then what the table has no room for.

Used by ``status``, once or again and again. It asks nobody: everything is in the statuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qarnotfs.cli.outcome import printable
from qarnotfs.figures import bar_text, bytes_text, files_text, going, left_text, time_text

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADINGS = ("Mountpoint", "Bucket", "State", "Cached", "To upload", "Uploaded", "Errors")
BAR_CELLS = 24
URGENCY = ("red", "yellow", "", "dim")  # a small screen shows the beginning
REFUSED = " Remove the reason, then mount the bucket again, or write it anew."
STYLES = {"serving": "green", "draining": "yellow"}  # whatever else it may be is bad news


def board(mounts: Sequence[dict[str, Any]], *, terminal: bool) -> Iterator[RenderableType]:
    """The table, the files on their way to a bucket, and sentences on what is not as usual.

    ``terminal``: bars are drawn, and what is pressing is coloured.
    """
    from rich.text import Text

    yield _table(mounts)
    if transfers := [one for mount in mounts for one in mount.get("transfers", [])]:
        yield _bars(transfers) if terminal else _plain_bars(transfers)
    said = [(style, mount, text) for mount in mounts for style, text in _sentences(mount)]
    if said and terminal:
        yield ""
    for style, mount, text in sorted(said, key=lambda one: URGENCY.index(one[0])):
        yield Text(printable(f"{mount['mountpoint']}{text}"), style)


def _table(mounts: Sequence[dict[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for mount in mounts:
        place, bucket, state, *figures, errors = _cells(mount)
        table.add_row(
            Text(printable(place), "bold"),
            Text(bucket),
            Text(state, STYLES.get(mount["state"], "bold red")),
            *(Text(figure) for figure in figures),
            Text(errors, "" if errors == "0" else "bold red"),
        )
    return table


def _cells(mount: dict[str, Any]) -> tuple[str, ...]:
    if mount["pid"] is None:
        return (mount["mountpoint"], "-", mount["state"], "-", "-", "-", "1")
    files, bytes_left = going(mount)
    return (
        mount["mountpoint"],
        mount["bucket"],
        mount["state"],
        f"{bytes_text(mount['cache_bytes'])} of {bytes_text(mount['cache_bytes_max'])}",
        f"{files} ({bytes_text(bytes_left)})",
        f"{mount['uploaded_files']} ({bytes_text(mount['uploaded_bytes'])})",
        str(len(mount["errors"])),
    )


def _bars(transfers: Sequence[dict[str, Any]]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(width=BAR_CELLS)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in transfers:
        bar = ProgressBar(
            one["bytes"] or 1, one["bytes_sent"], width=BAR_CELLS, complete_style="green"
        )
        table.add_row(bar, _sent(one), Text(printable(one["path"])))
    return table


def _plain_bars(transfers: Sequence[dict[str, Any]]) -> RenderableType:
    from rich.text import Text

    bars = (
        f"{bar_text(one['bytes_sent'], one['bytes'])} {_sent(one)} {printable(one['path'])}"
        for one in transfers
    )
    return Text("\n".join(bars))


def _sent(one: dict[str, Any]) -> str:
    return f"{bytes_text(one['bytes_sent'])} of {bytes_text(one['bytes'])}"


def _sentences(mount: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person should know of a mount beyond its row: a style, and what follows its name."""
    if mount["pid"] is not None:
        yield "dim", f": {_server(mount)}"
    if mount.get("pending_files"):
        yield "", f": {left_text(mount)}"
    for pin in mount.get("pins", []):
        yield "", f": {_pinned(pin)}"
    if mount.get("debug"):
        yield "yellow", ": every request is logged; 'qarnotfs debug DIR off' ends that"
    if mount.get("unvalidated_since_sec"):
        since = datetime.fromtimestamp(mount["unvalidated_since_sec"]).astimezone()
        yield (
            "yellow",
            ": the server does not answer; what is shown is as it was at"
            f" {since:%Y-%m-%d %H:%M:%S} or before, and not validated since",
        )
    for error in mount["errors"]:
        place = f"/{error['path']}" if error["path"] else ""
        yield "red", f"{place}: {error['message']}{_kept(error)}"
    for key in mount.get("conflicts", []):
        yield "yellow", f": someone else changed the file too; ours is stored as {key}"
    if mount.get("best_effort"):
        yield "yellow", f": {mount['best_effort']}"
    for finding in mount.get("findings", []):
        yield "yellow", f": {finding}"


def _server(mount: dict[str, Any]) -> str:
    """Where it is stored, what that server honours, and how well the cache does."""
    able = mount["capabilities"]
    honoured = [
        name
        for name, honours in (
            ("If-None-Match", able["put_if_absent"]),
            ("If-Match", able["put_if_match"] != "no"),
        )
        if honours
    ]
    said = ["read-only"] if mount["read_only"] else []
    said += [mount["endpoint"] + (f" honours {' and '.join(honoured)}" if honoured else "")]
    cache = mount["cache"]
    if reads := cache["hits"] + cache["misses"]:
        said.append(f"{100 * cache['hits'] // reads} % of {reads} reads cached")
    age_sec = datetime.now().timestamp() - mount["started_sec"]
    said.append(f"mounted {time_text(max(0.0, age_sec))} ago")
    return ", ".join(said)


def _pinned(pin: dict[str, Any]) -> str:
    name = f"'{pin['prefix']}'"
    if pin["message"]:
        return f"{name} is not pinned: {pin['message']}"
    if not pin["done"]:
        return f"{name} is being fetched: {pin['files']} of {pin['files_total']} files"
    failed = f", {files_text(len(pin['failed']))} could not be fetched" if pin["failed"] else ""
    return f"{name} is pinned: {files_text(pin['files_total'])}, {bytes_text(pin['bytes'])}{failed}"


def _kept(error: dict[str, Any]) -> str:
    """Where the bytes are that did not get into the bucket, and how they still do."""
    said = ""
    if error["staged_file"]:
        kept = "It is" if error["staged_whole"] else "What was changed of it is"
        said = f" {kept} kept in {error['staged_file']}."
    if "failed" in error:  # else it is the mount itself that does not answer
        said += REFUSED if error["failed"] else " It is tried again."
    return said
