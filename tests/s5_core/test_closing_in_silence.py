"""Closing files, and the end of a mount, while nobody answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put

PLACES = 20
BASE = b"base" * 50_000
CHANGED = b"".join(b"X" + BASE[at + 1 : at + 10_000] for at in range(0, len(BASE), 10_000))

IO_TIMEOUT_SEC = 0.5
ONCE_SEC = 2 * IO_TIMEOUT_SEC  # to wait once; for each place it is ten times that


async def change(world: World) -> int:
    """Write in many places of a file that is not cached."""
    handle = await world.open("a", os.O_WRONLY)
    for place in range(PLACES):
        await world.fs.write(handle, place * 10_000, b"X")
    return handle


@pytest.mark.parametrize("ends", [False, True], ids=["close", "end"])
def test_a_file_changed_in_many_places_is_recorded_without_waiting_for_each(
    store: MemoryStore,
    play: Callable[..., None],
    clock: MockClock,
    ends: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", BASE)

    async def scene(world: World) -> None:
        asked: list[str] = []

        def silent(key: str, *_: Any, **__: Any) -> Flight[Any]:
            asked.append(key)
            return Flight()

        handle = await change(world)
        with monkeypatch.context() as patch, trio.fail_after(ONCE_SEC):
            patch.setattr(store, "get", silent)
            await (world.fs.seal_all() if ends else world.fs.flush(handle))
        debt = world.house.journal.latest("a")
        assert debt is not None
        assert debt.recorded
        assert not (ends and asked)
        assert await world.drain()

    how = {"cache_bytes_max": 0, "upload_delay_sec": NEVER_SEC}
    play(scene, clock, io_timeout_sec=IO_TIMEOUT_SEC, **how)
    assert bucket(store) == {"a": CHANGED}
