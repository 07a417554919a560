"""Options under headings of ``--help``, most with a twin in the environment.

Used by every command that has more than a few. No option takes a secret: argv can be read
by everyone on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., object])
Option = Callable[[Any], Any]

SECTIONS = (
    "What is done",
    "What is shown",
    "Cache and time",
    "Writing",
    "Owner and access",
    "Output",
    "Server and account",
    "Mount process",
    "Help",
)
FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


class SectionOption(click.Option):
    """An option under a heading of ``--help``."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose ``--help`` groups its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for heading in SECTIONS:
            found = [option for option in options if _section(option) == heading]
            records = [record for option in found if (record := option.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _section(option: click.Option) -> str:
    return option.section if isinstance(option, SectionOption) else SECTIONS[-1]


def twin(flag: str) -> str:
    """The environment variable that says the same as an option."""
    return "QARNOTFS_" + flag.lstrip("-").replace("-", "_").upper()


def section_of(heading: str, *, twins: bool = True) -> Callable[..., Option]:
    """Makes options of this section: ``option(flag, **what click.option takes)``."""

    def option(*names: str, **kwargs: Any) -> Option:
        said = {"envvar": twin(names[0]), "show_envvar": True} if twins else {}
        return click.option(*names, cls=SectionOption, section=heading, **said, **kwargs)

    return option


# What one command is to do: no twins, nobody wants it for them all.
deed = section_of(SECTIONS[0], twins=False)


def with_options(options: Sequence[Option], command: Decorated) -> Decorated:
    """Give ``command`` these options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command
