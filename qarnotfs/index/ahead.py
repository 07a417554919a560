"""Questions that somebody will soon want answered, asked ahead of them, a bounded number at once.

Used by `index`. An answer is worth what the asking leaves behind; a failure is nobody's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import trio

from qarnotfs.errors import StoreError

WAITING_MAX = 1000  # questions
ASKERS = 48  # of them at once; a HEAD takes no thread

T = TypeVar("T")

_Question = tuple[Callable[[Any], Awaitable[object]], Any]


class Ahead:
    """A line of questions, and those who ask them."""

    def __init__(self) -> None:
        self._in, self._out = trio.open_memory_channel[_Question](WAITING_MAX)

    @property
    def waiting(self) -> int:
        return self._in.statistics().current_buffer_used

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(ASKERS):
                nursery.start_soon(self._asker, self._out.clone())

    def want(self, ask: Callable[[T], Awaitable[object]], names: Iterable[T]) -> None:
        """Each name, or several of them, is asked for once there is time, if there is room."""
        for name in names:
            try:
                self._in.send_nowait((ask, name))
            except trio.WouldBlock:
                return

    async def _asker(self, questions: trio.MemoryReceiveChannel[_Question]) -> None:
        async for ask, name in questions:
            with suppress(StoreError):  # whoever really wants it will ask again, and hear of it
                await ask(name)
