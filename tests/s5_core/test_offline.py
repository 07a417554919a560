"""A bucket that cannot be reached: with ``--offline-reads`` what was seen goes on being shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.errors import Unavailable
from qarnotfs.session.pace import Pace
from qarnotfs.session.report import report
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, entered, put

ALWAYS_ASK = 0  # a TTL: everything is too old at once
PATIENCE_SEC = 3.0  # less than programs have to wait, but more than they may once it is known


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qarnotfs.index.reach.PATIENCE_SEC", PATIENCE_SEC)


def filled() -> MemoryStore:
    store = MemoryStore()
    put(store, "d/a", b"first", mode="33188")
    put(store, "d/sub/b", b"second")
    put(store, "unseen/c", b"third")
    return store


def silence(store: MemoryStore) -> None:
    store.faults = lambda *_: Unavailable("nobody is there")


async def seen(world: World) -> None:
    assert await world.tree("d") == {"d/a": b"first", "d/sub": None, "d/sub/b": b"second"}


@pytest.mark.decision(3)
@pytest.mark.parametrize("ttl_sec", [ALWAYS_ASK, 60])
def test_what_was_seen_is_shown_while_nobody_answers(
    tmp_path: Path, clock: MockClock, ttl_sec: int
) -> None:
    store = filled()

    async def main() -> None:
        async with entered(
            store, tmp_path, cache_ttl_sec=ttl_sec, offline_reads=True, io_timeout_sec=0.2
        ) as world:
            await seen(world)
            silence(store)
            await seen(world)
            with pytest.raises(Unavailable):
                await world.read("unseen/c")
            since_sec = report(world.house, "serving", 0.0, Pace())["unvalidated_since_sec"]
            assert since_sec is not None
            before_sec = trio.current_time()
            await seen(world)
            assert trio.current_time() == before_sec  # nobody waits for what is known to be silent

    trio.run(main, clock=clock)


def test_what_is_written_meanwhile_arrives_later(tmp_path: Path, clock: MockClock) -> None:
    store = filled()

    async def main() -> None:
        async with entered(
            store, tmp_path, cache_ttl_sec=ALWAYS_ASK, offline_reads=True, io_timeout_sec=0.2
        ) as world:
            await seen(world)
            silence(store)
            await seen(world)
            await world.write("d/a", b"FIRST")
            assert await world.read("d/a") == b"FIRST"
            put_back(store)
            assert await world.drain()
        assert store.get("d/a", 0, 5).result().data == b"FIRST"

    trio.run(main, clock=clock)


def put_back(store: MemoryStore) -> None:
    store.faults = lambda *_: None


def test_back_again_everything_is_validated(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.index.reach.RETRY_SEC", 0.01)
    store = filled()

    async def main() -> None:
        async with entered(
            store, tmp_path, cache_ttl_sec=ALWAYS_ASK, offline_reads=True, io_timeout_sec=0.2
        ) as world:
            await seen(world)
            silence(store)
            await seen(world)
            put_back(store)
            put(store, "d/a", b"newer", mode="33188")
            with trio.fail_after(10):
                while world.house.index.reach.lost:
                    await trio.sleep(0.01)
            assert await world.read("d/a") == b"newer"

    trio.run(main, clock=clock)


@pytest.mark.decision(3)
def test_what_is_not_cached_is_asked_for_in_vain_once(tmp_path: Path, clock: MockClock) -> None:
    """By the read itself: within the TTL nobody else asks the bucket anything."""
    store = filled()
    put(store, "d/large", bytes(8 * BLOCK_BYTES), mode="33188")

    async def main() -> None:
        async with entered(store, tmp_path, offline_reads=True, io_timeout_sec=0.3) as world:
            await seen_sizes(world)
            assert await world.read("d/a") == b"first"
            silence(store)
            with pytest.raises(Unavailable):
                await world.read("d/large")
            assert world.house.index.reach.lost
            store.calls.clear()
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await world.read("d/large")
            assert await world.read("d/a") == b"first"
            assert [key for method, key in store.calls if method == "get"] == []

    trio.run(main, clock=clock)


async def seen_sizes(world: World) -> None:
    assert set(await world.names("d")) == {"a", "sub", "large"}


@pytest.mark.decision(3)
def test_without_it_a_read_fails_in_bounded_time(tmp_path: Path, clock: MockClock) -> None:
    store = filled()

    async def main() -> None:
        async with entered(store, tmp_path, cache_ttl_sec=ALWAYS_ASK, io_timeout_sec=0.2) as world:
            await seen(world)
            silence(store)
            with trio.fail_after(5), pytest.raises(Unavailable):
                await world.read("d/a")
            assert not world.house.index.reach.lost

    trio.run(main, clock=clock)
