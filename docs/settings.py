"""Write docs/CONFIGURATION.md from the options: ``make docs``. A test keeps the page up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from qarnotfs.cli import configfile
from qarnotfs.cli.config import default_text
from qarnotfs.cli.entry import KINDS

PAGE = Path(__file__).parent / "CONFIGURATION.md"

HEAD = """# Configuration

Made by `make docs` from the options. Each setting has one name in three forms; of what is said,
the first in this order counts:

1. a flag: `--cache-size 50G`,
2. the environment: `QARNOTFS_CACHE_SIZE=50G`,
3. a file with lines like that: `~/.config/qarnotfs/qarnotfs.conf`, then
   `/etc/qarnotfs/qarnotfs.conf`; or one file alone, named by `qarnotfs --config FILE` or
   `QARNOTFS_CONFIG` (`/dev/null` for none),
4. the default.

`qarnotfs config` shows what counts, and where it comes from; `qarnotfs config --cache-size 3G`,
what a flag would change. Secrets are not shown. A file has one `NAME=VALUE` a line, quoted where
it has spaces, and `#` before comments: the form of systemd's `EnvironmentFile=`. A name that is
not below is an error; `BUCKET` and `DIR` are for `qarnotfs@.service`. A file with a secret must
be readable by its owner alone.

Sizes are `64K`, `1.5G`, `10GiB`, in powers of 1024. Times are `0.5s`, `90s`, `15m`, `12h`, `30d`,
`2w`. Switches are `1` or `0`. What is said with several values (`--pin`) has spaces between them.

| flag | variable, and name in a file | default | of | what it is |
|---|---|---|---|---|
"""
TAIL = """
## Account and server

From the environment or a file only, never a flag: flags can be read by everybody on the machine.
A login in the environment (any of the first six) hides a file's login as a whole. Where neither
has one, systemd's `LoadCredential=` is looked at: `qarnot-token` holds a token, `qarnot.conf` and
`aws-credentials` are files as below.

| name | what it is |
|---|---|
"""
ACCOUNT = {
    "QARNOT_CLIENT_TOKEN": "The token of a Qarnot account.",
    "AWS_SECRET_ACCESS_KEY": "The secret key for any S3.",
    "AWS_SESSION_TOKEN": "The third part of credentials that end.",
    "QARNOT_CONF": "A `qarnot.conf`, as the Qarnot SDK reads it; `--conf` says the same.",
    "AWS_ACCESS_KEY_ID": "The access key for any S3.",
    "AWS_PROFILE": "A profile of `~/.aws`; `--profile` says the same.",
    "QARNOT_CLUSTER_URL": "The Qarnot API. Default: `https://api.qarnot.com`.",
    "QARNOT_CLUSTER_TIMEOUT": "Seconds to wait for it. Default: 30.",
    "QARNOT_CLUSTER_UNSAFE": "`1`: accept any certificate of it. Dangerous.",
    "QARNOT_STORAGE_URL": "The object store. Default: what the API says.",
    "AWS_ENDPOINT_URL": "The object store, for AWS credentials; `--endpoint` says the same.",
    "AWS_ENDPOINT_URL_S3": "The same, and counts more.",
    "AWS_REGION": "Its region; `--region` says the same.",
    "HTTPS_PROXY": "The proxy for https; a file may hold it, too.",
    "HTTP_PROXY": "The proxy for http.",
    "NO_PROXY": "Hosts that are asked without one.",
    "AWS_DEFAULT_REGION": "The same, and counts less.",
    "AWS_CA_BUNDLE": "Certificates to trust; `--ca-bundle` says the same.",
    "AWS_CONFIG_FILE": "In place of `~/.aws/config`.",
    "AWS_SHARED_CREDENTIALS_FILE": "In place of `~/.aws/credentials`.",
}
END = """
Two more are for the environment only: `QARNOTFS_RUNTIME_DIR`, where the control sockets are
(`/run/qarnotfs` for root, else `$XDG_RUNTIME_DIR/qarnotfs`, else `/tmp/qarnotfs-UID`), and
`QARNOTFS_TRACEBACK=1`, which shows where an unexpected error came from.
"""


def text() -> str:
    """The page."""
    account = (f"| `{name}` | {ACCOUNT[name]} |\n" for name in configfile.ACCOUNT)
    return "".join([HEAD, *_rows(), TAIL, *account, END])


def _rows() -> Iterator[str]:
    options: dict[str, click.Option] = {}
    users: dict[str, list[str]] = {}
    for command in (command for members in KINDS.values() for command in members):
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.envvar, str):
                if command.name == "config" and option.name != "as_json":
                    continue
                options.setdefault(option.envvar, option)
                users.setdefault(option.envvar, []).append(str(command.name))
    for variable, option in options.items():
        flag = option.opts[0]
        default = default_text(option) or ""
        what = re.sub(r"\s*\[default: [^\]]*\]", "", option.help or "").replace("|", "\\|")
        used_by = ", ".join(users[variable])
        yield f"| `{flag}` | `{variable}` | {default} | {used_by} | {what} |\n"


if __name__ == "__main__":
    PAGE.write_text(text())
