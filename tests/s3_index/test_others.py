"""What others change in directories that we made or listed; some on the same cache directory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.index.index import Index
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
