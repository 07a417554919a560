"""The rows that only read: large files, small ones, listings."""

from __future__ import annotations

from collections.abc import Iterator

from bench import data
from bench.peers import AWSCRT, DISK, PASSTHROUGH
from bench.rows import (
    DIRECTORY_FILES,
    MNT,
    NARROW_FILES,
    READERS,
    SMALL_BYTES,
    Scenario,
    Sizes,
    Step,
)

DEEP_KEYS_MAX = 50_000  # storing more of them a second time takes minutes
READ_BYTES = 4 << 10
LISTINGS = {"ls": "ls", "ls-l": "ls -l", "find": "find"}


def scenarios(sizes: Sizes) -> Iterator[Scenario]:
    """All there are, in the order of the page."""
    limits = (PASSTHROUGH, DISK, AWSCRT)
    for mib in sizes.file_mib:
        yield Scenario("read", tuple(_sequential(mib)), limits)
    yield Scenario("read4", tuple(_readers(sizes)), limits)
    yield Scenario("random", (_random(sizes),), (DISK, AWSCRT))
    yield Scenario("first", (_first(sizes),), (DISK,))
    yield Scenario("small", tuple(_small(sizes)), (DISK, AWSCRT))
    yield Scenario("narrow", tuple(_narrow(sizes)), (DISK,))
    for count in sizes.keys:
        for doing, program in LISTINGS.items():
            row = f"`{program}` of {count} keys"
            yield Scenario(doing, tuple(_listing(row, doing, data.flat(count), count)), limits)
        if count <= DEEP_KEYS_MAX:
            row = f"`find` of {count} keys in directories of {DIRECTORY_FILES}"
            steps = _listing(row, "find", data.deep(count), count, "s")
            yield Scenario("find", tuple(steps), limits)


def _sequential(mib: int) -> Iterator[Step]:
    args, size = (MNT + data.big(mib),), mib << 20
    yield Step(f"read {mib} MiB, cold", "read cold", mib, "read", args, size)
    yield Step(f"read {mib} MiB, again", "read again", mib, "read", args, size)
    row = f"read {mib} MiB, after a remount"
    yield Step(row, "read remounted", mib, "read", args, size, remount=True)


def _readers(sizes: Sizes) -> Iterator[Step]:
    mib = data.part_mib(sizes)
    args = tuple(MNT + data.part(mib, number) for number in range(READERS))
    size, row = READERS * (mib << 20), f"read {READERS} x {mib} MiB at once"
    yield Step(f"{row}, cold", "read 4 cold", mib, "read", args, size)
    yield Step(f"{row}, again", "read 4 again", mib, "read", args, size)


def _random(sizes: Sizes) -> Step:
    count, mib = sizes.random_reads, sizes.file_mib[0]
    row = f"{count} random reads of 4 KiB in {mib} MiB, cold"
    args = MNT + data.big(mib), str(count)
    return Step(row, "random cold", count, "random", args, count * READ_BYTES)


def _first(sizes: Sizes) -> Step:
    mib = data.part_mib(sizes)
    files = tuple(MNT + data.part(mib, number) for number in range(READERS))
    return Step("first byte of a file, cold", "first byte", mib, "first", files, len(files))


def _small(sizes: Sizes) -> Iterator[Step]:
    count, args = sizes.small_files, (MNT + data.SMALL,)
    row, seen = f"read {count} files of 4 KiB", count * SMALL_BYTES
    yield Step(f"{row}, cold", "small cold", count, "tree", args, seen)
    yield Step(f"{row}, again", "small again", count, "tree", args, seen)
    row = f"{row}, after a remount"
    yield Step(row, "small remounted", count, "tree", args, seen, remount=True)


def _narrow(sizes: Sizes) -> Iterator[Step]:
    """As programs' sources are stored: most of the way is from one directory to the next."""
    count, args = sizes.small_files, (MNT + data.narrow(sizes.small_files),)
    row, seen = f"{count} files in directories of {NARROW_FILES}", count * SMALL_BYTES
    yield Step(f"{row}: read, cold", "small cold", count, "tree", args, seen)
    yield Step(f"{row}: `ls -lR`, cold", "ls -lR cold", count, "ls-lR", args, count, elsewhere=True)


def _listing(row: str, doing: str, path: str, count: int, more: str = "") -> Iterator[Step]:
    family, args = LISTINGS[doing] + more, (MNT + path,)
    yield Step(f"{row}, cold", f"{family} cold", count, doing, args, count)
    yield Step(f"{row}, again", f"{family} again", count, doing, args, count)
