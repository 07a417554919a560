"""When the debts are looked through, by a clock that jumps to whatever is waited for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.writeback.looks import DEBT_SEC, LOOK_SEC, PAUSE_SEC_MAX, Looks

FEW, MANY, ALL = 1, 10_000, 10**9


def nothing(_: Looks) -> None: ...


@pytest.mark.parametrize(
    ("happens", "count", "next_sec", "looked_sec"),
    [
        (Looks.hear, FEW, math.inf, LOOK_SEC),
        (Looks.hear, MANY, math.inf, MANY * DEBT_SEC),
        (Looks.hear, ALL, math.inf, PAUSE_SEC_MAX),
        (Looks.hear_payment, FEW, math.inf, DEBT_SEC),
        (Looks.ask, ALL, math.inf, 0.0),
        (nothing, FEW, 7.0, 7.0 + DEBT_SEC),
        (nothing, 0, math.inf, None),
    ],
)
def test_the_next_look(
    happens: Callable[[Looks], None], count: int, next_sec: float, looked_sec: float | None
) -> None:
    async def main() -> None:
        looks = Looks()
        begun_sec = trio.current_time()
        happens(looks)
        with trio.move_on_after(100.0) as waiting:
            await looks.wait(begun_sec + next_sec, count)
        assert waiting.cancelled_caught is (looked_sec is None)
        if looked_sec is not None:
            assert trio.current_time() - begun_sec == pytest.approx(looked_sec)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_whoever_waits_ends_a_pause() -> None:
    async def main() -> None:
        looks = Looks()
        begun_sec = trio.current_time()
        looks.hear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(looks.wait, math.inf, ALL)
            await trio.sleep(0.1)
            looks.ask()
        assert trio.current_time() - begun_sec == pytest.approx(0.1)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_what_was_heard_before_a_look_began_is_over() -> None:
    async def main() -> None:
        looks = Looks()
        looks.ask()
        looks.begin()
        with trio.move_on_after(100.0) as waiting:
            await looks.wait(math.inf, FEW)
        assert waiting.cancelled_caught

    trio.run(main, clock=MockClock(autojump_threshold=0))
