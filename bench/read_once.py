"""Read from a directory once, and say in JSON how long it took. Run by `bench.reading`.

    python -m bench.read_once sequential FILE..      # all at once, a thread each, 1 MiB a read
    python -m bench.read_once random FILE COUNT      # 4 KiB each, one after the other
    python -m bench.read_once first FILE..           # open and one byte: the median of the files
    python -m bench.read_once tree DIRECTORY         # list, then open and read one by one
    python -m bench.read_once ls|find DIRECTORY      # the programs: ls -l, find
    python -m bench.read_once nothing                # so that all it needs is in memory

``seen`` counts the bytes, files or names, to compare with what there is. Starting Python is
before the clock starts.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

READ_BYTES = 1 << 20
BLOCK_BYTES = 4 << 10
ENDING = b".bin\n"  # of every line that names a file


def sequential(*paths: str) -> tuple[float, int]:
    """To the end of each, at the same time."""
    with ThreadPoolExecutor(len(paths)) as readers:
        list(readers.map(_nap, paths))  # threads are there
        begun = time.monotonic()
        seen = sum(readers.map(_read_all, paths))
        return time.monotonic() - begun, seen


def _nap(_: str) -> None:
    time.sleep(0.01)  # so that each reader gets a thread of its own before the clock starts


def _read_all(path: str) -> int:
    buffer, seen = bytearray(READ_BYTES), 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while count := os.readv(descriptor, [buffer]):
            seen += count
    finally:
        os.close(descriptor)
    return seen


def random_reads(path: str, count: str) -> tuple[float, int]:
    dice, seen = random.Random(int(count)), 0
    begun = time.monotonic()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        blocks = os.fstat(descriptor).st_size // BLOCK_BYTES
        for _ in range(int(count)):
            seen += len(os.pread(descriptor, BLOCK_BYTES, dice.randrange(blocks) * BLOCK_BYTES))
    finally:
        os.close(descriptor)
    return time.monotonic() - begun, seen


def first(*paths: str) -> tuple[float, int]:
    taken, seen = [], 0
    for path in paths:
        begun = time.monotonic()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            seen += len(os.read(descriptor, 1))
            taken.append(time.monotonic() - begun)
        finally:
            os.close(descriptor)
    return median(taken), seen


def tree(top: str) -> tuple[float, int]:
    begun, seen = time.monotonic(), 0
    for directory, below, names in os.walk(top):
        below.sort()
        for name in sorted(names):
            seen += _read_all(os.path.join(directory, name))
    return time.monotonic() - begun, seen


def ls(top: str) -> tuple[float, int]:
    return _program("ls", "-l", top)


def find(top: str) -> tuple[float, int]:
    return _program("find", top)


def _program(*command: str) -> tuple[float, int]:
    """Run it to its end; how many files it has named."""
    environ = os.environ | {"LC_ALL": "C"}
    with tempfile.TemporaryFile() as out:
        begun = time.monotonic()
        subprocess.run(command, stdout=out, env=environ, check=True)
        wall_sec = time.monotonic() - begun
        out.seek(0)
        return wall_sec, sum(line.endswith(ENDING) for line in out)


def nothing() -> tuple[float, int]:
    here = str(Path(__file__).parent)
    return max(ls(here), find(here), tree(here))[0], 0


DOINGS: dict[str, Callable[..., tuple[float, int]]] = {
    "sequential": sequential,
    "random": random_reads,
    "first": first,
    "tree": tree,
    "ls": ls,
    "find": find,
    "nothing": nothing,
}


def main() -> None:
    wall_sec, seen = DOINGS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"wall_sec": wall_sec, "seen": seen}))


if __name__ == "__main__":
    main()
