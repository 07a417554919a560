"""An upload ends, or is tried once more, while the file is read, written on, removed or cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import trio

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import Unavailable
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCall, StoppedPut
from tests.s5_core.test_bases import LARGE

Play = Callable[..., None]


def test_what_is_read_while_its_upload_ends(store: MemoryStore, play: Play) -> None:
    put(store, "big", LARGE)

    async def scene(world: World) -> None:
        handle, found = await world.open("big", os.O_RDWR), list[bytes]()
        await world.fs.write(handle, 100, b"EDIT")
        stopped = StoppedPut(store, "get")

        async def read() -> None:
            found.append(await world.fs.read(handle, 18 << 20, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stopped.sent()
            await world.fs.fsync(handle)
            stopped.arrive()
        assert found == [LARGE[18 << 20 :][:10]]

    play(scene, cache_bytes_max=0)


def test_what_is_removed_while_it_is_sent_is_read(store: MemoryStore, play: Play) -> None:
    """It stays in the bucket until it is closed."""
    put(store, "big", LARGE)

    async def scene(world: World) -> None:
        handle = await world.open("big", os.O_RDWR)
        await world.fs.write(handle, 100, b"EDIT")
        completed = StoppedCall(store, "complete_upload")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await completed.sent()
            await world.unlink("big")
            completed.arrive()
            with trio.fail_after(30):
                while world.house.journal.is_paying("big"):
                    await trio.sleep(0.001)
        assert await world.fs.read(handle, 18 << 20, 10) == LARGE[18 << 20 :][:10]
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_bytes_max=0)
    assert bucket(store) == {}


def test_nobody_waits_for_what_is_owed_no_more(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"x")
        await world.fs.flush(handle)
        world.house.journal.drop("a")
        with trio.fail_after(30):
            await world.fs.fsync(handle)

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_name_is_deleted_and_made_again_elsewhere_while_ours_is_sent(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        store.delete(["a"])
        first = StoppedPut(store)
        await world.close(handle)
        await first.sent()
        second = StoppedPut(store)
        first.arrive()
        await second.sent()
        put(store, "a", b"theirs")
        second.arrive()
        assert await world.drain()

    play(scene)
    assert sorted(bucket(store).values()) == [b"one", b"theirs"]


def test_a_conflict_of_a_file_that_is_written_on_is_stored_once(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        stopped = StoppedPut(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            put(store, "a", b"theirs")
            await world.fs.write(handle, 3, b"two")
            stopped.arrive()
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert sorted(bucket(store).values()) == [b"onetwo", b"theirs"]


def test_what_was_copied_of_a_longer_file_is_copied_again(store: MemoryStore, play: Play) -> None:
    """Its last part is on record; then the file was cut within that, and the mount died."""
    put(store, "big", LARGE)
    size, sizes = 18 << 20, list[int]()

    def refuse(*methods: str) -> None:
        store.faults = lambda method, _: Unavailable("not now") if method in methods else None

    async def before(world: World) -> None:
        refuse("complete_upload")
        await world.write("big", b"EDIT", 100)
        with trio.fail_after(30):
            while "complete_upload" not in dict(store.calls):
                await trio.sleep(0.001)
            while world.house.journal.is_paying("big"):
                await trio.sleep(0.001)
        refuse("complete_upload", "copy_part", "upload_part")
        await world.fs.setattr(await world.inode("big"), Changes(size=size))

    async def after(world: World) -> None:
        real = store.complete_upload

        def complete_upload(key: str, upload_id: str, etags: Sequence[str]) -> None:
            real(key, upload_id, etags)
            sizes.append(store.head(key).result().size)

        store.complete_upload = complete_upload  # type: ignore[method-assign]  # to look at it
        refuse()
        assert await world.drain()

    play(before)
    play(after)
    assert sizes == [size]
