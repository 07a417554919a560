"""The objects that keep directories, also where others stored some, or nobody can be asked."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from qarnotfs.core.filesystem import Changes
from qarnotfs.core.inodes import Inode
from qarnotfs.errors import NoSpace, Unavailable
from qarnotfs.store.base import Capabilities
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut

Play = Callable[..., None]
Act = Callable[[World], Awaitable[object]]

WEAK = Capabilities(put_if_absent=False, put_if_match="no")
THEIRS = str(stat.S_IFDIR | 0o700)


async def chmod(world: World) -> None:
    await world.fs.setattr(await world.inode("d"), Changes(mode=0o711))


async def make(world: World) -> None:
    await world.mkdir("d")


async def make_and_chmod(world: World) -> None:
    await world.mkdir("d")
    await chmod(world)


async def empty(world: World) -> None:
    await world.unlink("d/x")


def mode(store: MemoryStore, key: str) -> int:
    metadata = store.head(key).result().metadata
    assert metadata
    return stat.S_IMODE(int(metadata["mode"]))


@pytest.mark.parametrize("capabilities", [MemoryStore().capabilities, WEAK], ids=["able", "weak"])
@pytest.mark.parametrize("on_conflict", ["keep-both", "overwrite"])
@pytest.mark.parametrize(
    ("act", "before"),
    [(make, None), (make_and_chmod, None), (empty, "d/x"), (chmod, "d/x"), (chmod, "d/")],
)
def test_what_others_stored_under_its_name_keeps_its_bytes(
    store: MemoryStore,
    play: Play,
    act: Act,
    before: str | None,
    on_conflict: str,
    capabilities: Capabilities,
) -> None:
    store.capabilities = capabilities
    if before:
        put(store, before, b"")

    async def scene(world: World) -> None:
        if before:
            await world.names("d")
            await world.inode("d")
        await world.names()
        put(store, "d/", b"theirs", mode=THEIRS)
        await act(world)
        assert await world.drain()
        kept = {"d/x": b""} if before == "d/x" and act is chmod else {}
        assert bucket(store) == {"d/": b"theirs", **kept}
        assert mode(store, "d/") == (0o700 if act in (make, empty) else 0o711)
        assert not world.house.uploader.conflicts

    play(scene, upload_delay_sec=NEVER_SEC, on_conflict=on_conflict)


@pytest.mark.parametrize(("act", "expected"), [(make, 0o700), (make_and_chmod, 0o711)])
def test_attributes_of_a_directory_that_others_made_too(
    store: MemoryStore, play: Play, act: Act, expected: int
) -> None:
    async def scene(world: World) -> None:
        await world.names()
        put(store, "d/", b"", mode=THEIRS)
        await act(world)
        assert await world.drain()
        assert mode(store, "d/") == expected
        assert stat.S_IMODE((await world.inode("d")).posix.mode) == expected
        assert list(bucket(store)) == ["d/"]

    play(scene, upload_delay_sec=NEVER_SEC)


def test_attributes_that_changed_behind_a_lost_answer_are_stored(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.mkdir("d")
        await stopped.sent()
        stopped.arrive_unheard()
        stopped.fail()
        while world.house.journal.is_paying("d/"):
            await trio.sleep(0.001)
        await chmod(world)
        assert await world.drain()
        assert mode(store, "d/") == 0o711

    play(scene)


def test_what_others_stored_is_spared_when_the_directory_is_removed_while_it_is_made(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        await world.names()
        put(store, "d/", b"theirs")
        stopped = StoppedPut(store)
        await world.mkdir("d")
        await stopped.sent()
        await world.rmdir("d")
        stopped.arrive()
        assert await world.drain()
        assert bucket(store) == {"d/": b"theirs"}

    play(scene)


def test_a_directory_that_is_removed_at_once_costs_no_look(store: MemoryStore, play: Play) -> None:
    put(store, "d/x", b"")

    async def scene(world: World) -> None:
        await world.unlink("d/x")
        await world.rmdir("d")
        assert await world.names() == []
        store.calls.clear()
        assert await world.drain()
        assert [call for call in store.calls if call[0] == "head"] == []
        assert bucket(store) == {}

    play(scene, upload_delay_sec=NEVER_SEC)


def test_new_attributes_of_a_known_directory_are_one_copy(store: MemoryStore, play: Play) -> None:
    put(store, "d/", b"", mode=THEIRS)

    async def scene(world: World) -> None:
        await world.inode("d")
        await chmod(world)
        store.calls.clear()
        assert await world.drain()
        assert [call[0] for call in store.calls] == ["copy_object"]
        assert mode(store, "d/") == 0o711

    play(scene, upload_delay_sec=NEVER_SEC)


async def remove_below(world: World) -> None:
    await world.rmdir("d/x")


async def move_out(world: World) -> None:
    await world.rename("d/x", "y")


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("broken", ["bucket", "disk"])
@pytest.mark.parametrize("act", [empty, move_out, remove_below])
def test_what_has_happened_is_not_said_to_have_failed(
    store: MemoryStore,
    play: Play,
    clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    broken: str,
    marked: bool,
) -> None:
    put(store, "d/x/" if act is remove_below else "d/x", b"")
    if marked:
        put(store, "d/", b"", mode=THEIRS)

    def fail(*_: object, **__: object) -> NoReturn:
        raise Unavailable("not now") if broken == "bucket" else NoSpace("full")

    async def scene(world: World) -> None:
        real = world.fs.names._keep_directory

        async def keep(inode: Inode) -> None:
            with monkeypatch.context() as patch:
                if broken == "bucket":
                    patch.setattr(store, "faults", fail)
                else:
                    patch.setattr(world.house.journal._records, "change", fail)
                await real(inode)

        await world.inode("d/x")
        monkeypatch.setattr(world.fs.names, "_keep_directory", keep)
        await act(world)
        assert await world.drain()
        assert set(bucket(store)) - {"y"} == ({"d/"} if marked or broken == "bucket" else set())
        if marked:
            assert mode(store, "d/") == 0o700

    play(scene, clock, cache_ttl_sec=0, io_timeout_sec=0.3, upload_delay_sec=NEVER_SEC)
