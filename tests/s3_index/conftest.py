"""An index over a bucket in memory, and its clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qarnotfs.bridge import Bridge
from qarnotfs.index.index import Index
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import LONG_AGO_SEC, TTL_SEC, Clock


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=lambda: LONG_AGO_SEC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(store: MemoryStore, clock: Clock, tmp_path: Path) -> Callable[..., Index]:
    def build(
        *, ttl_sec: float = TTL_SEC, filter_prefix: str = "", timeout_sec: float = 60.0
    ) -> Index:
        bridge = Bridge(timeout_sec=timeout_sec)
        database = tmp_path / "beliefs.db"
        return Index(
            store, bridge, database, ttl_sec=ttl_sec, filter_prefix=filter_prefix, now=clock
        )

    return build
