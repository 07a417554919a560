"""Names in directories of several pages: what it costs to ask for one of them again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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


def test_the_next_page_is_believed_once_it_has_come(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    """Also of names that were looked at, one by one, between the first page and the next."""
    for number in range(2500):
        put(store, f"d/{number:05}", mode="33188")
    replaced, deleted, new = "d/01400", "d/01401", "d/01402x"
    index = make()
    for key in (replaced, deleted):
        ask(partial(index.info, key))
    clock.now_sec += 1
    put(store, replaced, b"newer")
    put(store, new)
    store.delete([deleted])
    listing = ask(lambda: index.begun("d/"))
    assert [believed_size(index, key) for key in (replaced, deleted, new)] == [1, 1, None]
    ask(lambda: index.grow(listing))
    assert not listing.complete
    assert [believed_size(index, key) for key in (replaced, deleted, new)] == [5, None, 1]


def believed_size(index: Index, key: str) -> int | None:
    belief = index.believed(key)
    return belief.info.size if belief and belief.info else None


def test_what_is_known_of_a_page_is_what_is_known_of_each_name(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """Names that nobody asked for come with the one that somebody did."""
    for number in range(30):
        put(store, f"d/{number:05}", mode="33188")
    index = make()
    asked, stored = "d/00003", put(store, "d/00007", b"ours", mode="33188")
    ask(lambda: index.listing("d/"))
    index.remember(stored)
    ask(lambda: index.info(asked))
    listed = {info.key: info for _, info in ask(lambda: index.listing("d/")) if info}
    assert len(listed) == 30
    for key, info in listed.items():
        belief = index.believed(key)
        assert belief is not None
        assert belief.info is not None
        assert belief.info.same_version(info)
        assert (belief.info.metadata is not None) == (key in (asked, stored.key))
