"""What is in a cache directory, looked at file by file.

Used by `disk` before it makes room. Removes what a crash, an older format or a damaged disk
left behind under our names; never touches a file whose name is not one of ours, so a
directory given by mistake loses nothing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from qarnotfs.cache.blockmap import (
    HEADER_BYTES,
    is_attribute,
    is_header,
    read_attribute,
    read_times,
)
from qarnotfs.cache.ledger import Entry

log = logging.getLogger(__name__)

OURS = re.compile(r"(?P<name>[0-9a-f]{40})\.(?P<kind>map|data|[0-9a-f]{32}\.(map|data)\.tmp)")
SHELF = re.compile(r"[0-9a-f]{2}")
GRACE_SEC = 300.0  # a file this young may be half of a pair that is being made
STAT_BLOCK_BYTES = 512  # unit of st_blocks, whatever the file system


def survey(directory: Path, now_sec: float) -> list[Entry]:
    """Every entry of the directory with its bytes on disk and its times. Never raises."""
    found: list[Entry] = []
    for shelf in _scan(directory):
        if SHELF.fullmatch(shelf.name) and shelf.is_dir(follow_symlinks=False):
            files = {file.name: file for file in _scan(shelf.path) if OURS.fullmatch(file.name)}
            found.extend(_entries(files, now_sec))
    return found


def _scan(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _entries(files: dict[str, os.DirEntry[str]], now_sec: float) -> Iterator[Entry]:
    """The entries of one shelf. Halves of pairs are removed, unless they are young."""
    for file_name, file in files.items():
        name, _, kind = file_name.partition(".")
        entry = None
        if kind == "map":
            entry = _pair(name, file, files.get(f"{name}.data"), now_sec)
        elif kind == "data" and f"{name}.map" not in files:
            entry = _small(name, file, now_sec)
        elif kind != "data":
            _sweep(file, now_sec)
        if entry is not None:
            yield entry


def _small(name: str, data: os.DirEntry[str], now_sec: float) -> Entry | None:
    """An entry of one file, whose map is an attribute of it."""
    value = read_attribute(data.path)
    if not is_attribute(value):
        _sweep(data, now_sec)
        return None
    try:
        taken = data.stat().st_blocks
    except OSError:
        return None  # somebody else evicted it just now
    return Entry(name, taken * STAT_BLOCK_BYTES, *read_times(value, now_sec))


def _pair(
    name: str, block_map: os.DirEntry[str], data: os.DirEntry[str] | None, now_sec: float
) -> Entry | None:
    try:
        with open(block_map.path, "rb", buffering=0) as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        header = b""
    if data is None or not header:
        _sweep(block_map, now_sec)
        return None
    if not is_header(header):
        log.warning("%s is removed from the cache: no block map of this format", name)
        for path in (block_map.path, data.path):
            with suppress(OSError):
                os.unlink(path)
        return None
    try:
        taken = block_map.stat().st_blocks + data.stat().st_blocks
    except OSError:
        return None  # somebody else evicted it just now
    return Entry(name, taken * STAT_BLOCK_BYTES, *read_times(header, now_sec))


def _sweep(file: os.DirEntry[str], now_sec: float) -> None:
    """Remove half of a pair, when it is certain that nobody is about to make it whole."""
    with suppress(OSError):
        if now_sec - file.stat(follow_symlinks=False).st_ctime > GRACE_SEC:
            log.warning("%s is removed from the cache: half of a pair", file.path)
            os.unlink(file.path)
