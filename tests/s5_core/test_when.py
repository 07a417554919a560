"""When what was closed is sent, by a clock that the test moves on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition, Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import looks, uploader
from qarnotfs.writeback.plan import (
    BURST_DELAYS_MAX,
    BURST_SEC,
    BURST_SENDS,
    BURST_TIMES,
    LULL_SEC,
)
from qarnotfs.writeback.uploader import UPLOADS_MAX
from tests.s5_core.house import World, bucket, entered, put
from tests.support import eventually

DELAY_SEC = 0.08
STEP_SEC = 0.02  # less than what is taken for the end of a burst


async def at(sec: float, clock: MockClock, world: World, *, busy: bool = False) -> set[str]:
    """What is in the bucket at a time, while files are closed all along, or none is."""
    while trio.current_time() < sec:
        if busy:
            await world.write(f"{trio.current_time():.2f}", b"x")
        clock.jump(STEP_SEC)
        await wait_all_tasks_blocked()
    return set(bucket(world.house.bucket.store))  # type: ignore[arg-type]  # a memory store


def test_file_after_file_is_sent_when_the_program_pauses_or_after_a_while(tmp_path: Path) -> None:
    clock = MockClock()

    async def main() -> None:
        async with entered(MemoryStore(), tmp_path, upload_delay_sec=DELAY_SEC) as world:
            begun_sec = trio.current_time()
            await world.write("first", b"x")
            late_sec = begun_sec + DELAY_SEC + min(BURST_SEC, BURST_DELAYS_MAX * DELAY_SEC)
            assert await at(late_sec - 3 * STEP_SEC, clock, world, busy=True) == set()
            sent = await at(late_sec + 3 * STEP_SEC, clock, world, busy=True)
            assert "first" in sent
            assert len(sent) < 10
            pause_sec = trio.current_time() + LULL_SEC + 12 * STEP_SEC
            due = await at(pause_sec, clock, world)  # of a second ago, and older
            written = (late_sec - begun_sec) / STEP_SEC
            assert len(due) > written / 2
            end_sec = trio.current_time() + DELAY_SEC
            assert len(await at(end_sec, clock, world)) > written
            assert not world.house.journal.count

    trio.run(main, clock=clock)


class Holds(MemoryStore):
    """What is put is not carried out before `let_go`."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[Flight[str], Callable[[], Flight[str]]]] = []
        self.is_holding = True

    def put(self, *args: Any, **how: Any) -> Flight[str]:
        put = partial(super().put, *args, **how)
        if not self.is_holding:
            return put()
        self.held.append((Flight[str](), put))
        return self.held[-1][0]

    def let_go(self) -> None:
        self.is_holding = False
        for flight, carry_out in self.held:
            flight.set_result(carry_out().result())


def test_of_file_after_file_few_are_sent_at_once_unless_they_waited_very_long(
    tmp_path: Path,
) -> None:
    clock = MockClock()

    async def main() -> None:
        store = Holds()
        async with entered(
            store, tmp_path, upload_delay_sec=DELAY_SEC / 4, io_timeout_sec=600.0
        ) as world:
            burst_sec = min(BURST_SEC, BURST_DELAYS_MAX * DELAY_SEC / 4)
            late_sec = trio.current_time() + DELAY_SEC / 4 + burst_sec
            await at(late_sec + 0.5, clock, world, busy=True)
            assert len(store.held) == BURST_SENDS
            very_late_sec = late_sec + BURST_TIMES * burst_sec
            await at(very_late_sec - 0.5, clock, world, busy=True)
            assert len(store.held) == BURST_SENDS
            await at(very_late_sec + 0.3, clock, world, busy=True)
            assert BURST_SENDS < len(store.held) < UPLOADS_MAX
            await at(trio.current_time() + 0.2, clock, world)
            assert len(store.held) == UPLOADS_MAX
            store.let_go()

    trio.run(main, clock=clock)


@pytest.mark.parametrize(
    ("limit", "stored", "act", "left"),
    [
        ("DELETE_COUNT_MAX", 50, World.unlink, 0),
        ("UPLOADS_MAX", 0, partial(World.write, data=b"x"), 50),
    ],
)
def test_what_is_due_follows_what_was_paid_without_a_pause(
    limit: str,
    stored: int,
    act: Callable[[World, str], Awaitable[None]],
    left: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many debts wait, and however rarely they are therefore looked through."""
    clock = MockClock()
    monkeypatch.setattr(uploader, limit, 3)
    monkeypatch.setattr(looks, "DEBT_SEC", 1.0)

    async def main() -> None:
        store = MemoryStore()
        for number in range(stored):
            put(store, str(number))
        async with entered(store, tmp_path, upload_delay_sec=DELAY_SEC) as world:
            for number in range(50):
                await act(world, str(number))
            await at(trio.current_time() + 2.0, clock, world)  # the first are on their way
            # From here on no time passes.
            await trio.to_thread.run_sync(eventually, lambda: len(bucket(store)) == left)

    trio.run(main, clock=clock)


def test_a_file_alone_is_sent_after_the_delay(tmp_path: Path) -> None:
    clock = MockClock()

    async def main() -> None:
        async with entered(MemoryStore(), tmp_path, upload_delay_sec=DELAY_SEC) as world:
            await world.write("first", b"x")
            closed_sec = trio.current_time()
            assert await at(closed_sec + DELAY_SEC - 2 * STEP_SEC, clock, world) == set()
            sent = await at(closed_sec + DELAY_SEC + 3 * STEP_SEC, clock, world)
            assert sent == {"first"}

    trio.run(main, clock=clock)


class FailsOnce(MemoryStore):
    """The first put of the key ``urgent`` is not carried out."""

    failed = False

    def put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        condition: Condition = UNCONDITIONAL,
    ) -> Flight[str]:
        if key == "urgent" and not self.failed:
            self.failed = True
            return Flight.failed(Unavailable("not now"))
        return super().put(key, body, attributes, condition)


def test_what_somebody_waits_for_is_tried_again_in_spite_of_a_burst(tmp_path: Path) -> None:
    clock = MockClock()

    async def main() -> None:
        store = FailsOnce()
        async with (
            entered(store, tmp_path, upload_delay_sec=DELAY_SEC) as world,
            trio.open_nursery() as nursery,
        ):
            await world.write("urgent", b"x")
            debt = world.house.journal.latest("urgent")
            assert debt is not None
            nursery.start_soon(world.house.uploader.settle, debt)
            sent = await at(trio.current_time() + 1.5, clock, world, busy=True)
            assert store.failed
            assert sent == {"urgent"}

    trio.run(main, clock=clock)
