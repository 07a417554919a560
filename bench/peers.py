"""How each client is mounted: ours, the peers, and the pass-through that is a limit.

Used by `bench.run`. All run in the foreground with a cache of their own, believe what
they have listed for the same time, and otherwise do as they do when nobody tells them more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

OURS = "qarnotfs"
S3FS, RCLONE = "s3fs", "rclone"
# Taken when their program is on PATH.
GEESEFS, GOOFYS, MOUNT_S3 = "geesefs", "goofys", "mount-s3"
# What bounds everybody: no network, no file system, neither.
PASSTHROUGH, AWSCRT, DISK = "pass-through", "awscrt", "disk"
LIMITS = (PASSTHROUGH, AWSCRT, DISK)
BARE_TOP = Path("/s3")  # stands for the mountpoint where there is none
REGION = "us-east-1"
BUCKET = "bench"
BELIEVE_SEC = 1800  # longer than anything here takes
NAMES_MAX = 1_000_000  # that s3fs remembers; its default is 100000, and it forgets beyond


class Place(NamedTuple):
    """Where one client works: the bucket's address, and directories of its own.

    ``data``: the files as they are on this disk. Only the pass-through reads them.
    ``options``: of our mount, for trying something out.
    """

    url: str
    access_key: str
    secret_key: str
    folder: Path
    data: Path
    options: tuple[str, ...] = ()

    @property
    def mountpoint(self) -> Path:
        """Where a client shows the bucket."""
        return self.folder / "mnt"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


class Command(NamedTuple):
    """A program that serves the mountpoint until it is unmounted."""

    words: list[str]
    environ: dict[str, str]


def ours(place: Place) -> Command:
    words = [str(beside_python("qarnotfs")), "mount", BUCKET, str(place.mountpoint)]
    words += ["--foreground", f"--cache-dir={place.cache}", f"--cache-ttl={BELIEVE_SEC}s"]
    words += place.options
    return Command(words, account(place) | {"QARNOTFS_RUNTIME_DIR": str(place.folder)})


def s3fs(place: Place) -> Command:
    secret = place.folder / "passwd"
    secret.touch(mode=0o600)
    secret.write_text(f"{place.access_key}:{place.secret_key}\n")
    options = [f"url={place.url}", "use_path_request_style", f"passwd_file={secret}"]
    options += [f"use_cache={place.cache}", f"stat_cache_expire={BELIEVE_SEC}"]
    options += [f"max_stat_cache_size={NAMES_MAX}"]
    words = [S3FS, BUCKET, str(place.mountpoint), "-f", "-o", ",".join(options)]
    return Command(words, environment(place))


def rclone(place: Place) -> Command:
    words = [str(beside_python(RCLONE)), "mount", f"s3:{BUCKET}", str(place.mountpoint)]
    words += ["--vfs-cache-mode=full", f"--cache-dir={place.cache}"]
    words += [f"--dir-cache-time={BELIEVE_SEC}s"]
    return Command(words, rclone_environment(place))


def geesefs(place: Place) -> Command:
    words = [GEESEFS, "-f", "--endpoint", place.url, "--region", REGION]
    words += ["--stat-cache-ttl", f"{BELIEVE_SEC}s", "--cache", str(place.cache)]
    return Command([*words, BUCKET, str(place.mountpoint)], account(place))


def goofys(place: Place) -> Command:
    words = [GOOFYS, "-f", "--endpoint", place.url, "--region", REGION]
    words += ["--stat-cache-ttl", f"{BELIEVE_SEC}s", "--type-cache-ttl", f"{BELIEVE_SEC}s"]
    return Command([*words, BUCKET, str(place.mountpoint)], account(place))


def mount_s3(place: Place) -> Command:
    words = [MOUNT_S3, "--foreground", "--force-path-style", f"--endpoint-url={place.url}"]
    words += [f"--region={REGION}", "--allow-delete", "--allow-overwrite"]
    words += [f"--cache={place.cache}", f"--metadata-ttl={BELIEVE_SEC}"]
    return Command([*words, BUCKET, str(place.mountpoint)], account(place))


def passthrough(place: Place) -> Command:
    words = [sys.executable, "-m", "bench.passthrough", str(place.data), str(place.mountpoint)]
    return Command(words, environment(place))


CLIENTS: dict[str, Callable[[Place], Command]] = {
    OURS: ours,
    S3FS: s3fs,
    RCLONE: rclone,
    GEESEFS: geesefs,
    GOOFYS: goofys,
    MOUNT_S3: mount_s3,
    PASSTHROUGH: passthrough,
}
PEERS = (S3FS, RCLONE, GEESEFS, GOOFYS, MOUNT_S3)


def environment(place: Place) -> dict[str, str]:
    """Nothing of this user's: neither settings nor proxies."""
    home = {"HOME": str(place.folder), "XDG_CACHE_HOME": str(place.folder)}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home}


def account(place: Place) -> dict[str, str]:
    """With what makes ``qarnotfs`` log in."""
    return environment(place) | {
        "AWS_ENDPOINT_URL": place.url,
        "AWS_ACCESS_KEY_ID": place.access_key,
        "AWS_SECRET_ACCESS_KEY": place.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }


def beside_python(program: str) -> Path:
    """A program that pip installed where this Python is."""
    return Path(sys.executable).with_name(program)


def rclone_environment(place: Place) -> dict[str, str]:
    """With a remote ``s3:``, and no other."""
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Ceph",
        "ENDPOINT": place.url,
        "ACCESS_KEY_ID": place.access_key,
        "SECRET_ACCESS_KEY": place.secret_key,
    }
    told = {f"RCLONE_CONFIG_S3_{name}": value for name, value in remote.items()}
    return environment(place) | told | {"RCLONE_CONFIG": "/notfound"}


def program(client: str) -> str:
    return str(beside_python(client)) if client in {OURS, RCLONE} else client


def installed() -> list[str]:
    """The peers that there are."""
    return [peer for peer in PEERS if shutil.which(program(peer))]


def versions(clients: Iterable[str]) -> dict[str, str]:
    """Of everybody, for the page."""
    found = {OURS: version(OURS)}
    for name in clients:
        command = [program(name), "version" if name == RCLONE else "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        number = re.search(r"\d+\.\d[\d.]*", done.stdout + done.stderr)
        found[name] = number[0] if number else "?"
    return found
