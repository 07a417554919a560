"""What the tests of `cache.reader` share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio.abc import Clock

from qarnotfs.bridge import Bridge
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from tests.s4_cache.scripted import ScriptedStore

MIB = 1 << 20
KIB = 1 << 10


@asynccontextmanager
async def reading(
    store: ScriptedStore, disk: Disk, io_timeout_sec: float = 20.0
) -> AsyncIterator[Reader]:
    reader = Reader(store, Bridge(), disk, io_timeout_sec=io_timeout_sec)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


def run(main: Callable[[], Awaitable[None]], clock: Clock | None = None) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded, clock=clock)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until it is so; `run` has the deadline."""
    while not condition():
        await trio.sleep(0.001)


async def settled(reader: Reader) -> None:
    await until(lambda: not reader._flights)
