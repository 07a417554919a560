"""Containers for tests: an OCI runtime on a root file system of its own, or on this machine's.

``runc`` is what Docker and containerd run. Without a root file system it gets a directory with
this machine's /usr and /etc in it, read-only, so that nothing has to be built or fetched; `image`
builds one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.s5_mount.mounting import run

Mount = dict[str, Any]  # of an OCI configuration

ROOT = Path(__file__).parents[2]
NOBODY = 65534
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
CAPABILITY_SETS = ("bounding", "effective", "permitted")  # the first is everybody's
NAMESPACES = ("pid", "ipc", "uts", "mount")  # the network is ours, and so is the gateway


@cache
def why_no_container() -> str:
    """Why this machine can run no container; empty: it can."""
    if os.geteuid() != 0:
        return "containers are started by root here"
    if not shutil.which("runc"):
        return "runc is not installed (Debian: runc)"
    return ""


@cache
def why_no_user_namespace() -> str:
    """Why this machine gives nobody a user namespace; empty: it does."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


class Container:
    """One container, not yet running: its first process is ``argv``."""

    def __init__(
        self,
        folder: Path,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        fuse: bool,
        capabilities: Sequence[str] = (),
        uid: int = 0,
        root: Path | None = None,
        volumes: Mapping[str, Path] = MappingProxyType({}),
        cwd: str = "/",
    ) -> None:
        """``capabilities`` are root's, and the most that a set-user-ID program may get.

        ``volumes``: what of this machine is seen where.
        """
        self.name = f"qarnotfs-{folder.parent.name}-{folder.name}"[-100:]
        self.folder = folder
        folder.mkdir(parents=True)
        sets = CAPABILITY_SETS if uid == 0 else CAPABILITY_SETS[:1]
        mounts = [*_own_mounts(), *_binds({place: str(at) for place, at in volumes.items()})]
        if root is None:
            root = folder / "rootfs"
            root.mkdir()
            for link in ("bin", "sbin", "lib", "lib64"):
                (root / link).symlink_to(f"usr/{link}")
            mounts += _this_machine()
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid},
                "args": list(argv),
                "env": [f"{name}={value}" for name, value in environment.items()],
                "cwd": cwd,
                "capabilities": {kind: list(capabilities) for kind in sets},
            },
            "root": {"path": str(root)},
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": name} for name in NAMESPACES],
                "devices": [FUSE] if fuse else [],
                "resources": {"devices": [{"allow": True, "access": "rwm"}]},
            },
        }
        (folder / "config.json").write_text(json.dumps(spec))

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The container's first process, with pipes; it is gone at the end of the block."""
        process = subprocess.Popen(
            ["runc", "--root", str(self.folder / "state"), "run", self.name],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    self.kill("KILL")

    def kill(self, signal_name: str) -> None:
        """What ``docker stop`` does with TERM, and ``docker kill`` with KILL."""
        run("runc", "--root", self.folder / "state", "kill", self.name, signal_name)


def _own_mounts() -> Iterator[Mount]:
    yield {"destination": "/proc", "type": "proc", "source": "proc"}
    yield _empty("/dev", "755")


def _this_machine() -> Iterator[Mount]:
    yield _empty("/tmp", "1777")
    yield _empty("/run", "755")
    places = dict.fromkeys(("/usr", "/etc", sys.base_prefix, sys.prefix, str(ROOT)))
    wanted = {place: place for place in places if not place.startswith("/usr/")}
    yield from _binds(wanted, "ro")


def _empty(place: str, mode: str) -> Mount:
    options = ["nosuid", f"mode={mode}"]
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}


def _binds(places: Mapping[str, str], *options: str) -> Iterator[Mount]:
    for place, source in places.items():
        asked = ["rbind", *options]
        yield {"destination": place, "type": "bind", "source": source, "options": asked}
