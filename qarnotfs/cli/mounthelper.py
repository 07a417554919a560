"""``mount.qarnotfs`` and ``umount.fuse.qarnotfs``: what mount(8) and umount(8) call.

So /etc/fstab and systemd know our mounts. Their options are those of ``qarnotfs mount``, written
as mount options; umount(8) waits until what was written is in the bucket.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from qarnotfs import control
from qarnotfs.cli import daemon
from qarnotfs.cli.drain import Drain
from qarnotfs.cli.entry import exit_code_of, settings_of
from qarnotfs.cli.mount import mount, request_of
from qarnotfs.cli.target import place
from qarnotfs.cli.umount import umount
from qarnotfs.errors import NoDaemon, UsageError

WRONG_USE, FAILED = 1, 32  # exit codes of mount(8)
ENVIRONMENT = "environment"  # a file with the settings of a mount, as systemd reads it
# For others than us, or what every mount of ours is anyway.
SAID_BY_OTHERS = {
    *("defaults", "rw", "auto", "noauto", "nofail", "_netdev", "async", "exec"),
    *("nosuid", "nodev", "default_permissions"),
    *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "lazytime"),
}


@click.command(name="mount.qarnotfs")
@click.argument("bucket", metavar="BUCKET[:PREFIX]")
@click.argument("directory", metavar="DIR")
@click.option("-o", "options", multiple=True, help="Mount options, with commas between them.")
@click.option("-f", "fake", is_flag=True, help="Do nothing.")
@click.option("-s", "sloppy", is_flag=True, help="Ignore options that are not known.")
@click.option("-n", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-v", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-t", metavar="TYPE", expose_value=False, help="Ignored.")
def helper(bucket: str, directory: str, options: Sequence[str], fake: bool, sloppy: bool) -> None:
    """Mount a bucket: called by mount(8), as 'mount -t qarnotfs BUCKET DIR -o OPTIONS'.

    OPTIONS are those of 'qarnotfs mount' without dashes (ro, allow_other, uid=1000,
    cache_ttl=30d ..) and environment=FILE with settings as for the systemd service.
    """
    found = _words(options)
    flags = list(_flags(found, sloppy))
    file = found.get(ENVIRONMENT)
    settings = settings_of(Path(file[-1]) if file else None)
    target = place(bucket)
    if target.key:
        flags += [f"--prefix={target.folder}", f"--strip-prefix={target.folder}"]
    if not fake:
        arguments = [*flags, "--", target.bucket, directory]
        said = settings.defaults(mount)
        context = mount.make_context("mount.qarnotfs", arguments, default_map=said)
        daemon.start(request_of(context.params))


def _words(options: Sequence[str]) -> dict[str, list[str]]:
    """Name -> values; ``-`` and ``_`` are the same in a name."""
    found: dict[str, list[str]] = {}
    for word in filter(None, ",".join(options).split(",")):
        name, _, value = word.partition("=")
        found.setdefault(name.replace("-", "_"), []).append(value)
    return found


def _flags(found: dict[str, list[str]], sloppy: bool) -> Iterator[str]:
    """The same as arguments of ``qarnotfs mount``. `UsageError` for what is not known."""
    known = {
        str(option.name): option
        for option in mount.params
        if isinstance(option, click.Option) and option.name not in ("foreground", "ready_fd")
    }
    for name, values in found.items():
        meant = "read_only" if name == "ro" else name
        if option := known.get(meant):
            flag = option.opts[0]
            yield from [flag] if option.is_flag else [f"{flag}={value}" for value in values]
        elif not (sloppy or name in SAID_BY_OTHERS | {ENVIRONMENT} or name.startswith("x_")):
            raise UsageError(_not_known(name, known))


def _not_known(name: str, known: dict[str, click.Option]) -> str:
    near = difflib.get_close_matches(name, [*known, *SAID_BY_OTHERS, ENVIRONMENT, "ro"], 1)
    hint = f"did you mean '{near[0]}'?" if near else "'qarnotfs mount --help' has those that are."
    return f"The mount option '{name}' is not known: {hint}"


@click.command(name="umount.fuse.qarnotfs")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-l", "lazy", is_flag=True, help="Also when programs still use it.")
@click.option("-f", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-n", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-r", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-v", is_flag=True, expose_value=False, help="Ignored.")
@click.option("-t", metavar="TYPE", expose_value=False, help="Ignored.")
@click.pass_context
def unhelper(context: click.Context, directory: Path, lazy: bool) -> None:
    """Unmount and wait for the uploads: called by umount(8). With -l it does not wait."""
    if lazy:
        with suppress(NoDaemon), Drain(control.canonical(directory)) as drain:
            drain.unmount(force=True)
            return
    context.invoke(umount, directory=directory)


def main(args: Sequence[str] | None = None) -> None:
    """Be ``mount.qarnotfs``, with the exit codes of mount(8)."""
    _be(helper, args)


def umount_main(args: Sequence[str] | None = None) -> None:
    """Be ``umount.fuse.qarnotfs``, with the exit codes of mount(8)."""
    _be(unhelper, args)


def _be(command: click.Command, args: Sequence[str] | None) -> None:
    code = exit_code_of(lambda: command.main(args, command.name, standalone_mode=False))
    sys.exit({0: 0, 2: WRONG_USE}.get(code, FAILED))
