"""Everything at once: every byte read is a byte of exactly the version that was asked for."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import BLOCK_BYTES, PatternCell
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from qarnotfs.errors import Stale, Unavailable
from qarnotfs.store.base import Fetched, Flight, ObjectInfo
from tests.s4_cache.scripted import ScriptedStore, blocks

MIB = 1 << 20
KEYS = 4
OBJECT_BLOCKS = 16.3
READERS = 16
PAGE_BYTES = 4096
READS = 60
CHANGE_READS = 20  # after so many, by anybody, an object is replaced


class ThreadedStore(ScriptedStore):
    """Answers from threads, in any order, and now and then not at all."""

    def __init__(self, threads: ThreadPoolExecutor, rng: random.Random) -> None:
        super().__init__()
        self._threads, self._rng = threads, rng

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        flight = Flight[Fetched]()
        self._threads.submit(self._later, flight, key, start, size, etag)
        return flight

    def _later(
        self, flight: Flight[Fetched], key: str, start: int, size: int, etag: str | None
    ) -> None:
        if self._rng.random() < 0.02:
            flight.set_exception(Unavailable("reset"))
        else:
            self.answer(flight, key, start, size, etag)


class World:
    """A bucket that changes while it is read, and everything it ever held."""

    def __init__(self, store: ThreadedStore, rng: random.Random) -> None:
        self.store, self._rng = store, rng
        self.versions: dict[str, bytes] = {}  # etag -> bytes
        self.current: dict[str, ObjectInfo] = {}
        self.stale = self.right = self.seed = 0
        self.over = False
        for number in range(KEYS):
            self.replace(f"key{number}")

    def replace(self, key: str) -> None:
        body = blocks(OBJECT_BLOCKS, self.seed)
        self.seed += 1
        self.current[key] = self.store.add(key, body)
        self.versions[self.current[key].etag] = body

    async def read(self, reader: Reader, rng: random.Random) -> None:
        """Open, read a number of times, open again: some in order, some anywhere."""
        for _ in range(READS // 10):
            info, cell, at = self.current[f"key{rng.randrange(KEYS)}"], PatternCell(), 0
            sequential = rng.random() < 0.5
            for _ in range(10):
                size = rng.choice([1, 4096, 128 << 10, MIB])
                at = at if sequential else rng.randrange(info.size)
                await self._compare(reader, info, at, size, cell)
                at += size

    async def _compare(
        self, reader: Reader, info: ObjectInfo, at: int, size: int, cell: PatternCell
    ) -> None:
        try:
            found = await reader.read(info, at, size, cell)
        except Stale:
            assert self.current[info.key] != info
            self.stale += 1
        else:
            assert found == self.versions[info.etag][at : at + size]
            self.right += 1
        if (self.right + self.stale) % CHANGE_READS == 0:
            self.replace(f"key{self._rng.randrange(KEYS)}")


async def damage(world: World, directory: Path, rng: random.Random) -> None:
    """A disk that forgets what it was told. Only what it keeps: damage takes no room."""
    while not world.over:
        await trio.sleep(0.02)
        for path in directory.rglob("*.data"):
            page = rng.randrange(int(OBJECT_BLOCKS * BLOCK_BYTES)) & -PAGE_BYTES
            with suppress(OSError), path.open("r+b") as file:  # it is gone, or has nothing there
                os.pwrite(file.fileno(), b"damage", os.lseek(file.fileno(), page, os.SEEK_DATA))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("cache_bytes_max", [0, int(KEYS * OBJECT_BLOCKS * BLOCK_BYTES / 2)])
def test_many_readers_of_a_changing_bucket_over_a_small_bad_disk(
    threads: ThreadPoolExecutor, tmp_path: Path, cache_bytes_max: int
) -> None:
    rng = random.Random(1)
    world = World(ThreadedStore(threads, rng), rng)
    # Two mounts on one directory, and on one bucket.
    readers = [Reader(world.store, Bridge(), Disk(tmp_path, cache_bytes_max)) for _ in range(2)]

    async def main() -> None:
        async with trio.open_nursery() as around:
            for reader in readers:
                await around.start(reader.run)
            around.start_soon(damage, world, tmp_path, rng)
            async with trio.open_nursery() as nursery:
                for number in range(READERS):
                    nursery.start_soon(world.read, readers[number % 2], random.Random(number))
            world.over = True
            around.cancel_scope.cancel()

    async def bounded() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(bounded)
    assert world.right > 100
    assert world.stale > 0
    taken = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*.data"))
    # Each may be mistaken about the other by an eighth of the limit.
    assert taken <= cache_bytes_max * 1.25
