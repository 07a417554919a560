"""``qarnotfs warm``: fill the cache before anybody mounts, and keep what is in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qarnotfs.cli.account import Account, server_options
from qarnotfs.cli.options import CACHE_BYTES_DEFAULT, bytes_default, cache_dir_option, size_option
from qarnotfs.cli.outcome import bar_wanted, complain, quiet_option
from qarnotfs.cli.sections import SectionedCommand, deed
from qarnotfs.cli.target import Target, place
from qarnotfs.figures import bytes_text, files_text

if TYPE_CHECKING:
    from qarnotfs.cache.warming import Warmth

IO_TIMEOUT_SEC = 60.0


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs warm data                       the whole bucket
  qarnotfs warm data:train/ --cache-size 200G
  qarnotfs warm --unpin data:train/        may be evicted again

\b
What is fetched is pinned: no mount with this --cache-dir evicts it. Begun again, it goes on
where it was, and fetches what was replaced meanwhile. Exit code 1 when something could not be
fetched, or not be kept.""",
)
@click.argument("target", metavar="BUCKET[:PREFIX]", type=place)
@deed("--unpin", is_flag=True, help="Fetch nothing; let what is cached be evicted again.")
@cache_dir_option
@size_option
@quiet_option
@server_options
def warm(
    target: Target,
    unpin: bool,
    cache_dir: Path,
    cache_size: int | None,
    quiet: bool,
    **server: Any,
) -> int:
    """Fetch what is in a bucket into the cache ahead, and keep it there."""
    from qarnotfs import session

    with Account(**server).buckets() as opened:
        bucket = opened(target.spec)
        if unpin:
            known = session.unpin(bucket, target.key, cache_dir=cache_dir)
            if not quiet:
                click.echo(f"{target} {'is not pinned any more' if known else 'was not pinned'}.")
            return 0
        with _display(bar_wanted(quiet)) as shown:
            warmth = session.warm(
                bucket,
                target.key,
                cache_dir=cache_dir,
                cache_bytes_max=_bytes_max(cache_size, cache_dir),
                io_timeout_sec=IO_TIMEOUT_SEC,
                shown=shown,
            )
    for key, why in warmth.failed.items():
        complain(f"{key}: {why}")
    if not quiet:
        count = warmth.files_total - len(warmth.failed)
        click.echo(f"{files_text(count)} ({bytes_text(warmth.bytes)}) cached and pinned.")
    return 1 if warmth.failed else 0


def _bytes_max(given: int | None, cache_dir: Path) -> int:
    return bytes_default(CACHE_BYTES_DEFAULT, cache_dir) if given is None else given


@contextmanager
def _display(wanted: bool) -> Iterator[Callable[[Warmth], None]]:
    """A bar on a terminal, else nothing."""
    if not wanted:
        yield lambda _: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        task = bars.add_task("listing", total=None)

        def shown(warmth: Warmth) -> None:
            if warmth.files_total:
                said = f"{warmth.files} of {files_text(warmth.files_total)}"
                bars.update(
                    task, description=said, total=warmth.bytes_total, completed=warmth.bytes
                )

        yield shown
