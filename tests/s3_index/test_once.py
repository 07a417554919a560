"""Questions that several ask at the same time, and how old an answer they get."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from qarnotfs.index.index import Index
from qarnotfs.store.base import Flight, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import Clock, put


@pytest.mark.parametrize("ttl_sec", [0.0, 10.0])
def test_a_question_sent_too_long_ago_answers_nobody(
    store: MemoryStore, clock: Clock, make: Callable[..., Index], ttl_sec: float
) -> None:
    """It may have left the bucket before what its asker knows to be there."""
    put(store, "a", b"old")
    late: list[Flight[ObjectInfo]] = []
    head = store.head

    def held(key: str) -> Flight[ObjectInfo]:
        if late:
            return head(key)
        late.append(Flight())
        return late[0]

    store.head = held  # type: ignore[method-assign]  # the first answer is on its way for long
    index, sizes = make(ttl_sec=ttl_sec), list[int]()

    async def look() -> None:
        sizes.append((await index.info("a")).size)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            clock.now_sec += ttl_sec + 0.1
            old = head("a").result()
            put(store, "a", b"newer")
            for _ in range(3):
                nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            late[0].set_result(old)

    before = len(store.calls)
    trio.run(main)
    assert sizes == [len(b"old"), *[len(b"newer")] * 3]
    assert len(store.calls) - before <= 5  # the three of them shared one; two were ours


def test_questions_of_the_same_moment_share_an_answer(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "a")
    index = make(ttl_sec=0)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(index.info, "a")

    store.calls.clear()
    trio.run(main)
    assert store.calls == [("head", "a")]
