"""The network is gone for an hour, and comes back: everything arrives, and little was asked.

The clock is trio's own for tests. It stands still while a thread works for the house, and
jumps to the next deadline when all of it sleeps, so an hour of the house's time is a second.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.debts import State
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import World, bucket, entered, put

HOUR_SEC, PAUSE_SEC_MAX = 3600.0, 60.0
TIMEOUT_SEC = 5.0
FLYING = ("head", "get", "put", "upload_part")  # what can be left without an answer
LARGE = random.Random(1).randbytes(PART_BYTES + 1000)
WANTED = {
    "kept": b"kept",
    "changed": b"CHANGED",
    "large": LARGE,
    "before": b"closed before it",
    "during0": b"closed at its begin",
    "during1": b"closed half an hour later",
}


class Network:
    """What lies between the house and the store, and when each key was asked for in vain."""

    def __init__(self, store: MemoryStore, clock: MockClock) -> None:
        self.asked: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._store, self._clock = store, clock

    def _note(self, method: str, key: str) -> Unavailable:
        self.asked[method, key].append(self._clock.current_time())
        return Unavailable("nobody is there")

    def refuses(self, patch: pytest.MonkeyPatch) -> None:
        """Every request fails at once."""
        patch.setattr(self._store, "faults", self._note)

    def says_nothing(self, patch: pytest.MonkeyPatch) -> None:
        """A request gets no answer, where one can wait for it without a thread."""

        def unanswered(method: str) -> Callable[..., Flight[Any]]:
            def call(key: str, *_: Any, **__: Any) -> Flight[Any]:
                self._note(method, key)
                return Flight()

            return call

        self.refuses(patch)
        for method in FLYING:
            patch.setattr(self._store, method, unanswered(method))


Break = Callable[[Network, pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def dice() -> Iterator[None]:
    """The same pauses each time."""
    state = random.getstate()
    random.seed(7)
    yield
    random.setstate(state)


@pytest.mark.parametrize("breaks", [Network.refuses, Network.says_nothing])
def test_an_hour_without_a_network(breaks: Break, clock: MockClock, tmp_path: Path) -> None:
    store = MemoryStore()
    network = Network(store, clock)
    for key in ("kept", "changed", "gone"):
        put(store, key, key.encode())

    async def scene() -> None:
        async with entered(
            store, tmp_path, upload_delay_sec=1.0, io_timeout_sec=TIMEOUT_SEC
        ) as world:
            assert len(await world.tree()) == 3
            await world.write("before", WANTED["before"])
            with pytest.MonkeyPatch.context() as patch:
                breaks(network, patch)
                await outage(world)
                states = {debt.key: debt.state for debt in world.house.journal.all()}
                assert {*WANTED, "gone"} - {"kept"} <= states.keys()
                assert State.FAILED not in states.values()
                assert await world.names() == sorted(WANTED)
            began_sec = trio.current_time()
            while world.house.journal.count:  # nobody asks for anything: it comes by itself
                await trio.sleep(0.1)
            assert trio.current_time() - began_sec <= 2 * (PAUSE_SEC_MAX + TIMEOUT_SEC)
            assert world.house.uploader.conflicts == []

    trio.run(scene, clock=clock)
    assert bucket(store) == WANTED
    assert_patient(network)


async def outage(world: World) -> None:
    began_sec = trio.current_time()
    await world.write("changed", b"CHANGED")
    await world.write("large", LARGE)
    await world.write(".during0.Ab12Cd", WANTED["during0"])
    await world.rename(".during0.Ab12Cd", "during0")
    await world.unlink("gone")
    await trio.sleep(HOUR_SEC / 2)
    await world.write("during1", WANTED["during1"])
    await trio.sleep_until(began_sec + HOUR_SEC)


def assert_patient(network: Network) -> None:
    """Each key is asked for often enough, seldom enough, and not in step with the others.

    After ten failures pauses no longer double: they are drawn, between 6 s and a minute.
    """
    drawn: list[float] = []
    for question, times in network.asked.items():
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert max(pauses, default=0) <= PAUSE_SEC_MAX + TIMEOUT_SEC + 1, question
        assert len(times) <= 12 + HOUR_SEC / (0.4 * PAUSE_SEC_MAX), question
        drawn += pauses[10:]
    assert max(drawn) - min(drawn) > 0.7 * PAUSE_SEC_MAX
