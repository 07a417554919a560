"""What the account may hold: asked for once in the TTL, and never an error of who looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.errors import Unavailable
from qarnotfs.index.index import Index
from qarnotfs.store.base import Room
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import TTL_SEC, Clock, ask, requests

BEFORE, AFTER = Room(10, 100, 1, None), Room(20, 100, 2, None)


@pytest.mark.parametrize("first", [BEFORE, None])
def test_it_is_asked_for_once_in_the_ttl_also_after_a_remount(
    store: MemoryStore, clock: Clock, make: Callable[..., Index], first: Room | None
) -> None:
    store.limits = first
    assert ask(make().room) == first
    store.limits = AFTER
    assert requests(store, make().room) == 0
    assert ask(make().room) == first
    clock.now_sec += TTL_SEC
    assert ask(make().room) == AFTER


def test_while_nobody_answers_it_is_what_was_heard_last(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    def silent(method: str, key: str) -> Exception:
        return Unavailable("no answer")

    store.limits, store.faults = BEFORE, silent
    assert ask(make().room) is None
    store.faults = lambda *_: None
    assert ask(make().room) == BEFORE
    clock.now_sec += TTL_SEC
    store.faults = silent
    assert ask(make().room) == BEFORE
