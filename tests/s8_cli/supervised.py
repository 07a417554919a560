"""A systemd for tests: process 1 of namespaces of its own, with the units of this repository.

It sees this machine's file system with a few directories laid over: where the units, the programs
and /etc/qarnotfs would be installed. Its mounts and processes go with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.s5_mount.mounting import PROGRAM, Done
from tests.support import eventually

SYSTEMD = "/lib/systemd/systemd"
UNITS = Path(__file__).parents[2] / "systemd"
# What units of every kind wait for, and nothing of what this machine would start then.
TARGETS = (
    *("sysinit", "basic", "multi-user", "shutdown", "umount", "local-fs", "remote-fs"),
    *("network-online", "network", "remote-fs-pre", "local-fs-pre", "final"),
)
# Laid over: directories in which something is installed, and those that are to be empty.
BECOME = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
for place in usr/sbin usr/local/bin etc; do
    mount -t overlay overlay -o "lowerdir=$1/$place:/$place" "/$place"
done
for place in run mnt var/lib; do mount -t tmpfs tmpfs "/$place"; done
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir /mnt/data /mnt/tab /mnt/later
mknod --mode=666 /run/fuse c 10 229 # open to everybody, as udev makes it
mount --bind /run/fuse /dev/fuse
exec env -i container=test "PATH=$PATH" "SYSTEMD_UNIT_PATH=$1/units:/run/systemd/generator" \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=0
"""


@cache
def why_no_systemd() -> str:
    """Why no systemd can be started here; empty: it can."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not Path(SYSTEMD).exists():
        return "systemd is not installed"
    if _cgroups() is None:
        return "there is no cgroup2 file system here"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount", "--cgroup", "mount", "-t", "proc", "p", "/proc"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()


def _cgroups() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


class Manager:
    """The running systemd. Commands are run where it lives."""

    def __init__(self, pid: int, log_path: Path) -> None:
        self._pid, self._log_path = pid, log_path

    def __call__(self, *command: str) -> Done:
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "--mount", "--pid", "--cgroup", "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, f"{done.stderr}\n{self._log_path.read_text()}")

    def sh(self, script: str) -> Done:
        return self("sh", "-c", script)

    def show(self, unit: str, name: str) -> str:
        return self("systemctl", "show", "--value", "-p", name, unit).ok().out.strip()


def installed(folder: Path, configs: dict[str, str]) -> None:
    """Put everything where it would be installed, below ``folder``; configs by name."""
    units = folder / "units"
    shutil.copytree(UNITS, units)
    for name in TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    for place, name in (
        ("usr/local/bin", PROGRAM.name),
        ("usr/sbin", "mount.qarnotfs"),
        ("usr/sbin", "umount.fuse.qarnotfs"),
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / name).symlink_to(PROGRAM.with_name(name))
    (folder / "etc/qarnotfs").mkdir(parents=True)
    for name, text in configs.items():
        file = folder / f"etc/qarnotfs/{name}.conf"
        file.touch(0o600)
        file.write_text(text)


@contextmanager
def systemd(folder: Path) -> Iterator[Manager]:
    """Start it on what `installed` put into ``folder``; everything is gone in the end."""
    cgroups = _cgroups()
    assert cgroups is not None
    group = cgroups / f"qarnotfs-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    log_path = folder / "systemd.log"
    apart = "--pid --fork --mount --ipc --uts --cgroup --kill-child"
    join = f'echo $$ > {group}/cgroup.procs; exec unshare {apart} "$@"'
    with log_path.open("w") as log:
        process = subprocess.Popen(
            ["sh", "-c", join, "sh", "sh", "-c", BECOME, "sh", folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    with process:
        try:
            [pid] = eventually(lambda: _children(process.pid))
            manager = Manager(pid, log_path)
            eventually(lambda: manager("systemctl", "is-active", "basic.target").code == 0)
            yield manager
        finally:
            process.kill()
    eventually(lambda: _removed(group))


def _children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _removed(group: Path) -> bool:
    """A group can go when the last process in it, and every group below, has gone."""
    for path in sorted(group.rglob("*/"), reverse=True):
        if path.is_dir():
            _try_remove(path)
    return _try_remove(group)


def _try_remove(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
