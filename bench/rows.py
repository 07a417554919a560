"""What a row of the benchmark is: what is done, to what, and what the bucket shows then.

A scenario begins with a new client and an empty cache; its steps are the rows of the page.
`bench.reading_rows` and `bench.writing_rows` have them all, `bench.data` makes their files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

READERS = 4
SMALL_BYTES = 4 << 10
DIRECTORY_FILES = 100  # in each directory of the trees
NARROW_FILES = 10  # of the narrow one
NEW = "new"  # whatever is written has a key that begins so

MNT, DATA = "{mnt}/", "{data}/"  # in a step's arguments: the mountpoint, the files on this disk
USED = re.compile(r"\{(mnt|data)\}/([^/]+)")


class Sizes(NamedTuple):
    """How much of everything."""

    file_mib: tuple[int, ...]
    change_mib: int
    small_files: int
    source_files: int
    renamed_files: int
    random_reads: int
    keys: tuple[int, ...]


class Effect(NamedTuple):
    """What the bucket shows when a step is durable.

    ``written``: keys or the beginnings of keys, each with the path below the data directory
    that has the same bytes. ``gone``: nothing begins so. ``replaces``: the keys are there
    before, with the same sizes. ``loose``: parts of keys whose bytes are the writer's own.
    """

    written: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    replaces: bool = False
    loose: tuple[str, ...] = ()


class Step(NamedTuple):
    """One row: what `bench.do_once` does, and how much it must then have seen.

    ``family``: the row's name without sizes; ``amount``: its size, in MiB, files or keys.
    ``remount``: by a new client, on the cache there is; ``elsewhere``: on an empty one.
    ``lasting``: it goes on until its effect is in the bucket, and says seconds of its own.
    """

    row: str
    family: str
    amount: int
    doing: str
    args: tuple[str, ...]
    expected: int = 0
    effect: Effect | None = None
    remount: bool = False
    elsewhere: bool = False
    lasting: bool = False

    def words(self, mountpoint: Path, data: Path) -> list[str]:
        places = {"mnt": str(mountpoint), "data": str(data)}
        return [self.doing, *(arg.format(**places) for arg in self.args)]


class Scenario(NamedTuple):
    """Steps of one client, one after the other.

    ``limits``: which of the limits do them, too. ``before``: directories of the bucket, and
    under which name a copy of each is there when it begins.
    """

    name: str
    steps: tuple[Step, ...]
    limits: tuple[str, ...] = ()
    before: tuple[tuple[str, str], ...] = ()


def in_bucket(chosen: Iterable[Scenario]) -> set[str]:
    """The directories that are in the bucket before anything begins."""
    used = {name for place, name in _used(chosen) if place == "mnt"}
    copied = {source.split("/")[0] for each in chosen for source, _ in each.before}
    return {name for name in used if not name.startswith(NEW)} | copied


def on_disk(chosen: Iterable[Scenario]) -> set[str]:
    """The directories that are written from, or compared with."""
    chosen = list(chosen)
    effects = [step.effect for each in chosen for step in each.steps if step.effect]
    compared = {path.split("/")[0] for effect in effects for _, path in effect.written}
    return {name for place, name in _used(chosen) if place == "data"} | compared


def _used(chosen: Iterable[Scenario]) -> set[tuple[str, str]]:
    args = (arg for each in chosen for step in each.steps for arg in step.args)
    return {found for arg in args for found in USED.findall(arg)}
