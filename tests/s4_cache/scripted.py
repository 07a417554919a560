"""A store that does what a test tells it, and remembers what it was asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.store.base import Attributes, Fetched, Flight, ObjectInfo
from qarnotfs.store.memory import MemoryStore


class Asked(NamedTuple):
    key: str
    start: int
    size: int


class ScriptedStore(MemoryStore):
    """The store in memory, whose `get` fails, waits and remembers ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.failures: list[Exception] = []  # each is the answer to one get
        self.held: list[Callable[[], None]] | None = None  # while a list: answers wait in it

    def add(self, key: str, body: bytes) -> ObjectInfo:
        self.put(key, body, Attributes()).result()
        return self.head(key).result()

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        self.asked.append(Asked(key, start, size))
        flight = Flight[Fetched]()
        if self.held is not None:
            self.held.append(lambda: self.answer(flight, key, start, size, etag))
        else:
            self.answer(flight, key, start, size, etag)
        return flight

    def answer(
        self, flight: Flight[Fetched], key: str, start: int, size: int, etag: str | None
    ) -> None:
        """Let a flight land."""
        try:
            if self.failures:
                raise self.failures.pop(0)
            flight.set_result(super().get(key, start, size, etag=etag).result())
        except Exception as error:
            flight.set_exception(error)

    def release(self, error: Exception | None = None) -> None:
        """Let everything that waits land, or fail, and nothing wait any more."""
        held, self.held = self.held or [], None
        self.failures = [error] * len(held) if error else []
        for answer in held:
            answer()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are the same each time and nowhere twice."""
    return random.Random(seed).randbytes(size)


def blocks(count: float, seed: int = 0) -> bytes:
    """So many blocks of noise."""
    return noise(int(count * BLOCK_BYTES), seed)
