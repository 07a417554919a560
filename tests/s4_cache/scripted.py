"""A store that does what a test tells it, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.errors import NoSuchKey, PreconditionFailed
from qarnotfs.store.base import Fetched, Flight, ObjectInfo


class Asked(NamedTuple):
    key: str
    start: int
    size: int


class ScriptedStore:
    bucket = "scripted"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self.asked: list[Asked] = []
        self.failures: list[Exception] = []  # each is the answer to one get
        self.held: list[Callable[[], None]] | None = None  # while a list: answers wait in it

    def add(self, key: str, body: bytes) -> ObjectInfo:
        info = ObjectInfo(key, len(body), hashlib.md5(body).hexdigest(), 1_700_000_000)
        self.objects[key] = (info, body)
        return info

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        self.asked.append(Asked(key, start, size))
        flight = Flight[Fetched]()
        if self.held is not None:
            self.held.append(lambda: self._answer(flight, key, start, size, etag))
        else:
            self._answer(flight, key, start, size, etag)
        return flight

    def release(self, error: Exception | None = None) -> None:
        """Let everything that waits land, or fail, and nothing wait any more."""
        held, self.held = self.held or [], None
        self.failures = [error] * len(held) if error else []
        for answer in held:
            answer()

    def _answer(
        self, flight: Flight[Fetched], key: str, start: int, size: int, etag: str | None
    ) -> None:
        if self.failures:
            flight.set_exception(self.failures.pop(0))
            return
        if key not in self.objects:
            flight.set_exception(NoSuchKey("gone"))
            return
        info, body = self.objects[key]
        if etag not in (None, info.etag):
            flight.set_exception(PreconditionFailed("another version"))
            return
        assert size > 0
        assert start + size <= info.size
        flight.set_result(Fetched(info, body[start : start + size]))


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are the same each time and nowhere twice."""
    return random.Random(seed).randbytes(size)


def blocks(count: float, seed: int = 0) -> bytes:
    """So many blocks of noise."""
    return noise(int(count * BLOCK_BYTES), seed)
