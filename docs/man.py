"""Write a manual page for each command, from its help: ``make man``. Wheels carry them, too."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click
from click_man.man import ManPage

from qarnotfs import __version__
from qarnotfs.cli.entry import commands


def write(directory: Path) -> None:
    """All pages, as ``qarnotfs.1``, ``qarnotfs-mount.1`` .. in ``directory``, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    top = click.Context(commands, info_name="qarnotfs")
    (directory / "qarnotfs.1").write_text(_page(top))
    for name, command in commands.commands.items():
        page = _page(click.Context(command, info_name=name, parent=top))
        (directory / f"qarnotfs-{name}.1").write_text(page)


def _page(context: click.Context) -> str:
    command = context.command
    page = ManPage(context.command_path)
    page.version = __version__
    help_text = cleandoc(command.help or "").replace("\b\n", "")
    page.short_help = _escaped(help_text.partition(".")[0].replace("\n", " "))
    page.description = _escaped(help_text)
    page.synopsis = _escaped(" ".join(command.collect_usage_pieces(context)))
    page.options = [
        (_escaped(record[0]), _escaped(record[1]))
        for option in command.get_params(context)
        if isinstance(option, click.Option) and (record := option.get_help_record(context))
    ]
    if isinstance(command, click.Group):
        page.commands = [
            (name, _escaped(one.get_short_help_str(200))) for name, one in command.commands.items()
        ]
    return str(page) + "".join(_more(command.epilog or "")) + _SEE_ALSO


def _more(epilog: str) -> Iterator[str]:
    """Examples as they are, and the paragraphs behind them."""
    for part in epilog.replace("\b\n", "").strip().split("\n\n"):
        head, _, body = part.partition("\n")
        if head.rstrip(":") in ("Example", "Examples"):
            yield f".SH EXAMPLES\n.nf\n{_escaped(body)}\n.fi\n"
        elif part:
            yield f".SH NOTES\n{_escaped(part)}\n"


_SEE_ALSO = """.SH "SEE ALSO"
.BR qarnotfs (1),
.BR mount.fuse3 (8),
.BR fusermount3 (1)
"""


def _escaped(text: str) -> str:
    """``text`` as troff has to be told it: a dot or quote at a line's beginning is a command."""
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e"), flags=re.MULTILINE)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
