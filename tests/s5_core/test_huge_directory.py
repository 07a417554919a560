"""A directory that no memory should hold: read to its end, and again by the next mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from qarnotfs.core.lookup import GUESSED_MAX
from qarnotfs.index import listing
from qarnotfs.index.listing import OPEN_PAGES, PAGE_NAMES
from qarnotfs.store.base import Flight, ListPage, ObjectInfo
from qarnotfs.store.early import Early
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, entered

COUNT = 200_000
# As objects, 200,000 nodes, versions and inodes take 300 MB. Packed, the names take 15.
GROWTH_BYTES_MAX = 120 << 20


class Endless(MemoryStore):
    """``d/0000000`` and so on, made when they are asked for."""

    def head(self, key: str) -> Flight[ObjectInfo]:
        self.calls.append(("head", key))
        if not key[2:].isdigit():
            return super().head(key)
        return Flight.landed(described(int(key[2:]))._replace(metadata={}))

    def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str | None = None,
        start_after: str | None = None,
        count_max: int = 1000,
        early: Early | None = None,
    ) -> ListPage:
        self.calls.append(("list_page", prefix))
        if not prefix.startswith("d/"):
            return ListPage((), ("d/",), None)
        number = int((start_after or "")[2:].ljust(7, "0"))
        begin = int(after or number + (start_after == name_of(number)))
        end = min(begin + count_max, COUNT)
        objects = tuple(described(number) for number in range(begin, end))
        return ListPage(objects, (), str(end) if end < COUNT else None)


def name_of(number: int) -> str:
    return f"d/{number:07}"


def described(number: int) -> ObjectInfo:
    return ObjectInfo(name_of(number), 0, f"{number:032x}", 1_600_000_000)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """One for each page that is unpacked."""
    found: list[bytes] = []
    unpack = listing._unpacked

    def counted(prefix: str, data: bytes) -> dict[str, ObjectInfo | None]:
        found.append(data)
        return unpack(prefix, data)

    monkeypatch.setattr(listing, "_unpacked", counted)
    return found


def test_it_is_read_page_by_page_in_bounded_memory(tmp_path: Path, unpacked: list[bytes]) -> None:
    store = Endless()

    async def read(world: World) -> int:
        """All of it, as the kernel does; how many names there are."""
        number, count = world.fs.opendir(await world.inode("d")), 0
        while True:
            before = len(unpacked)
            parent, nodes = await world.fs.entries(number, count)
            for node in nodes:
                inode = world.fs.lookup.known(parent, node)
                if inode is None:
                    world.fs.lookup.kind(node)
                else:
                    inode.lookups += 1
            assert len(nodes) <= PAGE_NAMES
            assert len(unpacked) - before <= 3  # in one go: nobody else waits for longer
            if not nodes:
                return count
            count += len(nodes)

    async def main() -> None:
        before = rss()
        async with entered(store, tmp_path, cache_ttl_sec=3600) as world:
            assert await read(world) == COUNT
            assert len(world.fs.lookup.inodes) <= GUESSED_MAX + 100
            known = world.house.index.fresh_listing("d/")
            assert known is not None
            assert sum(len(page.entries) for page in known._pages) <= OPEN_PAGES * PAGE_NAMES
        store.calls.clear()
        async with entered(store, tmp_path, cache_ttl_sec=3600) as world:
            assert await read(world) == COUNT
        assert store.calls == []
        assert rss() - before < GROWTH_BYTES_MAX

    trio.run(main)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
