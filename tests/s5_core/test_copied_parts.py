"""What was uploaded in parts and is copied on a server that gives the copy another etag.

So does AWS, and every server for more than 5 GiB.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
import trio

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import NEVER_SEC, World, bucket
from tests.s5_core.stops import StoppedCopy

Play = Callable[..., None]
BODY = b"x" * (2 * PART_BYTES + 1)


@pytest.fixture(autouse=True)
def copies_get_another_etag(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store._copied

    def copied(source: str, target: str, attributes: Attributes | None) -> ObjectInfo:
        made, data = real(source, target, attributes), store._objects[target][1]
        made = made._replace(etag=hashlib.md5(data).hexdigest())
        store._objects[target] = made, data
        return made

    monkeypatch.setattr(store, "_copied", copied)


def put_in_parts(store: MemoryStore, key: str, data: bytes) -> None:
    """As somebody else would."""
    upload = store.create_upload(key, Attributes())
    bodies = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    etags = [store.upload_part(key, upload, n, body).result() for n, body in enumerate(bodies, 1)]
    store.complete_upload(key, upload, etags)


@pytest.mark.parametrize("size", [4, len(BODY)], ids=["in part", "whole"])
def test_a_file_is_written_on_after_its_mode_was_stored(
    size: int, store: MemoryStore, play: Play
) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
        while world.house.journal.latest("a"):
            await trio.sleep(0.001)
        await world.fs.write(handle, 0, b"y" * size)
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"y" * size + BODY[size:]}


@pytest.mark.parametrize("dies", [False, True])
def test_a_file_is_written_on_while_its_mode_is_stored(
    dies: bool, store: MemoryStore, play: Play
) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        handle = await world.open("a", os.O_RDWR)
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
        await stopped.made()
        await world.fs.write(handle, 0, b"yyyy")
        await world.close(handle)
        debts = list(world.house.journal.all())
        debts[-1].not_before_sec = NEVER_SEC + trio.current_time()
        stopped.go_on()
        while not debts[0].paid:
            await trio.sleep(0.001)
        if not dies:
            await end(world)

    async def end(world: World) -> None:
        assert await world.drain()

    play(scene)
    if dies:
        play(end)
    assert bucket(store) == {"a": b"yyyy" + BODY[4:]}


def test_a_file_that_others_replaced_before_its_mode_was_stored_is_theirs(
    store: MemoryStore, play: Play
) -> None:
    put_in_parts(store, "a", BODY)
    theirs = b"t" * len(BODY)

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        put_in_parts(store, "a", theirs)
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
        while world.house.journal.latest("a"):
            await trio.sleep(0.001)
        await world.fs.write(handle, 0, b"y" * len(BODY))
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store)["a"] == theirs
    assert len(bucket(store)) == 2


@pytest.mark.decision(4)
@pytest.mark.parametrize("cache_ttl_sec", [0, 60])
def test_the_old_name_of_a_renamed_object_goes_though_late(
    cache_ttl_sec: int, store: MemoryStore, play: Play
) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        await world.inode("a")  # the kernel looks first
        await world.rename("a", "b")
        store.faults = lambda method, _: Unavailable("not now") if method == "delete" else None
        while ("delete", "") not in store.calls:
            await trio.sleep(0.001)
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene, cache_ttl_sec=cache_ttl_sec)
    assert bucket(store) == {"b": BODY}


@pytest.mark.decision(4)
def test_but_not_what_somebody_else_stored_there(store: MemoryStore, play: Play) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        await world.rename("a", "b")
        store.faults = lambda method, _: Unavailable("not now") if method == "delete" else None
        while ("delete", "") not in store.calls:
            await trio.sleep(0.001)
        put_in_parts(store, "a", b"y" * len(BODY))
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"y" * len(BODY), "b": BODY}
