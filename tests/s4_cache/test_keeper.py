"""`cache.keeper`: small pieces are stored together, and all of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.keeper import LARGE_AT_ONCE, TOGETHER_BYTES_MAX, Keeper
from qarnotfs.store.base import ObjectInfo
from tests.s4_cache.loops import MIB, run, until
from tests.s4_cache.scripted import noise
from tests.s4_cache.shelf import version


class SlowDisk(Disk):
    """Stores nothing before it is let go, and remembers in which thread it did."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 100 * MIB)
        self.gate, self.threads = threading.Event(), list[tuple[str, int]]()
        self.defect_at = ""

    def store(self, info: ObjectInfo, start: int, data: bytes) -> None:
        self.threads.append((info.key, threading.get_ident()))
        assert self.gate.wait(10)
        if info.key == self.defect_at:
            raise RuntimeError("a defect")
        super().store(info, start, data)


@pytest.fixture
def slow(tmp_path: Path) -> SlowDisk:
    return SlowDisk(tmp_path)


def pieces(count: int, size: int) -> list[tuple[ObjectInfo, bytes]]:
    bodies = [noise(size, number) for number in range(count)]
    return [(version(body, f"key{number}"), body) for number, body in enumerate(bodies)]


def test_pieces_that_come_meanwhile_are_stored_by_one_thread(slow: SlowDisk) -> None:
    keeper, some = Keeper(Bridge(), slow), pieces(20, 4096)
    kept: list[str] = []

    async def keep(info: ObjectInfo, body: bytes) -> None:
        await keeper.keep(info, 0, body)
        assert slow.read(info, 0, info.size) == body  # when it returns, not later
        kept.append(info.key)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, *some[0])
            await until(lambda: len(slow.threads) == 1)
            for each in some[1:]:
                nursery.start_soon(keep, *each)
            await until(lambda: len(keeper._gathering) == 19)
            assert not kept
            slow.gate.set()

    run(main)
    assert sorted(kept) == sorted(info.key for info, _ in some)
    assert len({thread for _, thread in slow.threads[1:]}) == 1
    assert len(slow.threads) == 20


def test_a_large_piece_waits_for_nobody(slow: SlowDisk) -> None:
    keeper = Keeper(Bridge(), slow)
    (small,), (large,) = pieces(1, 4096), pieces(1, TOGETHER_BYTES_MAX + 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for info, body in (small, large):
                nursery.start_soon(keeper.keep, info, 0, body)
            await until(lambda: len(slow.threads) == 2)
            slow.gate.set()

    run(main)


def test_large_pieces_leave_threads_to_others(slow: SlowDisk) -> None:
    keeper, some = Keeper(Bridge(), slow), pieces(50, TOGETHER_BYTES_MAX + 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for info, body in some:
                nursery.start_soon(keeper.keep, info, 0, body)
            await until(lambda: len(slow.threads) == LARGE_AT_ONCE)
            assert await Bridge().work(lambda: "done") == "done"
            assert len(slow.threads) == LARGE_AT_ONCE
            slow.gate.set()

    run(main)
    assert len(slow.threads) == 50


def test_one_that_cannot_be_stored_harms_no_other(slow: SlowDisk) -> None:
    keeper, some = Keeper(Bridge(), slow), pieces(5, 4096)
    slow.defect_at = "key2"

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.keep, some[0][0], 0, some[0][1])
            await until(lambda: len(slow.threads) == 1)
            for info, body in some[1:]:
                nursery.start_soon(keeper.keep, info, 0, body)
            await until(lambda: len(keeper._gathering) == 4)
            slow.gate.set()

    run(main)
    for info, body in some:
        assert slow.read(info, 0, info.size) == (None if info.key == "key2" else body)


def test_who_gives_up_takes_no_other_with_it(slow: SlowDisk) -> None:
    """Its own piece may be stored or not; those it was to store with it are."""
    keeper, some = Keeper(Bridge(), slow), pieces(6, 4096)
    kept: list[str] = []

    async def keep(info: ObjectInfo, body: bytes, scope: trio.CancelScope) -> None:
        with scope:
            await keeper.keep(info, 0, body)
            assert slow.read(info, 0, info.size) == body
            kept.append(info.key)

    async def main() -> None:
        scopes = [trio.CancelScope() for _ in some]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, *some[0], scopes[0])
            await until(lambda: len(slow.threads) == 1)
            for each, scope in zip(some[1:], scopes[1:], strict=True):
                nursery.start_soon(keep, *each, scope)
            await until(lambda: len(keeper._gathering) == 5)
            leads = some.index(next(each for each in some if each[0] == keeper._gathering[0][0]))
            scopes[leads].cancel()
            slow.gate.set()

    run(main)
    assert len(kept) >= 5
