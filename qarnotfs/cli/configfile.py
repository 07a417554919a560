"""Files of settings: NAME=VALUE lines with the names of the environment, as systemd reads them.

Used by `entry` for every command, by ``mount.qarnotfs``, and by ``config``, which shows what came
from where. A flag
says more than the environment, the environment more than a file, the file more than the
default; and the user's file more than the machine's.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from platformdirs import user_config_path

from qarnotfs.errors import UsageError

VARIABLE = "QARNOTFS_CONFIG"  # one file instead of both; /dev/null for none
MACHINE = Path("/etc/qarnotfs/qarnotfs.conf")
SECRETS = ("QARNOT_CLIENT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Belong together: who says one of them in the environment means none of a file's.
LOGIN = (*SECRETS, "QARNOT_CONF", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
ACCOUNT = (
    *LOGIN,
    *("QARNOT_CLUSTER_URL", "QARNOT_CLUSTER_TIMEOUT", "QARNOT_CLUSTER_UNSAFE"),
    *("QARNOT_STORAGE_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
    *("AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
)
OTHERS = ("BUCKET", "DIR")  # for qarnotfs@.service, whose files these may be


@dataclass
class Settings:
    """What the files say. ``sources``: which of them, by name."""

    files: list[Path] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)

    def defaults(self, command: click.Command) -> dict[str, Any]:
        """What they say of the options of ``command``, as click's ``default_map``.

        Of those that have a twin in the environment only: the same names mean the same.
        """
        said: dict[str, Any] = {}
        for option in command.params:
            value = self.values.get(str(option.envvar))
            if value and option.name:  # an empty one says nothing, as in the environment
                several = isinstance(option, click.Option) and option.multiple
                said[option.name] = option.type.split_envvar_value(value) if several else value
        return said

    def export_account(self) -> None:
        """Put what they say of the account where the login looks, below what is there already."""
        wanted = ACCOUNT if not _has_login(os.environ) else tuple(set(ACCOUNT) - set(LOGIN))
        for name in wanted:
            if value := self.values.get(name):
                os.environ.setdefault(name, value)


def _has_login(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in LOGIN)


def read(chosen: Path | None, commands: Sequence[click.Command]) -> Settings:
    """The file that was chosen, else those that there are in the two usual places.

    Raises `UsageError` for one that cannot be read, or says what no option of ``commands`` does.
    """
    known = {str(option.envvar) for one in commands for option in one.params if option.envvar}
    known |= {*ACCOUNT, *OTHERS}
    settings = Settings()
    for path in [chosen] if chosen else _usual():
        for number, name, value in lines_of(path):
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise UsageError(f"{path}, line {number}: there is no setting {name}.{hint}")
            if name in SECRETS and value:
                _refuse_readers(path, name)
            settings.values[name], settings.sources[name] = value, path
        settings.files.append(path)
    return settings


def _usual() -> list[Path]:
    both = (MACHINE, user_config_path("qarnotfs") / "qarnotfs.conf")
    return [path for path in both if path.is_file()]


def _refuse_readers(path: Path, name: str) -> None:
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path} holds {name}, and others can read it: 'chmod 600 {path}'.")


def lines_of(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, name and value; ``#`` and ``;`` begin comments, quotes are as in a shell."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        try:
            [word] = shlex.split(value) or [""]
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"{path}, line {number}: write NAME=VALUE, quoted if it has spaces.")
        yield number, name.strip(), word
