"""What `bench.reading` reads: the files and keys there are, and what is done with them.

A scenario begins with a new client and an empty cache; its steps are the rows of the page.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BIG, SMALL, DEEP = "big", "small", "deep"
READERS = 4
SMALL_BYTES = 4 << 10
DIRECTORY_FILES = 100  # in each directory of the trees
DEEP_KEYS_MAX = 50_000  # storing more of them a second time takes minutes
READ_BYTES = 4 << 10


class Sizes(NamedTuple):
    """How much of everything."""

    file_mib: int
    small_files: int
    random_reads: int
    keys: tuple[int, ...]


class Step(NamedTuple):
    """One row: what `bench.read_once` does, and how much it must then have seen.

    ``paths`` begin at the mountpoint. ``remount``: by a new client, on the cache there is.
    """

    row: str
    doing: str
    paths: tuple[str, ...]
    expected: int
    more: tuple[str, ...] = ()
    remount: bool = False

    def words(self, mountpoint: Path) -> list[str]:
        return [self.doing, *(str(mountpoint / path) for path in self.paths), *self.more]


class Scenario(NamedTuple):
    """Steps of one client, one after the other; ``bare``: of the pass-through, too."""

    name: str
    steps: tuple[Step, ...]
    bare: bool = False


def scenarios(sizes: Sizes) -> Iterator[Scenario]:
    """All there are, in the order of the page."""
    yield Scenario("sequential", tuple(_sequential(sizes)), bare=True)
    yield Scenario("readers", tuple(_readers(sizes)))
    yield Scenario("random", (_random(sizes),))
    yield Scenario("first", (_first(),))
    yield Scenario("small", tuple(_small(sizes)))
    for count in sizes.keys:
        for doing, program in (("ls", "ls -l"), ("find", "find")):
            row = f"`{program}` of {count} keys"
            yield Scenario(doing, tuple(_listing(row, doing, flat(count), count)))
        if count <= DEEP_KEYS_MAX:
            row = f"`find` of {count} keys in directories of {DIRECTORY_FILES}"
            yield Scenario("find", tuple(_listing(row, "find", deep(count), count)))


def remount_row(sizes: Sizes) -> str:
    """The row with a goal of its own."""
    return f"{sizes.file_mib} MiB after a remount"


def _sequential(sizes: Sizes) -> Iterator[Step]:
    one, size = (big(0),), sizes.file_mib << 20
    yield Step(f"{sizes.file_mib} MiB, cold", "sequential", one, size)
    yield Step(f"{sizes.file_mib} MiB, again", "sequential", one, size)
    yield Step(remount_row(sizes), "sequential", one, size, remount=True)


def _readers(sizes: Sizes) -> Iterator[Step]:
    files, size = tuple(map(big, range(READERS))), READERS * (sizes.file_mib << 20)
    row = f"{READERS} x {sizes.file_mib} MiB at once"
    yield Step(f"{row}, cold", "sequential", files, size)
    yield Step(f"{row}, again", "sequential", files, size)


def _random(sizes: Sizes) -> Step:
    count = sizes.random_reads
    row = f"{count} random reads of 4 KiB in {sizes.file_mib} MiB, cold"
    return Step(row, "random", (big(0),), count * READ_BYTES, (str(count),))


def _first() -> Step:
    files = tuple(map(big, range(READERS)))
    return Step("first byte of a file, cold", "first", files, len(files))


def _small(sizes: Sizes) -> Iterator[Step]:
    row = f"{sizes.small_files} files of 4 KiB"
    seen = sizes.small_files * SMALL_BYTES
    yield Step(f"{row}, cold", "tree", (SMALL,), seen)
    yield Step(f"{row}, again", "tree", (SMALL,), seen)
    yield Step(f"{row}, after a remount", "tree", (SMALL,), seen, remount=True)


def _listing(row: str, doing: str, path: str, count: int) -> Iterator[Step]:
    yield Step(f"{row}, cold", doing, (path,), count)
    yield Step(f"{row}, again", doing, (path,), count)


# --- the files --------------------------------------------------------------------------------


def big(number: int) -> str:
    return f"{BIG}/{number}.bin"


def flat(count: int) -> str:
    return f"flat-{count}"


def deep(count: int) -> str:
    return f"{DEEP}-{count}"


def needed(chosen: list[Scenario]) -> set[str]:
    """The directories that are read."""
    return {
        path.split("/")[0] for scenario in chosen for step in scenario.steps for path in step.paths
    }


def make(top: Path, directory: str, sizes: Sizes) -> None:
    """One of those directories, below ``top``."""
    if directory == BIG:
        _make_big(top, sizes.file_mib << 20)
    elif directory == SMALL:
        _make_tree(top / SMALL, sizes.small_files, SMALL_BYTES)
    elif directory.startswith(DEEP):
        _make_tree(top / directory, int(directory.rpartition("-")[2]), 0)
    else:
        (top / directory).mkdir(parents=True)
        for number in range(int(directory.rpartition("-")[2])):
            (top / directory / f"{number:07}.bin").touch()


def _make_big(top: Path, size: int) -> None:
    dice = random.Random(1)
    for number in range(READERS):
        path = top / big(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for at in range(0, size, 1 << 20):
                file.write(dice.randbytes(min(1 << 20, size - at)))


def _make_tree(top: Path, count: int, size: int) -> None:
    dice = random.Random(2)
    for number in range(count):
        path = top / f"{number // DIRECTORY_FILES:04}" / f"{number:07}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(size))
