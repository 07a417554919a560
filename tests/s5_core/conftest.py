"""A store in memory, and a stage on which a scene is played by a running house."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.abc import Clock
from trio.testing import MockClock

from qarnotfs.store.memory import MemoryStore
from tests.s4_cache.timeless import timeless
from tests.s5_core.house import World, entered

MEMORY, ROOM_BYTES = Path("/dev/shm"), 2 << 30
HANG_SEC = 60.0  # a scene takes milliseconds; this is for one that never ends


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is room for it.

    A death here is a house left as it stands: no power fails. Lives by the hundred, each of which
    syncs all it writes, take a fifth of the time there; mounts are tested on the disk.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="qarnotfs-test-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Iterator[MockClock]:
    """For a loop in which nothing takes time but sleep."""
    with timeless() as clock:
        yield clock


@pytest.fixture
def play(store: MemoryStore, tmp_path: Path) -> Callable[..., None]:
    """``play(scene, clock, **options)``: what a scene does to a `World`, ended as by kill -9."""

    def run(
        scene: Callable[[World], Awaitable[None]], clock: Clock | None = None, **options: Any
    ) -> None:
        async def main() -> None:
            with trio.fail_after(HANG_SEC):
                async with entered(store, tmp_path, **options) as world:
                    await scene(world)

        trio.run(main, clock=clock)

    return run
