"""Renames of what we have just uploaded ourselves, cut off by the death of the mount.

The bucket's clock is not ours, nor does the answer to an upload say when that was stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.store.base import ListPage
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy

Play = Callable[..., None]


async def settle(world: World, key: str) -> None:
    debt = world.house.journal.latest(key)
    assert debt
    await world.house.uploader.settle(debt)


async def die_renaming(world: World, store: MemoryStore, old: str, new: str) -> None:
    """The copy is about to be made."""
    stopped = StoppedCopy(store, before=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.rename, old, new)
        await stopped.made()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ahead_sec", [-100, -1, 1, 100])
def test_it_is_finished_whatever_the_clocks_say(
    ahead_sec: int, store: MemoryStore, play: Play
) -> None:
    """And what had the new name before, whose deletion is owed, does not come back."""
    put(store, "b", b"old")
    store.clock = lambda: time.time() + ahead_sec

    async def before(world: World) -> None:
        await world.unlink("b")
        await world.write("a", b"new")
        await settle(world, "a")
        await die_renaming(world, store, "a", "b")

    async def after(world: World) -> None:
        assert await world.tree() == {"b": b"new"}
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"new"}


def test_it_is_finished_if_it_was_uploaded_while_its_directory_was_listed(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "d/a", b"old")

    async def before(world: World) -> None:
        await world.write("d/a", b"new")
        real, paid = store.list_page, list[bool]()

        def list_page(prefix: str, **more: Any) -> ListPage:
            page = real(prefix, **more)
            if prefix == "d/" and not more.get("delimiter") and not paid:
                paid.append(True)
                trio.from_thread.run(settle, world, "d/a")
            return page

        with monkeypatch.context() as patch:
            patch.setattr(store, "list_page", list_page)
            await die_renaming(world, store, "d", "e")
        assert paid

    async def after(world: World) -> None:
        assert await world.tree() == {"e": None, "e/a": b"new"}
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"e/a": b"new"}
