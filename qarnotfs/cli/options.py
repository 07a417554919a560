"""What can be said on the command line about a mount, and what is meant when it is not.

Used by ``mount`` and ``run``, which share every option here. Each option has a twin in
the environment. No option takes a secret: argv can be read by everyone on the machine.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
from platformdirs import user_state_path

from qarnotfs import control
from qarnotfs.cli.account import PREFIX_OPTIONS, SERVER_OPTIONS, SPEC_OPTION, Account, Shown
from qarnotfs.cli.logs import FORMATS
from qarnotfs.cli.sections import Decorated, section_of, twin, with_options
from qarnotfs.cli.units import address, duration, octal, size, whole_seconds

CACHE_DIR = Path("/var/lib/qarnotfs")
CACHE_BYTES_DEFAULT = 10 << 30
DIRTY_BYTES_DEFAULT = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Settings(Account, Shown):
    """The options of one mount as they were given; field names are the options' names.

    ``None`` means not given. `argv` says them again, for the mount process.
    """

    read_only: bool
    cache_dir: Path
    cache_size: int | None
    cache_ttl: int | None
    attrs: Literal["full", "listing"]
    offline_reads: bool
    inodes_max: int
    pin: tuple[str, ...]
    close: Literal["later", "wait"]
    fsync_timeout: float
    upload_delay: float
    dirty_size: int | None
    on_conflict: Literal["keep-both", "overwrite"]
    io_timeout: float
    uid: int
    gid: int
    umask: int
    file_mode: int | None
    dir_mode: int | None
    allow_other: bool
    log_file: Path | None
    log_level: str
    log_format: str
    metrics: str | None = None

    def argv(self) -> list[str]:
        """The options as arguments that read back to the same settings, without `twins`."""
        return [
            argument
            for field in dataclasses.fields(self)
            for argument in _spoken(field.name, getattr(self, field.name))
        ]


def twins() -> set[str]:
    """Every environment variable that would add to, or contradict, what `Settings.argv` says."""
    names = [field.name for field in dataclasses.fields(Settings)]
    return {twin(name) for name in [*names, "foreground"]}


def _spoken(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    match name, value:
        case _, None | False:
            return []
        case _, tuple():
            return [f"{flag}={one}" for one in value]
        case _, True:
            return [flag]
        case "umask" | "file_mode" | "dir_mode", int():
            return [f"{flag}={value:o}"]
    return [f"{flag}={value}"]


def default_cache_dir() -> Path:
    """Kept, not in a cache folder that a cleaner may empty: it holds bytes not yet uploaded."""
    return CACHE_DIR if control.is_roots(CACHE_DIR) else user_state_path("qarnotfs")


_what, _cache, _writing, _owner, _process = (
    section_of(heading)
    for heading in (
        "What is shown",
        "Cache and time",
        "Writing",
        "Owner and access",
        "Mount process",
    )
)

_PLACE = click.Path(resolve_path=True, path_type=Path)

cache_dir_option = _cache(
    "--cache-dir",
    type=_PLACE,
    default=default_cache_dir,
    show_default="/var/lib/qarnotfs for root, else ~/.local/state/qarnotfs",
    help="Where blocks and files not yet uploaded are kept.",
)
size_option = _cache(
    "--cache-size",
    type=size,
    help="Keep at most this much of what was read."
    " [default: 10G, but at most half of the disk space that is free]",
)

_ONLY_MOUNT = [
    SPEC_OPTION,
    _process("--foreground", is_flag=True, help="Stay in the foreground and log to stderr."),
    _process(
        "--metrics",
        type=address,
        metavar="ADDRESS",
        help="Answer Prometheus there: PORT (on this machine only), HOST:PORT or [IPv6]:PORT."
        " Whoever reaches it learns names and figures. [default: nowhere]",
    ),
    click.option("--ready-fd", type=int, hidden=True),
]

_OPTIONS = [
    *PREFIX_OPTIONS,
    _what("--read-only", is_flag=True, help="Refuse every change."),
    _cache(
        "--cache-ttl",
        type=whole_seconds,
        metavar="TIME",
        help="Trust what was seen in the bucket for this long: 90s, 12h, 30d; 0 asks always."
        " [default: the spec's cacheTTLSec, else 60s]",
    ),
    cache_dir_option,
    size_option,
    _cache(
        "--attrs",
        type=click.Choice(["full", "listing"]),
        default="full",
        show_default=True,
        help="'full' asks for each file's mode, owner and time; 'listing' takes what a listing"
        " says: faster in directories never seen before.",
    ),
    _cache(
        "--pin",
        multiple=True,
        metavar="PREFIX",
        help="Fetch every key that begins with PREFIX ahead, and never evict it (see 'warm');"
        " several times for several.",
    ),
    _cache(
        "--offline-reads",
        is_flag=True,
        help="While the server cannot be reached, show what is cached, however old it is;"
        " 'status' says since when.",
    ),
    _cache(
        "--inodes-max",
        type=click.IntRange(min=0),
        metavar="COUNT",
        default=50_000,
        show_default=True,
        help="Files that the kernel may know at once, at some 4 KiB of memory each; those that no"
        " program has open are looked up anew when they are used again.",
    ),
    _writing(
        "--close",
        type=click.Choice(["later", "wait"]),
        default="later",
        show_default=True,
        help="When close() returns: once the bytes are safe on this disk, or in the bucket.",
    ),
    _writing(
        "--fsync-timeout",
        type=duration,
        metavar="TIME",
        default="5m",
        show_default=True,
        help="fsync(), and close() with --close wait, fail when the bucket takes nothing for"
        " this long; the file is uploaded later all the same. 0: they wait for ever.",
    ),
    _writing(
        "--upload-delay",
        type=duration,
        metavar="TIME",
        default="0.1s",
        show_default=True,
        help="Wait this long after close() for further changes before uploading; 5 seconds more"
        " (or twice that time more) while programs close file after file, then at most two files"
        " at a time for 20 seconds more, and ten times as long for a name like those that they"
        " soon rename or delete (`.name.Ab12Cd`, `name~`).",
    ),
    _writing(
        "--dirty-size",
        type=size,
        help="Bytes that may wait for upload before writers have to slow down."
        " [default: 4G, but at most half of the disk space that is free]",
    ),
    _writing(
        "--on-conflict",
        type=click.Choice(["keep-both", "overwrite"]),
        default="keep-both",
        show_default=True,
        help="When someone else changed the object too.",
    ),
    _writing(
        "--io-timeout",
        type=duration,
        metavar="TIME",
        default="60s",
        show_default=True,
        help="How long a read may wait for the server before it fails.",
    ),
    _owner("--uid", type=int, default=os.getuid, show_default="yours", help="Owner of files."),
    _owner("--gid", type=int, default=os.getgid, show_default="yours", help="Group of files."),
    _owner(
        "--umask",
        type=octal,
        default="022",
        show_default=True,
        help="Permissions withheld from files whose mode the bucket does not tell.",
    ),
    _owner(
        "--file-mode",
        type=octal,
        metavar="MODE",
        help="Permissions of such files, whatever --umask says. [default: 666 less --umask]",
    ),
    _owner(
        "--dir-mode",
        type=octal,
        metavar="MODE",
        help="The same of directories. [default: 777 less --umask]",
    ),
    _owner(
        "--allow-other",
        is_flag=True,
        help="Let other users of this machine in, as far as owners and modes of files do; else"
        " nobody but you, not even root. Users need 'user_allow_other' in /etc/fuse.conf.",
    ),
    *SERVER_OPTIONS,
    _process("--log-file", type=_PLACE, help="[default: CACHE-DIR/logs/BUCKET.log, or stderr]"),
    _process(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="How much to log; 'qarnotfs debug' changes it while the mount runs.",
    ),
    _process(
        "--log-format",
        type=click.Choice(FORMATS),
        default=FORMATS[0],
        show_default=True,
        help="'json' is an object a line, 'journal' has fields for journalctl, 'auto' is that"
        " under systemd and text elsewhere.",
    ),
]


def mount_options(command: Decorated) -> Decorated:
    """Give ``command`` every option of `Settings` but ``spec``."""
    return with_options(_OPTIONS, command)


def mount_only_options(command: Decorated) -> Decorated:
    """Give ``command`` the options that make sense for one mount at a time."""
    return with_options(_ONLY_MOUNT, command)


def bytes_default(wished: int, directory: Path) -> int:
    """``wished``, but at most half of the disk space that ``directory`` has or could have.

    What the directory uses already counts as free: else each mount would get half of what
    the one before had.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk = os.statvfs(directory)
    return min(wished, (disk.f_bavail * disk.f_frsize + _bytes_used(directory)) // 2)


def _bytes_used(directory: Path) -> int:
    used = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                used += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:  # another mount shares this directory
                continue
    return used
