"""A clock for event loops in which nothing takes time but sleep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock


@contextmanager
def timeless() -> Iterator[MockClock]:
    """It jumps to the next deadline when everything sleeps, and stands still while a thread works.

    So no time limit ends because the machine was busy. Nothing that sleeps wakes up while a
    thread is held up, either: not for a test that lets the thread go on only after that.
    """
    clock = MockClock(autojump_threshold=0)
    run_sync, working = trio.to_thread.run_sync, 0

    async def waited_for(*args: Any, **kwargs: Any) -> Any:
        nonlocal working
        working += 1
        clock.autojump_threshold = float("inf")
        try:
            return await run_sync(*args, **kwargs)
        finally:
            working -= 1
            if not working:
                clock.autojump_threshold = 0

    with pytest.MonkeyPatch.context() as patch:  # one of its own: tests undo theirs early
        patch.setattr(trio.to_thread, "run_sync", waited_for)
        yield clock
