"""A store in memory, and a stage on which a scene is played by a running house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, entered

HANG_SEC = 60.0  # a scene takes milliseconds; this is for one that never ends


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def play(store: MemoryStore, tmp_path: Path) -> Callable[..., None]:
    """``play(scene, **options)``: what a scene does to a `World`, ended as by kill -9."""

    def run(scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            with trio.fail_after(HANG_SEC):
                async with entered(store, tmp_path, **options) as world:
                    await scene(world)

        trio.run(main)

    return run
