"""What others change in directories that we made or listed; some on the same cache directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from qarnotfs.index.beliefs import CHANGES_SEC
from qarnotfs.index.index import Index
from qarnotfs.store.base import ListPage, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import TTL_SEC, Clock, ask, put, requests


@pytest.mark.parametrize("count", [1, 1500])
def test_a_directory_that_we_make_is_as_certain_to_be_empty_as_its_name_was_to_be_free(
    store: MemoryStore, clock: Clock, make: Callable[..., Index], count: int
) -> None:
    """Others may have put something there since."""
    for number in range(count):
        put(store, f"d/{number:05}")
    index = make()
    ask(lambda: index.entry("d/new"))
    clock.now_sec += TTL_SEC - 1
    index.remember_empty("d/new/")
    assert requests(store, lambda: index.listing("d/new/")) == 0
    put(store, "d/new/theirs")
    clock.now_sec += 1
    assert [name for name, _ in ask(lambda: index.listing("d/new/"))] == ["d/new/theirs"]


def test_what_is_known_of_a_directory_is_not_forgotten_when_we_make_it(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    """Another mount on this cache directory, whose listing this is, was faster."""
    ask(lambda: make().listing(""))
    index, other = make(), make()
    ask(lambda: index.listing(""))
    other.remember_empty("d/")
    other.remember(put(store, "d/x"))
    index.remember_empty("d/")
    assert [name for name, _ in ask(lambda: index.listing("d/"))] == ["d/x"]


@pytest.mark.parametrize(
    ("key", "is_deleted", "name"),
    [
        ("d/new", False, "d/new"),
        ("d/00001", True, "d/00001"),
        ("d/new/x", False, "d/new/"),
        ("d/old/", True, "d/old/"),
    ],
)
def test_what_another_mount_changes_while_we_list_is_not_lost(
    store: MemoryStore,
    clock: Clock,
    make: Callable[..., Index],
    key: str,
    is_deleted: bool,
    name: str,
) -> None:
    """Our listing takes the place of theirs, and is older than what they changed."""
    put(store, "d/old/")
    for number in range(1500):
        put(store, f"d/{number:05}")
    ours, theirs = make(), make()
    ask(lambda: theirs.listing("d/"))
    listing = ask(lambda: ours.begun("d/"))
    ours._disk.drop_listing("d/")  # who looks it up now has nothing to lay a change over
    clock.now_sec += 1
    if is_deleted:
        theirs.remember_missing(key)
    else:
        theirs.remember(ObjectInfo(key, 1, "0" * 32, 0))
    ask(lambda: ours.grow(listing))  # answered as before: the store does not know yet
    theirs._listings.clear()  # as when there are many
    for index in (ours, theirs, make()):
        listed = index.fresh_listing("d/")
        assert listed is not None
        assert (name in listed) == (not is_deleted)


def test_what_another_mount_changes_while_we_survey_is_not_lost(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    put(store, "d/old")
    ours, theirs, listed = make(), make(), store.list_page

    def late(*args: Any, **how: Any) -> ListPage:
        clock.now_sec += 1
        trio.from_thread.run_sync(theirs.remember, ObjectInfo("d/new", 1, "0" * 32, 0))
        clock.now_sec += 1
        return listed(*args, **how)

    store.list_page = late  # type: ignore[method-assign]  # an answer that is late
    ask(lambda: ours.survey(""))
    for index in (ours, theirs, make()):
        known = index.fresh_listing("d/")
        assert known is not None
        assert "d/new" in known


def test_a_listing_that_took_too_long_is_not_written_down(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    """What others changed meanwhile is not known any more."""
    for number in range(1500):
        put(store, f"d/{number:05}")
    index = make(ttl_sec=10 * CHANGES_SEC)
    listing = ask(lambda: index.begun("d/"))
    clock.now_sec += CHANGES_SEC
    ask(lambda: index.grow(listing))
    assert index.fresh_listing("d/") is listing
    assert make(ttl_sec=10 * CHANGES_SEC).fresh_listing("d/") is None


def test_changes_are_not_kept_for_ever(
    clock: Clock, make: Callable[..., Index], tmp_path: Path
) -> None:
    index = make()
    for number in range(5):
        index.remember(ObjectInfo(f"d/{number}", 1, "0" * 32, 0))
        clock.now_sec += CHANGES_SEC / 2
    with closing(sqlite3.connect(tmp_path / "beliefs.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM changes").fetchone() == (3,)


def test_what_a_life_changes_that_believes_nothing_is_known_to_the_next_one(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    for key in ("a", "d/x", "e/y"):
        put(store, key)
    index = make()
    assert ask(lambda: index.listing("")).count == 3
    ask(lambda: index.listing("d/"))
    index.close()
    between = make(ttl_sec=0)
    store.delete(["a", "e/y"])
    between.remember_missing("a")
    between.remember_missing("e/y")
    between.remember(put(store, "d/new"))
    between.close()
    last = make()
    assert [name for name, _ in ask(lambda: last.listing(""))] == ["d/"]
    assert [name for name, _ in ask(lambda: last.listing("d/"))] == ["d/new", "d/x"]
