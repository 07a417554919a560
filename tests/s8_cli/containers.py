"""Containers for tests: an OCI runtime on the programs of this machine, read-only, and no others.

``runc`` is what Docker and containerd run. Its root file system is a directory with this
machine's /usr and /etc in it, so that nothing has to be built or fetched.
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
from typing import Any

from tests.s5_mount.mounting import run

ROOT = Path(__file__).parents[2]
NOBODY = 65534
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
CAPABILITY_SETS = ("bounding", "effective", "permitted")
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
    ) -> None:
        self.name = f"qarnotfs-{folder.parent.name}-{folder.name}"[-100:]
        self.folder = folder
        root = folder / "rootfs"
        root.mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (root / link).symlink_to(f"usr/{link}")
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid},
                "args": list(argv),
                "env": [f"{name}={value}" for name, value in environment.items()],
                "cwd": "/",
                "capabilities": {kind: list(capabilities) for kind in CAPABILITY_SETS},
            },
            "root": {"path": "rootfs"},
            "mounts": list(_mounts()),
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


def _mounts() -> Iterator[dict[str, Any]]:
    yield {"destination": "/proc", "type": "proc", "source": "proc"}
    for place, mode in (("/dev", "755"), ("/tmp", "1777"), ("/run", "755")):
        options = ["nosuid", f"mode={mode}"]
        yield {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}
    for place in dict.fromkeys(("/usr", "/etc", sys.base_prefix, sys.prefix, str(ROOT))):
        if not place.startswith("/usr/"):
            options = ["rbind", "ro"]
            yield {"destination": place, "type": "bind", "source": place, "options": options}
