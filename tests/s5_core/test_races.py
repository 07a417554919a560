"""What happens while something else happens: writes, renames and deletions during requests.

Each scene stops one call of the store in the middle, or makes it fail, and does to the same
file what another program could. Nothing accepted may be lost, mixed, or waited for for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
import trio.testing

from qarnotfs.errors import Stale
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import ALWAYS_NEW_SEC, CALLER, NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut


def test_a_file_the_kernel_forgets_is_still_uploaded(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"bytes")
        world.fs.forget((await world.inode("a")).number, 0)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"bytes"}


def test_a_file_renamed_while_it_is_sent_keeps_its_later_bytes(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        handle = await world.create("log")
        await world.fs.write(handle, 0, b"one")
        await world.fs.flush(handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            await world.rename("log", "log.1")
            stopped.arrive()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await world.fs.write(handle, 3, b"two")
        await world.close(handle)
        assert await world.tree() == {"log.1": b"onetwo"}
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"log.1": b"onetwo"}


def test_a_file_renamed_and_written_while_it_is_sent_is_sent_whole(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        handle = await world.create("log")
        await world.fs.write(handle, 0, b"one")
        await world.close(handle)
        await stopped.sent()
        await world.rename("log", "log.1")
        handle = await world.open("log.1", os.O_WRONLY)
        await world.fs.write(handle, 0, b"ONE")
        debt = world.house.journal.latest("log")
        sent = next(d for d in world.house.journal.all() if d.key == "log")
        assert debt is not None
        assert sent.staged is not None
        assert sent.staged.read_data(0, 3) == b"one"  # its bytes do not change under way
        stopped.arrive()
        await world.close(handle)
        assert await world.drain()
        assert await world.tree() == {"log.1": b"ONE"}

    play(scene)
    assert bucket(store) == {"log.1": b"ONE"}


def test_dying_after_the_rename_of_a_file_that_is_being_sent(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """Its bytes are owed under both names, from one staged file."""

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("log", b"one")
        await stopped.sent()
        await world.rename("log", "log.1")

    async def after(world: World) -> None:
        assert await world.tree() == {"log.1": b"one"}
        assert await world.drain()
        assert await world.read("log.1") == b"one"

    play(before)
    play(after)
    assert bucket(store) == {"log.1": b"one"}


def test_a_file_rewritten_while_it_is_sent_and_then_renamed_leaves_nothing_behind(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("log", b"one")
        await stopped.sent()
        await world.write("log", b"two")
        await world.rename("log", "log.1")
        stopped.arrive()
        assert await world.drain()
        assert await world.tree() == {"log.1": b"two"}

    play(scene)
    assert bucket(store) == {"log.1": b"two"}


def test_fsync_of_a_renamed_file_waits_for_its_new_name(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"bytes")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await trio.sleep(0)
            await world.rename("a", "b")
        assert bucket(store)["b"] == b"bytes"

    play(scene, upload_delay_sec=NEVER_SEC)


def test_fsync_does_not_wait_for_another_writer(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        mine = await world.create("a")
        other = await world.open("a", os.O_WRONLY)
        await world.fs.write(mine, 0, b"mine")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, mine)
            await trio.sleep(0)
            await world.fs.write(other, 4, b"other")
        assert bucket(store)["a"].startswith(b"mine")

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_write_while_the_file_is_copied_is_renamed_too(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        handle = await world.open("a", os.O_WRONLY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.made()
            await world.fs.write(handle, 0, b"new")
            await world.close(handle)
            await trio.sleep(0.1)  # time enough to be sent under the old name
            stopped.go_on()
        assert await world.tree() == {"b": b"new"}
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"new"}


def test_a_write_below_a_directory_that_is_renamed_comes_along(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    for name in ("old/a", "old/sub/b"):
        put(store, name, b"old")

    async def scene(world: World) -> None:
        stopped = StoppedCopy(store)
        handle = await world.open("old/a", os.O_WRONLY)
        sub = await world.inode("old/sub")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "old", "new")
            await stopped.made()
            await world.fs.write(handle, 0, b"new")
            await world.close(handle)
            inode = await world.fs.names.mknod(sub, b"c", 0o100644, CALLER)
            await trio.sleep(0.1)
            stopped.go_on()
        expected = {"new/a": b"new", "new/sub/b": b"old", "new/sub/c": b""}
        assert inode.parent is not None
        assert {path: data for path, data in (await world.tree()).items() if data is not None} == (
            expected
        )
        assert await world.drain()

    play(scene)
    assert {key for key in bucket(store) if not key.endswith("/")} == {
        "new/a", "new/sub/b", "new/sub/c",
    }  # fmt: skip


def test_a_rename_over_a_file_that_is_being_written(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"a")
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        handle = await world.open("b", os.O_RDWR)
        await world.fs.write(handle, 0, b"b!")
        await world.rename("a", "b")
        assert await world.fs.read(handle, 0, 9) == b"b!"
        assert await world.tree() == {"b": b"a"}
        await world.fs.write(handle, 2, b"!")
        await world.close(handle)
        assert await world.drain()
        assert await world.tree() == {"b": b"a"}

    play(scene)
    assert bucket(store) == {"b": b"a"}


def test_a_name_that_was_lost_before_the_open_is_looked_up_again(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The kernel found the inode, then the file was replaced: ESTALE makes it look again."""

    async def scene(world: World) -> None:
        await world.write("a", b"old")
        found = await world.inode("a")
        found.lookups += 1  # as the kernel holds it between its lookup and its open
        await world.write("b", b"new")
        await world.rename("b", "a")
        with pytest.raises(Stale):
            await world.fs.open(found, os.O_RDONLY)
        with pytest.raises(Stale):
            await world.fs.lookup.getattr(found)
        assert await world.read("a") == b"new"

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_file_that_is_removed_while_it_is_being_opened_is_looked_up_again(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """Nobody had it open: its bytes are not kept, and it must not seem to be open."""
    store.clock = lambda: ALWAYS_NEW_SEC
    put(store, "a", b"bytes")

    async def scene(world: World) -> None:
        found = await world.inode("a")
        found.lookups += 1
        while world.fs.lookup.lasting.left_sec(found)[1]:
            await trio.sleep(0.01)
        stopped = StoppedPut(store, "head", "a")

        async def open_it() -> None:
            with pytest.raises(Stale):
                await world.fs.open(found, os.O_RDONLY)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_it)
            await stopped.sent()
            await world.unlink("a")
            stopped.arrive()
        assert await world.drain()

    play(scene, cache_ttl_sec=0.05)
    assert bucket(store) == {}


def test_a_directory_renamed_while_a_file_of_it_is_sent_leaves_no_name_behind(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The file's deletion comes after that of everything else, from a directory nobody listed."""
    put(store, "other/there")

    async def scene(world: World) -> None:
        await world.names()
        await world.mkdir("d")
        await world.drain()
        stopped = StoppedPut(store)
        await world.write("d/file", b"one")
        await stopped.sent()
        await world.rename("d", "e")
        stopped.arrive()
        assert await world.drain()
        assert await world.tree() == {
            "e": None,
            "e/file": b"one",
            "other": None,
            "other/there": b"x",
        }

    play(scene)
    assert {key for key in bucket(store) if not key.endswith("/")} == {"e/file", "other/there"}


def test_a_file_that_is_renamed_while_it_is_read_is_read_under_its_new_name(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """What was asked for under the old one arrives when there is nothing any more."""
    put(store, "a", b"bytes")

    async def scene(world: World) -> None:
        handle = await world.open("a")
        stopped = StoppedPut(store, "get")
        found: list[bytes] = []

        async def read() -> None:
            found.append(await world.fs.read(handle, 0, 100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stopped.sent()
            await world.rename("a", "b")
            assert await world.drain()
            stopped.arrive()
        assert found == [b"bytes"]
        await world.close(handle)

    play(scene)
    assert bucket(store) == {"b": b"bytes"}
