"""Questions to an index, and the requests they cost. Used by the tests of this storey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.store.memory import MemoryStore

T = TypeVar("T")

TTL_SEC = 60.0
LONG_AGO_SEC = 1_600_000_000.0  # when everything was stored, if not said otherwise


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now_sec = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_sec


def put(store: MemoryStore, key: str, data: bytes = b"x", **metadata: str) -> ObjectInfo:
    store.put(key, data, Attributes(metadata)).result()
    return store.head(key).result()


def ask(question: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await question()

    return trio.run(main)


def requests(store: MemoryStore, question: Callable[[], Awaitable[object]]) -> int:
    before = len(store.calls)
    ask(question)
    return len(store.calls) - before


async def answered_late(
    store: MemoryStore, name: str, stand_in: object, question: Callable[[], Awaitable[T]]
) -> T:
    setattr(store, name, stand_in)
    return await question()
