"""One program's request is overtaken by what another one does to the same name.

The answer of a HEAD, a GET or a copy comes when the file was written to, renamed or removed, its
directory was, or it was deleted or replaced elsewhere. Each has the bytes and the name that it
would have on a disk, and nobody waits for ever.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from qarnotfs.core.filesystem import Changes
from qarnotfs.core.inodes import Inode
from qarnotfs.errors import NoSuchEntry
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import ALWAYS_NEW_SEC, NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut

Play = Callable[..., None]
Act = Callable[[], Awaitable[object]]
SPIN_SEC = 30  # what never waits cannot be cancelled


@pytest.fixture(autouse=True)
def no_spinning() -> Iterator[None]:
    def end(*_: object) -> None:
        raise RuntimeError("It spins.")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SPIN_SEC)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def held(world: World, inode: Inode) -> Inode:
    """The kernel knows it."""
    inode.lookups += 1
    return inode


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: data for key, data in bucket(store).items() if data}


def mode_of(store: MemoryStore, key: str) -> str | None:
    return (store.head(key).result().metadata or {}).get("mode")


# --- an open file without a name gets one again ---


@pytest.mark.parametrize("how", ["renamed", "removed"])
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_file_deleted_elsewhere_and_written_here_is_one_file(
    is_closed: bool, how: str, store: MemoryStore, play: Play
) -> None:
    """Who looks at its name, and moves it, means the one that is being written."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        await world.fs.write(handle, 0, b"one")
        if is_closed:
            await world.fs.flush(handle)  # of one of two descriptors
        await world.inode("a")
        if how == "renamed":
            await world.rename("a", "b")
        else:
            await world.unlink("a")
        await world.fs.write(handle, 3, b"two")
        await world.fs.fsync(handle)
        assert await world.fs.read(handle, 0, 9) == b"onetwo"
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == ({"b": b"onetwo"} if how == "renamed" else {})


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_a_conflict_that_is_still_written_is_moved(
    how: str, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        put(store, "a", b"theirs")
        assert await world.read("a") == b"theirs"
        await world.fs.write(handle, 0, b"one")
        await world.fs.flush(handle)
        (beside,) = world.house.uploader.conflicts
        await world.inode(beside)
        if how == "renamed":
            await world.rename(beside, "mine")
        else:
            await world.unlink(beside)
        await world.fs.write(handle, 3, b"two")
        await world.fs.fsync(handle)
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)
    mine = {"mine": b"onetwo"} if how == "renamed" else {}
    assert bucket(store) == {"a": b"theirs"} | mine


def test_a_reader_does_not_wait_for_another_programs_file(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        writer = await world.open("a", os.O_RDWR)
        store.delete(["a"])
        with pytest.raises(NoSuchEntry):
            await world.inode("a")
        put(store, "a", b"new")
        reader = await world.open("a", os.O_RDWR)
        await world.fs.write(writer, 0, b"one")
        await world.fs.flush(writer)
        await world.fs.write(writer, 0, b"two")
        with trio.fail_after(30):
            await world.fs.fsync(reader)

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


def test_the_mode_of_a_file_stored_beside_is_kept(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        inode = await world.inode("a")
        put(store, "a", b"new")
        assert await world.read("a") == b"new"
        await world.fs.write(handle, 0, b"mine")
        await world.fs.flush(handle)
        await world.fs.setattr(inode, Changes(mode=0o600))
        await world.close(handle)
        assert await world.drain()
        (beside,) = world.house.uploader.conflicts
        assert mode_of(store, "a") is None
        assert mode_of(store, beside) == str(stat.S_IFREG | 0o600)

    play(scene, cache_ttl_sec=0, upload_delay_sec=NEVER_SEC)


# --- a HEAD is under way ---


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("ttl_sec", [0, 0.05])
def test_a_look_that_takes_long_does_not_undo_a_write(
    ttl_sec: float, is_closed: bool, store: MemoryStore, play: Play
) -> None:
    store.clock = lambda: ALWAYS_NEW_SEC
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        inode = await world.inode("a")
        while world.fs.lookup.lasting.left_sec(inode)[1]:
            await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            stopped = StoppedPut(store, "head")
            nursery.start_soon(world.inode, "a")
            await stopped.sent()
            await world.fs.write(handle, 0, b"new")
            if is_closed:
                await world.close(handle)
            stopped.arrive()
        # What the kernel has for the name, without another look.
        other = await world.fs.open(world.fs.lookup.inodes.root.children[b"a"], os.O_RDWR)
        assert await world.fs.read(other, 0, 100) == b"new"
        await world.fs.write(other, 3, b"er")
        await world.close(other)
        if not is_closed:
            await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=ttl_sec, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"newer"}


async def overtaken_by_rename(
    world: World, store: MemoryStore, old: str, act: Act, waits_for: str = ""
) -> None:
    """``old`` becomes ``e`` (and its copy is made) while ``act`` waits for the answer of a HEAD."""

    async def acting() -> None:
        await act()

    stopped = StoppedCopy(store)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as inner:
            inner.start_soon(world.rename, old, "e")
            await stopped.made()
            head = StoppedPut(store, "head", waits_for)
            nursery.start_soon(acting)
            with trio.fail_after(30):
                await head.sent()
            stopped.go_on()
        head.arrive()


def test_a_file_is_renamed_while_it_is_opened(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        inode, handles = held(world, await world.inode("a")), list[int]()

        async def act() -> None:
            handles.append(await world.fs.open(inode, os.O_RDWR))

        await overtaken_by_rename(world, store, "a", act)
        await world.fs.write(handles[0], 0, b"new")
        await world.close(handles[0])
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert bucket(store) == {"e": b"new"}


def test_a_file_is_renamed_while_its_mode_is_changed(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        inode = held(world, await world.inode("a"))
        await overtaken_by_rename(
            world, store, "a", lambda: world.fs.setattr(inode, Changes(mode=0o600))
        )
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert mode_of(store, "e") == str(stat.S_IFREG | 0o600)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_directory_is_renamed_while_a_name_in_it_is_looked_up(
    is_known: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"old" * 2000)
    put(store, "d/y", b"y")

    async def scene(world: World) -> None:
        directory, found = await world.inode("d"), list[Inode]()
        if is_known:
            held(world, await world.inode("d/x"))
        else:
            await world.names("d")

        async def act() -> None:
            found.append(await world.fs.lookup.lookup(directory, b"x"))

        await overtaken_by_rename(world, store, "d", act, "d/x")
        handle = await world.fs.open(found[0], os.O_WRONLY)
        await world.fs.write(handle, 0, b"new")
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0 if is_known else 60)
    assert files(store) == {"e/x": b"new" + b"old" * 1999, "e/y": b"y"}


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_directory_is_renamed_while_a_file_in_it_is_looked_for(
    how: str, store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"x")
    put(store, "d/y", b"y")

    async def scene(world: World) -> None:
        directory, root = await world.inode("d"), world.fs.lookup.inodes.root
        held(world, await world.inode("d/x"))

        async def act() -> None:
            if how == "removed":
                await world.fs.names.unlink(directory, b"x")
            else:
                await world.fs.names.rename((directory, b"x"), (root, b"z"), replace_target=True)

        await overtaken_by_rename(world, store, "d", act, "d/x")
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert files(store) == {"e/y": b"y"} | ({"z": b"x"} if how == "renamed" else {})


def test_a_directory_is_renamed_while_a_file_is_moved_into_it(
    store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"old")
    put(store, "d/y", b"y")
    put(store, "z", b"z")

    async def scene(world: World) -> None:
        directory, root = await world.inode("d"), world.fs.lookup.inodes.root

        async def act() -> None:
            await world.fs.names.rename((root, b"z"), (directory, b"x"), replace_target=True)

        await overtaken_by_rename(world, store, "d", act, waits_for="d/x")
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert files(store) == {"e/x": b"z", "e/y": b"y"}


# --- a copy is under way ---


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_what_leaves_a_directory_while_it_is_copied_is_not_in_the_copy(
    how: str, store: MemoryStore, play: Play
) -> None:
    put(store, "d/x", b"x")
    put(store, "d/y", b"y")

    async def scene(world: World) -> None:
        directory, root = await world.inode("d"), world.fs.lookup.inodes.root
        held(world, await world.inode("d/x"))
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "d", "e")
            await stopped.made()
            if how == "removed":
                await world.fs.names.unlink(directory, b"x")
            else:
                await world.fs.names.rename((directory, b"x"), (root, b"z"), replace_target=True)
            stopped.go_on()
        assert await world.drain()

    play(scene)
    assert files(store) == {"e/y": b"y"} | ({"z": b"x"} if how == "renamed" else {})


def test_what_is_written_to_a_file_while_another_takes_its_name_is_there(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"a")
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        handle = await world.open("b", os.O_RDWR)
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.made()
            await world.fs.write(handle, 0, b"before")
            stopped.go_on()
        await world.fs.write(handle, 6, b"after")
        assert await world.fs.read(handle, 0, 99) == b"beforeafter"
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"a"}


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_name_is_looked_at_while_it_is_taken(
    is_replaced: bool, store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"a")
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        await world.open("b")
        await world.inode("a")
        stopped = StoppedPut(store, "copy_object")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await stopped.sent()
            if is_replaced:
                put(store, "b", b"theirs")
            await world.inode("b")
            stopped.arrive()
        assert await world.tree() == {"b": b"a"}

    play(scene, cache_ttl_sec=0)
