"""A file is renamed while it is sent, the mount dies, and the next one uses the old name again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut


@pytest.mark.parametrize("size", [100, PART_BYTES + 1], ids=["put", "multipart"])
@pytest.mark.parametrize("new_name", ["", "b"], ids=["stays", "renamed"])
def test_the_old_name_is_written_again_by_the_next_life(
    size: int, new_name: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    """Then three things are owed of that name: older bytes, a deletion, younger bytes."""
    one, two = b"1" * size, b"2" * size

    async def life(world: World) -> None:
        stopped = StoppedPut(store, "put" if size < PART_BYTES else "upload_part")
        await world.write("x", one)
        await stopped.sent()
        await world.rename("x", "a")

    async def next_life(world: World) -> None:
        await world.write("x", two)
        if new_name:
            await world.rename("x", new_name)
        assert await world.tree() == {"a": one, new_name or "x": two}
        assert await world.drain()
        assert await world.tree() == {"a": one, new_name or "x": two}

    play(life)
    play(next_life, upload_delay_sec=0.5)
    assert bucket(store) == {"a": one, new_name or "x": two}


def test_a_directory_does_not_end_before_what_is_in_it(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """A file is deleted under its old name when it has arrived under the new one."""
    put(store, "d/", b"")
    put(store, "d/a", b"old")
    wanted = {"e": None, "e/a": b"new"}

    async def life(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("d/a", b"new")
        await stopped.sent()
        await world.rename("d", "e")
        await wait_all_tasks_blocked(0.05)  # all is paid that can be
        assert await world.tree() == wanted

    async def next_life(world: World) -> None:
        assert await world.tree() == wanted
        assert await world.drain()

    play(life)
    play(next_life, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"e/": b"", "e/a": b"new"}


def test_the_next_life_renames_it_back(store: MemoryStore, play: Callable[..., None]) -> None:
    """The end of its first name is not to wait for what comes behind it under that very name."""

    async def life(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("b", b"bytes")
        await stopped.sent()
        await world.rename("b", "a")

    async def next_life(world: World) -> None:
        await world.rename("a", "b")
        with trio.fail_after(30):
            assert await world.drain()

    play(life)
    play(next_life, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"b": b"bytes"}
