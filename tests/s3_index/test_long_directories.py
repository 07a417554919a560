"""Names in directories of several pages: what it costs to ask for one of them again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.index.index import Index
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import TTL_SEC, Clock, ask, put, requests

KEY = "d/02222"


@pytest.fixture
def index(store: MemoryStore, clock: Clock, make: Callable[..., Index]) -> Index:
    """One that knew everything about a file, a while ago."""
    for number in range(2500):
        put(store, f"d/{number:05}", mode="33188")
    index = make()
    ask(lambda: index.listing("d/"))
    assert ask(lambda: index.info(KEY)).metadata == {"mode": "33188"}
    clock.now_sec += TTL_SEC
    return index


def test_one_request_renews_it(store: MemoryStore, clock: Clock, index: Index) -> None:
    for _ in range(2):
        assert requests(store, lambda: index.entry(KEY)) == 1
        assert requests(store, lambda: index.entry(KEY)) == 0
        assert requests(store, lambda: index.info(KEY)) == 0
        assert ask(lambda: index.info(KEY)).metadata == {"mode": "33188"}
        clock.now_sec += TTL_SEC


def test_one_request_renews_it_after_a_remount(
    store: MemoryStore, clock: Clock, make: Callable[..., Index], index: Index
) -> None:
    index.close()
    again = make()
    assert requests(store, lambda: again.entry(KEY)) == 1
    assert requests(store, lambda: again.info(KEY)) == 0


def test_another_version_is_seen(store: MemoryStore, index: Index) -> None:
    put(store, KEY, b"newer", mode="33152")
    info, below = ask(lambda: index.entry(KEY))
    assert (info and info.size, below) == (5, False)
    assert ask(lambda: index.info(KEY)).metadata == {"mode": "33152"}


def test_that_it_is_gone_is_seen(store: MemoryStore, index: Index) -> None:
    store.delete([KEY])
    assert requests(store, lambda: index.entry(KEY)) == 1
    assert ask(lambda: index.entry(KEY)) == (None, False)


@pytest.mark.parametrize("between", [0, 50])
def test_a_directory_of_the_same_name_is_seen(
    store: MemoryStore, index: Index, between: int
) -> None:
    put(store, f"{KEY}/x")
    for number in range(between):
        put(store, f"{KEY}-{number}")
    info, below = ask(lambda: index.entry(KEY))
    assert info is not None
    assert below


def test_names_on_the_first_page_are_renewed_together(store: MemoryStore, index: Index) -> None:
    assert requests(store, lambda: index.entry("d/00001")) == 1
    assert requests(store, lambda: index.entry("d/00500")) == 0
