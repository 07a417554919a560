"""What is stored beside another's object goes on there, and what failed is not kept in memory."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import NoSuchEntry, Unavailable
from qarnotfs.store.base import Copied, Flight, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut

Play = Callable[..., None]
FSYNC_SEC = 10.0  # a tenth is enough


def test_a_file_that_was_stored_beside_is_written_on(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        put(store, "a", b"theirs")
        await world.fs.fsync(handle)
        assert await world.read("a") == b"theirs"
        await world.fs.write(handle, 3, b"two")
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert sorted(bucket(store).values()) == [b"onetwo", b"theirs"]


def test_the_mode_of_what_was_stored_beside_is_not_anothers(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        writer, _ = await world.open("a", os.O_RDWR), await world.open("a")
        inode = await world.inode("a")
        store.delete(["a"])
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        await world.fs.write(writer, 0, b"one")
        put(store, "a", b"theirs", note="theirs")
        await world.close(writer)
        assert await world.drain()
        await world.fs.setattr(inode, Changes(mode=0o600))
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert store.head("a").result().metadata == {"note": "theirs"}


def test_what_replaced_ours_before_its_newest_attributes_were_stored_is_anothers(
    store: MemoryStore, play: Play
) -> None:
    """The program goes on writing: that builds upon what was sent here, not upon theirs."""

    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"one")
        stopped, real = StoppedPut(store), store.copy_object

        def copy_object(*args: Any) -> Flight[Copied]:
            put(store, "a", b"theirs")
            return real(*args)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
            await world.fs.write(handle, 3, b"two")
            store.copy_object = copy_object  # type: ignore[assignment, method-assign]  # the network's part
            stopped.arrive()
            while b"theirs" not in bucket(store).values():
                await trio.sleep(0.001)
        store.copy_object = real  # type: ignore[method-assign]  # as it was
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    found = bucket(store)
    assert found.pop("a") == b"theirs"
    assert list(found.values()) == [b"onetwo"]


def test_who_syncs_while_another_thread_writes_is_answered(store: MemoryStore, play: Play) -> None:
    """Each try meets the conflict when there are younger bytes already."""
    put(store, "a", b"old")
    real = store.put

    def slowly(*args: Any) -> Flight[str]:
        flight: Flight[str] = Flight()

        def answer() -> None:
            done = real(*args)
            error = done.exception()
            flight.set_exception(error) if error else flight.set_result(done.result())

        threading.Timer(0.05, answer).start()
        return flight

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        put(store, "a", b"theirs")
        store.put = slowly  # type: ignore[method-assign, assignment]  # the network's part

        async def write_on() -> None:
            while True:
                await world.fs.write(handle, 0, b"x")
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            with trio.fail_after(FSYNC_SEC):
                await world.fs.fsync(handle)
            nursery.cancel_scope.cancel()

    play(scene, cache_ttl_sec=0)
    assert bucket(store)["a"] == b"theirs"


def test_a_file_takes_the_name_of_one_that_lost_it(store: MemoryStore, play: Play) -> None:
    """Deleted elsewhere, written here; the kernel has not looked since."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        await world.fs.write(handle, 0, b"one")
        await world.write("x", b"x")
        await world.rename("x", "a")
        await world.fs.write(handle, 3, b"two")
        assert await world.fs.read(handle, 0, 99) == b"onetwo"
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"x"}


def test_a_file_is_renamed_in_a_directory_that_is_renamed(store: MemoryStore, play: Play) -> None:
    put(store, "d/x", b"x")
    put(store, "d/w", b"w")

    async def scene(world: World) -> None:
        directory = await world.inode("d")
        (await world.inode("d/x")).lookups += 1
        old, new = (directory, b"x"), (directory, b"y")

        async def rename() -> None:
            await world.fs.names.rename(old, new, replace_target=True)

        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename)
            await stopped.made()
            await world.rename("d", "e")
            stopped.go_on()
        handle = await world.fs.open(directory.children[b"y"], os.O_WRONLY)
        await world.fs.write(handle, 0, b"Z")
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert {key: data for key, data in bucket(store).items() if data} == {"e/y": b"Z", "e/w": b"w"}


def test_who_reads_a_file_of_parts_reads_its_copy(store: MemoryStore, play: Play) -> None:
    """When it is renamed; some servers give that another etag."""
    put(store, "a", b"1" * (64 << 20))
    real = store._copied

    def copied(*args: Any) -> ObjectInfo:
        made = real(*args)
        info = made._replace(etag="0" * 32 + "-8")
        store._objects[info.key] = info, store._objects[info.key][1]
        return info

    store._copied = copied  # type: ignore[method-assign, assignment]  # the server's part

    async def scene(world: World) -> None:
        handle = await world.open("a")
        assert await world.fs.read(handle, 0, 10) == b"1" * 10
        await world.rename("a", "b")
        assert await world.drain()
        assert await world.fs.read(handle, 50 << 20, 10) == b"1" * 10

    play(scene, cache_bytes_max=0)


@pytest.mark.parametrize("method", ["put", "upload_part"])
def test_what_could_not_be_sent_is_not_kept_in_memory(
    method: str, store: MemoryStore, play: Play
) -> None:
    """Errors know the frames they came through, and these what was to be sent: up to 8 MiB each."""
    real, failures = getattr(store, method), list[None]()

    class Lost(Unavailable):
        """None of any other test's."""

    def refuse(*_: object) -> Flight[str]:
        failures.append(None)
        return Flight.failed(Lost("not now"))

    async def scene(world: World) -> None:
        gc.collect()
        gc.disable()
        setattr(store, method, refuse)
        handle = await world.create("f")
        for at in range(1 if method == "put" else 24):
            await world.fs.write(handle, at << 20, b"z" * (1 << 20))
        await world.close(handle)
        with trio.fail_after(10):
            while len(failures) < 4:
                await trio.sleep(0.01)
        setattr(store, method, real)
        assert await world.drain()
        assert not [one for one in gc.get_objects() if isinstance(one, Lost)]

    try:
        play(scene)
    finally:
        gc.enable()
