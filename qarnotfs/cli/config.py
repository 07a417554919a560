"""``qarnotfs config``: every setting of a mount, and where it comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from qarnotfs.cli import configfile
from qarnotfs.cli.options import mount_only_options, mount_options
from qarnotfs.cli.outcome import json_option, printable
from qarnotfs.cli.sections import SectionedCommand
from qarnotfs.cli.units import duration_text
from qarnotfs.figures import bytes_text

HIDDEN = "(secret)"


class Setting(NamedTuple):
    """One line of the list; ``value`` as a person would write it, ``source`` in words."""

    name: str
    variable: str
    value: str | None
    source: str


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  qarnotfs config
  qarnotfs config --cache-size 3G                        flags count, too
  qarnotfs --config /etc/qarnotfs/data.conf config       with another file
  qarnotfs config --json | jq -r '.settings[] | select(.source != "default") | .name'

\b
Flag > environment > file > default. The files: /etc/qarnotfs/qarnotfs.conf, above it
~/.config/qarnotfs/qarnotfs.conf; or the one of --config or QARNOTFS_CONFIG alone. A line is
NAME=VALUE, with the names of the environment: QARNOTFS_CACHE_SIZE=50G. Secrets are not shown.""",
)
@json_option
@mount_only_options
@mount_options
@click.pass_context
def config(context: click.Context, /, as_json: bool, **given: Any) -> None:
    """Show the settings that a mount would have, and where each comes from."""
    files = context.find_object(configfile.Settings) or configfile.Settings()
    said = [*_options(context, files), *_account(files)]
    if as_json:
        names = [os.fspath(path) for path in files.files]
        settings = [one._asdict() for one in said]
        click.echo(json.dumps({"files": names, "settings": settings}, indent=2))
        return
    width = max(len(one.name) for one in said)
    values = [printable(one.value or "-") for one in said]
    value_width = min(40, max(len(value) for value in values))
    for one, value in zip(said, values, strict=True):
        click.echo(f"{one.name:{width}}  {value:{value_width}}  {one.source}")


def _options(context: click.Context, files: configfile.Settings) -> Iterator[Setting]:
    for option in context.command.params:
        if not isinstance(option, click.Option) or option.hidden or option.name == "as_json":
            continue
        if not isinstance(option.envvar, str) or option.name is None:
            continue
        source = context.get_parameter_source(option.name)
        value = _text(option, context.params[option.name])
        if value is None:
            value = default_text(option)
        yield Setting(option.opts[0], option.envvar, value, _words(source, option.envvar, files))


def _words(source: ParameterSource | None, variable: str, files: configfile.Settings) -> str:
    if source is ParameterSource.COMMANDLINE:
        return "flag"
    if source is ParameterSource.ENVIRONMENT:
        return f"environment: {variable}"
    if source is ParameterSource.DEFAULT_MAP:
        return f"file: {files.sources[variable]}"
    return "default"


def _account(files: configfile.Settings) -> Iterator[Setting]:
    """What the login will find; `configfile` has put a file's into the environment."""
    for name in configfile.ACCOUNT:
        if value := os.environ.get(name):
            # A proxy's URL may hold a password.
            secret = name in configfile.SECRETS or name.endswith("_PROXY")
            shown = HIDDEN if secret else value
            from_file = files.values.get(name) == value
            source = f"file: {files.sources[name]}" if from_file else f"environment: {name}"
            yield Setting(name, name, shown, source)


def default_text(option: click.Option) -> str | None:
    """What is meant when nothing is said, as its help has it; ``None``: nothing."""
    if found := re.search(r"\[default: ([^\]]*)\]", option.help or ""):
        return found[1]
    if isinstance(option.show_default, str):
        return option.show_default
    return str(option.default) if option.show_default else None


def _text(option: click.Option, value: Any) -> str | None:
    """A value as it could be written on the command line."""
    kind = option.type.name
    if value is None or value == ():
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind == "size":
        return bytes_text(value)
    if kind in {"duration", "whole_seconds"}:
        return duration_text(value)
    if kind == "octal":
        return f"{value:03o}"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
