"""Do one thing with a directory once, and say in JSON what it took. Run by `bench.run`.

    python -m bench.do_once read FILE..              # all at once, a thread each, 1 MiB a read
    python -m bench.do_once random FILE COUNT        # 4 KiB each, one after the other
    python -m bench.do_once first FILE..             # open and one byte: the median of the files
    python -m bench.do_once tree DIRECTORY           # list, then open and read one by one
    python -m bench.do_once ls|ls-l|ls-lR|find DIRECTORY
    python -m bench.do_once write FROM TO ..         # all at once, a thread each, 1 MiB a write
    python -m bench.do_once change FROM TO           # 4 KiB in the middle, that are other in FROM
    python -m bench.do_once mixed FROM TO DIRECTORY  # write and tree at once
    python -m bench.do_once stat FROM TO FILE        # write; the p99 of stat until stdin ends
    python -m bench.do_once cp|rsync|mv|clone|untar FROM TO, rm DIRECTORY
    python -m bench.do_once nothing                  # so that all it needs is in memory

``seen`` counts the bytes, files or names, to compare with what there is. Starting Python is
before the clock starts; ``begun_sec`` is of the clock that all processes share.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from bench.data import CHANGE_BYTES, change_at

MOVE_BYTES = 1 << 20
BLOCK_BYTES = 4 << 10
ENDING = b".bin\n"  # of every line that names a file
PROGRAMS = {
    "cp": ("cp", "-r"),
    "rsync": ("rsync", "-a"),
    "rm": ("rm", "-rf"),
    "mv": ("mv",),
    "clone": ("git", "clone", "-q"),
    "untar": ("tar", "--no-same-owner", "-xf"),
}
LISTINGS = {"ls": ("ls",), "ls-l": ("ls", "-l"), "ls-lR": ("ls", "-lR"), "find": ("find",)}
STAT_PAUSE_SEC = 0.005
# statx(2): ask the file system, whatever the kernel believes; as os.statx does from 3.15 on.
AT_FDCWD, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, STATX_BYTES = -100, 0x2000, 0x7FF, 256


class Took(NamedTuple):
    """When it began, how long it took, and what it came to."""

    begun_sec: float
    wall_sec: float
    seen: int = 0


def since(begun_sec: float, seen: int = 0) -> Took:
    return Took(begun_sec, time.monotonic() - begun_sec, seen)


# --- reading ----------------------------------------------------------------------------------


def read(*paths: str) -> Took:
    """To the end of each, at the same time."""
    return _at_once([partial(_read_all, path) for path in paths])


def _at_once(jobs: list[Callable[[], int]]) -> Took:
    with ThreadPoolExecutor(len(jobs)) as workers:
        list(workers.map(_nap, jobs))  # threads are there
        begun = time.monotonic()
        seen = sum(workers.map(lambda job: job(), jobs))
        return since(begun, seen)


def _nap(_: object) -> None:
    time.sleep(0.01)  # so that each job gets a thread of its own before the clock starts


def _read_all(path: str) -> int:
    buffer, seen = bytearray(MOVE_BYTES), 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while count := os.readv(descriptor, [buffer]):
            seen += count
    finally:
        os.close(descriptor)
    return seen


def random_reads(path: str, count: str) -> Took:
    dice, seen = random.Random(int(count)), 0
    begun = time.monotonic()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        blocks = os.fstat(descriptor).st_size // BLOCK_BYTES
        for _ in range(int(count)):
            seen += len(os.pread(descriptor, BLOCK_BYTES, dice.randrange(blocks) * BLOCK_BYTES))
    finally:
        os.close(descriptor)
    return since(begun, seen)


def first(*paths: str) -> Took:
    taken, seen, begun_all = [], 0, time.monotonic()
    for path in paths:
        begun = time.monotonic()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            seen += len(os.read(descriptor, 1))
            taken.append(time.monotonic() - begun)
        finally:
            os.close(descriptor)
    return Took(begun_all, median(taken), seen)


def tree(top: str) -> Took:
    begun = time.monotonic()
    return since(begun, _read_tree(top))


def _read_tree(top: str) -> int:
    seen = 0
    for directory, below, names in os.walk(top):
        below.sort()
        for name in sorted(names):
            seen += _read_all(os.path.join(directory, name))
    return seen


# --- writing ----------------------------------------------------------------------------------


def write(*pairs: str) -> Took:
    sources, targets = pairs[::2], pairs[1::2]
    both = zip(sources, targets, strict=True)
    return _at_once([partial(_copy, *pair) for pair in both])


def _copy(source: str, target: str) -> int:
    seen = 0
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
        while block := reader.read(MOVE_BYTES):
            seen += writer.write(block)
    return seen


def change(source: str, target: str) -> Took:
    size = os.stat(source).st_size
    with open(source, "rb") as reader:
        reader.seek(change_at(size))
        block = reader.read(CHANGE_BYTES)
    begun = time.monotonic()
    descriptor = os.open(target, os.O_RDWR)
    try:
        seen = os.pwrite(descriptor, block, change_at(size))
    finally:
        os.close(descriptor)
    return since(begun, seen)


def mixed(source: str, target: str, top: str) -> Took:
    return _at_once([partial(_copy, source, target), partial(_read_tree, top)])


def stat(source: str, target: str, probed: str) -> Took:
    """Seconds within which 99 of 100 were answered, until the other end says that it is over."""
    _ask(probed)
    taken, begun_all = list[float](), time.monotonic()
    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(_copy, source, target)
        while len(taken) < 2 or not select.select([sys.stdin], [], [], STAT_PAUSE_SEC)[0]:
            begun = time.monotonic()
            _ask(probed)
            taken.append(time.monotonic() - begun)
        return Took(begun_all, quantiles(taken, n=100)[98], writing.result())


def _ask(path: str) -> None:
    libc, told = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(STATX_BYTES)
    where = AT_FDCWD, os.fsencode(path), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS
    if libc.statx(*where, told):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


# --- programs ---------------------------------------------------------------------------------


def program(name: str, *args: str) -> Took:
    begun = time.monotonic()
    subprocess.run([*PROGRAMS[name], *_in_order(name, args)], check=True)
    return since(begun)


def _in_order(name: str, args: tuple[str, ...]) -> tuple[str, ...]:
    return (args[0], "-C", args[1]) if name == "untar" else args


def listing(name: str, top: str) -> Took:
    """Run it to its end; how many files it has named."""
    environ = os.environ | {"LC_ALL": "C"}
    with tempfile.TemporaryFile() as out:
        begun = time.monotonic()
        subprocess.run([*LISTINGS[name], top], stdout=out, env=environ, check=True)
        took = since(begun)
        out.seek(0)
        return took._replace(seen=sum(line.endswith(ENDING) for line in out))


def nothing() -> Took:
    here = str(Path(__file__).parent)
    for name in LISTINGS:
        listing(name, here)
    for words in PROGRAMS.values():
        subprocess.run([words[0], "--version"], stdout=subprocess.DEVNULL, check=True)
    return tree(here)._replace(seen=0)


DOINGS: dict[str, Callable[..., Took]] = {
    "read": read,
    "random": random_reads,
    "first": first,
    "tree": tree,
    "write": write,
    "change": change,
    "mixed": mixed,
    "stat": stat,
    "nothing": nothing,
}


def do(name: str, *args: str) -> Took:
    if name in LISTINGS:
        return listing(name, *args)
    return program(name, *args) if name in PROGRAMS else DOINGS[name](*args)


def say(took: Took, begun_cpu_sec: float = 0.0) -> None:
    """In one line, with what this process itself has used, from some time on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_sec = used.ru_utime + used.ru_stime - begun_cpu_sec
    cost = {"cpu_sec": cpu_sec, "peak_mib": used.ru_maxrss / 1024}
    print(json.dumps(took._asdict() | cost))


def main() -> None:
    say(do(*sys.argv[1:]))


if __name__ == "__main__":
    main()
