"""A directory is renamed, and the mount dies at an awkward moment: the next life finishes it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut

Play = Callable[..., None]


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in bucket(store).items() if not key.endswith("/")}


async def drained(world: World) -> None:
    assert await world.drain()


def test_a_file_is_written_after_what_was_being_sent_of_it_was_copied(
    store: MemoryStore, play: Play
) -> None:
    """When the rename began its older bytes were on their way: they arrived, and were copied."""
    put(store, "d/a", b"a")
    put(store, "d/b", b"b")

    async def before(world: World) -> None:
        sending = StoppedPut(store)
        await world.write("d/a", b"older")
        await sending.sent()
        async with trio.open_nursery() as nursery:
            first = StoppedCopy(store)
            nursery.start_soon(world.rename, "d", "e")
            await first.made()
            sending.arrive()
            while world.house.journal.latest("d/a"):
                await trio.sleep(0.001)
            second = StoppedCopy(store)
            first.go_on()
            await second.made()
            assert bucket(store)["e/a"] == b"older"
            await world.write("d/a", b"newer")
            nursery.cancel_scope.cancel()
            second.go_on()

    play(before)
    play(drained)
    assert files(store) == {"e/a": b"newer", "e/b": b"b"}
