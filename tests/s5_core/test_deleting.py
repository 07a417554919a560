"""Deletions that come late, and what somebody else stored under the name meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from qarnotfs.errors import Unavailable
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put


async def drain(world: World) -> None:
    assert await world.drain()


async def unlink(world: World) -> None:
    await world.unlink("a")


async def rename(world: World) -> None:
    await world.rename("a", "b")


async def change_and_rename(world: World) -> None:
    await world.write("a", b"new")
    await world.rename("a", "b")


@pytest.mark.decision(4)
@pytest.mark.parametrize(
    ("act", "left"),
    [(unlink, {}), (rename, {"b": b"old"}), (change_and_rename, {"b": b"new"})],
)
@pytest.mark.parametrize("replaced", [True, False])
def test_the_next_mount_deletes_what_was_seen_and_nothing_else(
    act: Callable[[World], None],
    left: dict[str, bytes],
    replaced: bool,
    store: MemoryStore,
    play: Callable[..., None],
) -> None:
    put(store, "a", b"old")
    play(act, upload_delay_sec=NEVER_SEC)
    if replaced:
        put(store, "a", b"theirs")
    play(drain)
    assert bucket(store) == left | ({"a": b"theirs"} if replaced else {})


def test_a_deletion_whose_answer_was_lost_is_not_repeated_on_another_version(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        deleted = store.delete

        def delete(keys: list[str]) -> dict[str, Exception]:
            deleted(keys)
            put(store, "a", b"theirs")
            store.delete = deleted  # type: ignore[method-assign]  # only the first answer is lost
            raise Unavailable("The answer was lost.")

        store.delete = delete  # type: ignore[method-assign, assignment]  # a server that fails so
        await world.unlink("a")
        assert await world.drain()
        assert await world.tree() == {"a": b"theirs"}

    play(scene)
    assert bucket(store) == {"a": b"theirs"}


def test_what_a_former_life_may_have_stored_does_not_come_back(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """It died after the bucket had taken the file, and before it knew; then it is deleted."""

    async def write(world: World) -> None:
        await world.write("a", b"stored, but nobody was told")

    async def delete(world: World) -> None:
        store.faults = lambda method, _: Unavailable("No.") if method == "delete" else None
        await world.unlink("a")
        await trio.sleep(0.1)  # a first try in vain, or none: either way it is repeated
        store.faults = lambda *_: None
        assert await world.drain()
        assert await world.tree() == {}

    play(write, upload_delay_sec=NEVER_SEC)
    put(store, "a", b"stored, but nobody was told")
    play(delete, upload_delay_sec=0.01)
    assert bucket(store) == {}


@pytest.mark.decision(4)
def test_a_prompt_deletion_costs_no_look(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        await world.unlink("a")
        store.calls.clear()
        assert await world.drain()
        assert [call for call in store.calls if call[0] in ("head", "delete")] == [("delete", "")]

    play(scene)
    assert bucket(store) == {}
