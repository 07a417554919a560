"""The files that the benchmark reads and writes, made on this disk: always the same ones."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.rows import DIRECTORY_FILES, NARROW_FILES, NEW, READERS, SMALL_BYTES, Sizes

SMALL, SOURCE, REPOSITORY, CLONE, ARCHIVE = "small", "source", "repository", "clone", "source.tar"
BIG, PARTS, BASE, CHANGED, RENAMED = "big-", "parts-", "base-", "changed-", "renamed-"
FLAT, DEEP, NARROW = "flat-", "deep-", "narrow-"
CHANGE_BYTES = 4 << 10
SOURCE_BYTES_MAX = 64 << 10


def big(mib: int) -> str:
    return f"{BIG}{mib}/0.bin"


def part(mib: int, number: int) -> str:
    return f"{PARTS}{mib}/{number}.bin"


def part_mib(sizes: Sizes) -> int:
    """Together they are as large as the one that is read alone."""
    return max(1, sizes.file_mib[0] // READERS)


def base(mib: int) -> str:
    return f"{BASE}{mib}/0.bin"


def changed(mib: int) -> str:
    return f"{CHANGED}{mib}/0.bin"


def renamed(count: int) -> str:
    return f"{RENAMED}{count}"


def flat(count: int) -> str:
    return f"{FLAT}{count}"


def deep(count: int) -> str:
    return f"{DEEP}{count}"


def narrow(count: int) -> str:
    return f"{NARROW}{count}"


def small(number: int) -> str:
    """The path of one of the small files, in a tree of them."""
    return f"{number // DIRECTORY_FILES:04}/{number:07}.bin"


def nested(number: int) -> str:
    """The path of one in a tree like those of sources: few in each directory, two levels."""
    directory = number // NARROW_FILES
    return f"{directory // NARROW_FILES:04}/{directory:05}/{number:07}.bin"


def change_at(size: int) -> int:
    """Where in a file of ``size`` bytes something is changed."""
    return size // 2


def make(top: Path, name: str, sizes: Sizes) -> None:
    """One of those files or directories, below ``top``, unless it is there."""
    if (top / name).exists():
        return
    kind, dash, amount = name.rpartition("-")
    if dash:
        _sized(top / name, kind + dash, int(amount))
    elif name == SMALL:
        _tree(top / name, sizes.small_files, SMALL_BYTES)
    elif name == SOURCE:
        _source(top / name, sizes.source_files)
    else:
        make(top, SOURCE if name in {ARCHIVE, REPOSITORY} else REPOSITORY, sizes)
        {ARCHIVE: _archive, REPOSITORY: _repository, CLONE: _clone}[name](top)


def _sized(path: Path, kind: str, amount: int) -> None:
    if kind == PARTS:
        for number in range(READERS):
            _file(path / f"{number}.bin", amount << 20, number)
    elif kind == DEEP:
        _tree(path, amount, 0)
    elif kind == NARROW:
        _tree(path, amount, SMALL_BYTES, nested)
    elif kind in (FLAT, RENAMED):
        path.mkdir()
        for number in range(amount):
            (path / f"{number:07}.bin").write_bytes(b"x" * SMALL_BYTES * (kind == RENAMED))
    else:
        _file(path / "0.bin", amount << 20, 0)
        if kind == CHANGED:
            _change(path / "0.bin")


def _file(path: Path, size: int, seed: int) -> None:
    dice = random.Random(seed)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for at in range(0, size, 1 << 20):
            file.write(dice.randbytes(min(1 << 20, size - at)))


def _change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(change_at(path.stat().st_size))
        file.write(random.Random("changed").randbytes(CHANGE_BYTES))


def _tree(top: Path, count: int, size: int, named: Callable[[int], str] = small) -> None:
    dice = random.Random(2)
    for number in range(count):
        path = top / named(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(size))


def _source(top: Path, count: int) -> None:
    """As programs' sources are: most files are small, a few are not."""
    dice = random.Random(3)
    for number in range(count):
        path = top / f"{number // 25:03}" / f"{number:05}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = min(SOURCE_BYTES_MAX, int(dice.lognormvariate(8, 1)))
        path.write_text(dice.randbytes(size // 2).hex() + "\n")


def _repository(top: Path) -> None:
    """One commit of everything, in a pack."""
    work, store = ["git", "-C", str(top / SOURCE)], str(top / REPOSITORY)
    named = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    _run("git", "init", "-q", "--separate-git-dir", store, str(top / SOURCE))
    _run(*work, "add", ".")
    _run(*work, *named, "commit", "-qm", "everything")
    _run(*work, "gc", "-q")
    _run(*work, "config", "core.bare", "true")
    (top / SOURCE / ".git").unlink()


def _archive(top: Path) -> None:
    """Of the sources, in a directory of another name."""
    named = f"--transform=s,^{SOURCE},{NEW},"
    _run("tar", "-C", str(top), named, "-cf", str(top / ARCHIVE), SOURCE)


def _clone(top: Path) -> None:
    _run("git", "clone", "-q", str(top / REPOSITORY), str(top / CLONE))


def _run(*command: str) -> None:
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(command, env=environ, check=True)
