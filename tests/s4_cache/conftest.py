"""A store and a cache directory for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from qarnotfs.cache.disk import Disk
from tests.s4_cache.scripted import ScriptedStore
from tests.s4_cache.shelf import MIB, Clock, Make
from tests.s4_cache.timeless import timeless


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path, 1000 * MIB)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def still() -> Iterator[MockClock]:
    """For a loop in which nothing takes time but sleep."""
    with timeless() as clock:
        yield clock


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Make:
    """Builds a `Disk` on the test's directory that keeps nothing in memory."""

    def build(cache_bytes_max: int = 100 * MIB, **options: Any) -> Disk:
        options.setdefault("memory_bytes_max", 0)
        options.setdefault("clock", clock)
        return Disk(tmp_path / "cache", cache_bytes_max, **options)

    return build
