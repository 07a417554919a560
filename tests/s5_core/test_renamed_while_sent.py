"""A file is renamed while it is sent, the mount dies, and the next one uses the old name again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import World, bucket
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
