"""The group of commands, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from qarnotfs import __version__
from qarnotfs.cli import configfile
from qarnotfs.cli.buckets import mb, rb
from qarnotfs.cli.check import check
from qarnotfs.cli.completing import completion
from qarnotfs.cli.config import config
from qarnotfs.cli.cp import cp
from qarnotfs.cli.debug import debug
from qarnotfs.cli.get import cat, get
from qarnotfs.cli.ls import ls
from qarnotfs.cli.mount import mount
from qarnotfs.cli.put import put
from qarnotfs.cli.rm import rm
from qarnotfs.cli.run import run
from qarnotfs.cli.status import status
from qarnotfs.cli.sync import sync
from qarnotfs.cli.umount import flush, umount
from qarnotfs.cli.warm import warm
from qarnotfs.errors import QarnotfsError

INTERRUPTED = 128 + 2  # what a shell reports for a command ended by SIGINT


KINDS = {
    "Mounts": (mount, umount, flush, status, debug, check, warm, run),
    "Buckets, without mounting them": (ls, get, put, sync, cp, rm, mb, rb, cat),
    "This program": (config, completion),
}


class _Commands(click.Group):
    """A group whose ``--help`` tells the kinds of commands apart."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for kind, members in KINDS.items():
            with formatter.section(kind):
                formatter.write_dl([(c.name or "", c.get_short_help_str(65)) for c in members])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  qarnotfs mount data /mnt/data        the bucket 'data' as a directory
  qarnotfs status                      what is mounted, what waits for upload
  qarnotfs umount /mnt/data            upload what is left and unmount
  qarnotfs run data:/data -- make      mount, run a command, upload, unmount
  qarnotfs ls -l data:results          what is in a bucket
  qarnotfs sync results data:results   upload what differs

\b
Account: QARNOT_CLIENT_TOKEN or a qarnot.conf (--conf) for Qarnot, or the usual
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_PROFILE for any S3.""",
)
@click.version_option(__version__, prog_name="qarnotfs", message="%(prog)s %(version)s")
@click.option(
    "--config",
    type=click.Path(exists=True, resolve_path=True, path_type=Path),
    envvar=configfile.VARIABLE,
    show_envvar=True,
    help="A file of settings instead of the usual ones; see 'qarnotfs config'.",
)
@click.pass_context
def commands(context: click.Context, config: Path | None) -> None:
    """Mount a Qarnot bucket, or any S3-compatible one, as a directory."""
    context.obj = settings = settings_of(config)
    every = (command for members in KINDS.values() for command in members)
    context.default_map = {str(command.name): settings.defaults(command) for command in every}


def settings_of(file: Path | None) -> configfile.Settings:
    """What ``file``, or the usual ones, say; of the account, where the login looks for it."""
    settings = configfile.read(file, [one for members in KINDS.values() for one in members])
    settings.export_account()
    return settings


for members in KINDS.values():
    for command in members:
        commands.add_command(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and exit the process; never with a traceback."""
    sys.exit(exit_code_of(lambda: commands.main(args, prog_name="qarnotfs", standalone_mode=False)))


def exit_code_of(run: Callable[[], int | None]) -> int:
    """The exit code of a command; what goes wrong is said on stderr."""
    try:
        return run() or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("qarnotfs: interrupted", err=True)
        return INTERRUPTED
    except QarnotfsError as error:
        click.echo(f"qarnotfs: {error}", err=True)
        return error.exit_code
    except Exception as error:
        if "QARNOTFS_TRACEBACK" in os.environ:
            raise
        click.echo(f"qarnotfs: {_sentence(error)}", err=True)
        return 1


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return f"unexpected {type(error).__name__}: {error} (QARNOTFS_TRACEBACK=1 shows where)"
