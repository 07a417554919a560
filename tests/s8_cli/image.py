"""What the ``Containerfile`` says, done as a builder of images does it, without an image to pull.

``FROM debian:..`` is a root file system made by mmdebstrap, which is debootstrap in a third of the
time, and each ``RUN`` a container on it. Stages are built at the same time.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.s5_mount.mounting import run
from tests.s8_cli.containers import ROOT, Container, why_no_container

BASE = "debian:bookworm-slim"
BASE_SEC_MAX = 400.0  # some hundred packages come over the network
# What Docker and podman give to root.
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETFCAP"),
    *("CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_NET_BIND_SERVICE"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What Debian's own slim images say to dpkg.
DPKG = (
    "force-unsafe-io",
    *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
)
# Of this machine: how it reaches the network, whom it trusts there, and what pip has fetched and
# compiled for .venv.
CERTIFICATES = "/run/certificates"
OURS = {
    "/etc/resolv.conf": Path("/etc/resolv.conf"),
    CERTIFICATES: Path("/etc/ssl/certs/ca-certificates.crt"),
    "/root/.cache/pip": Path("/root/.cache/pip"),
}


class Image(NamedTuple):
    """A root file system, and what a container of it starts with."""

    root: Path
    entry_point: list[str]
    cwd: str


class Step(NamedTuple):
    """One instruction, its continued lines joined."""

    word: str
    text: str


def why_no_image() -> str:
    """Why none can be built here; empty: it can."""
    if shutil.which("mmdebstrap"):
        return why_no_container()
    return "mmdebstrap is not installed (Debian: mmdebstrap)"


def build(folder: Path) -> Image:
    """Build the Containerfile of this repository below ``folder``."""
    base = folder / "base"
    options = (f"--dpkgopt={option}" for option in DPKG)
    run("mmdebstrap", "--variant=minbase", *options, "bookworm", base, within_sec=BASE_SEC_MAX)
    built: dict[str, Future[Image]] = {}
    with ThreadPoolExecutor() as pool:
        for name, steps in _stages((ROOT / "Containerfile").read_text()):
            built[name] = pool.submit(_build, base, folder / f"stage-{name}", steps, dict(built))
    *others, last = (stage.result() for stage in built.values())
    for path in (base, *(image.root for image in others)):
        shutil.rmtree(path)
    return last


def _stages(text: str) -> Iterator[tuple[str, list[Step]]]:
    """The name of each stage, and what comes behind its ``FROM``."""
    whole = re.sub(r"^#.*\n|\\\n", "", text, flags=re.MULTILINE)
    for number, stage in enumerate(re.split(r"^FROM ", whole, flags=re.MULTILINE)[1:]):
        head, *lines = filter(None, stage.splitlines())
        base, *name = head.split()
        assert base == BASE
        yield name[1] if name else str(number), [Step(*line.split(maxsplit=1)) for line in lines]


def _build(base: Path, root: Path, steps: list[Step], others: Mapping[str, Future[Image]]) -> Image:
    run("cp", "--archive", base, root)
    entry_point, cwd = [], "/"
    for word, text in steps:
        match word:
            case "RUN":
                _run(root, text)
            case "COPY":
                _copy(root, text, others)
            case "WORKDIR":
                cwd = text
            case "ENTRYPOINT":
                entry_point = json.loads(text)
            case _:
                raise AssertionError(f"{word} is more than this builder can do")
    return Image(root, entry_point, cwd)


def _run(root: Path, script: str) -> None:
    container = Container(
        root.parent / uuid.uuid4().hex,
        ["sh", "-c", script],
        {"PATH": PATH, "PIP_CERT": CERTIFICATES},
        fuse=False,
        capabilities=CAPABILITIES,
        root=root,
        volumes={place: ours for place, ours in OURS.items() if ours.exists()},
    )
    with container.running() as process:
        out, err = process.communicate()
    assert process.returncode == 0, f"{script}\n{out[-2000:]}\n{err[-2000:]}"


def _copy(root: Path, text: str, others: Mapping[str, Future[Image]]) -> None:
    """A directory's content, not the directory, is copied."""
    *sources, target = shlex.split(text)
    top = ROOT
    if sources[0].startswith("--from="):
        top = others[sources.pop(0).partition("=")[2]].result().root
    place = root / target.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    for source in sources:
        path = top / source.lstrip("/")
        run("cp", "--archive", f"{path}/." if path.is_dir() else path, place)
