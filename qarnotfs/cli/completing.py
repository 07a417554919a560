"""Completion of words in a shell: which mounts there are; and the scripts that ask for it.

Used by the commands that take a mountpoint. A bucket is not asked: a key press may not wait.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from qarnotfs import control
from qarnotfs.errors import QarnotfsError, UsageError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_QARNOTFS_COMPLETE"  # click's; the script sets it to ask us


def _mountpoints(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    try:
        found = [os.fspath(state.mountpoint) for state in control.survey()]
    except QarnotfsError:  # nowhere to look: nothing to offer
        found = []
    matching = [CompletionItem(path) for path in found if path.startswith(incomplete)]
    return matching or [CompletionItem(incomplete, type="dir")]


directory_argument = click.argument(
    "directory", metavar="DIR", type=click.Path(path_type=Path), shell_complete=_mountpoints
)
any_directory_argument = click.argument(
    "directory",
    metavar="[DIR]",
    required=False,
    type=click.Path(path_type=Path),
    shell_complete=_mountpoints,
)


@click.command(
    epilog="""\b
Examples:
  qarnotfs completion bash > /etc/bash_completion.d/qarnotfs
  qarnotfs completion zsh > "${fpath[1]}/_qarnotfs"
  qarnotfs completion fish > ~/.config/fish/completions/qarnotfs.fish"""
)
@click.argument("shell", metavar="|".join(SHELLS), type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and mountpoints."""
    click.echo(script(shell))


def script(shell: str) -> str:
    """What a shell has to run for it; it asks ``qarnotfs`` itself at each key press."""
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"There is no completion for {shell}: {', '.join(SHELLS)} have one.")
    return made(click.Group(), {}, "qarnotfs", VARIABLE).source()
