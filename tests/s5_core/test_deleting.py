"""Deletions that come late, and what somebody else stored under the name meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from qarnotfs.errors import Unavailable
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import uploader
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut


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


def test_deletions_have_their_turn_while_files_are_written_all_the_time(
    store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "UPLOADS_MAX", 1)
    for number in range(3):
        put(store, f"old{number}")

    async def scene(world: World) -> None:
        await world.names()
        stopped = StoppedPut(store)
        await world.write("first", b"x")
        await stopped.sent()
        for number in range(3):
            await world.unlink(f"old{number}")
            await world.write(f"new{number}", b"x")
        store.calls.clear()
        stopped.arrive()
        assert await world.drain()
        order = [(method, key) for method, key in store.calls if method in ("put", "delete")]
        assert order == [
            ("put", "first"),
            ("delete", ""),
            *(("put", f"new{number}") for number in range(3)),
        ]

    play(scene)


@pytest.mark.decision(10)
def test_an_object_that_somebody_reads_stays_until_that_ends(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The reader has not fetched all of it yet."""
    body = bytes(range(256)) * 40_000
    put(store, "a", body)

    async def scene(world: World) -> None:
        reader, again = await world.open("a"), await world.open("a")
        assert await world.fs.read(reader, 0, 4) == body[:4]
        await world.unlink("a")
        await world.write("later", b"1")
        while "later" not in bucket(store):
            await trio.sleep(0.01)
        assert await world.names() == ["later"]
        await world.close(reader)
        assert await world.fs.read(again, 5_000_000, 5_240_000) == body[5_000_000:]
        await world.close(again)
        while "a" in bucket(store):
            await trio.sleep(0.01)

    play(scene, upload_delay_sec=0.01)
    assert bucket(store) == {"later": b"1"}


@pytest.mark.decision(10)
@pytest.mark.parametrize("is_open", [False, True], ids=["other", "only"])
def test_so_it_does_while_another_program_waits_for_room(
    store: MemoryStore, play: Callable[..., None], is_open: bool
) -> None:
    """To delete it would make none."""
    body = bytes(range(256)) * 10_000
    put(store, "a", body)

    async def scene(world: World) -> None:
        reader = await world.open("a")
        await world.unlink("a")
        if is_open:  # nothing else can be paid
            writer = await world.create("b")
            await world.fs.write(writer, 0, b"1" * 1000)
            await world.fs.write(writer, 1000, b"2")
            await world.close(writer)
        else:
            await world.write("b", b"1" * 1000)
            await world.write("c", b"2")
            assert bucket(store)["b"] == b"1" * 1000
        assert await world.fs.read(reader, 2_000_000, 4) == body[2_000_000:2_000_004]
        assert await world.drain()
        assert "a" not in bucket(store)

    play(scene, dirty_bytes_max=500, upload_delay_sec=NEVER_SEC, cache_bytes_max=0)


@pytest.mark.decision(10)
def test_so_it_does_for_who_has_changed_a_part_of_it(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    body = bytes(range(256)) * 40_000
    put(store, "a", body)

    async def scene(world: World) -> None:
        writer = await world.open("a", os.O_RDWR)
        await world.unlink("a")
        await world.fs.write(writer, 3, b"xyz")
        await world.write("later", b"1")
        while "later" not in bucket(store):
            await trio.sleep(0.01)
        assert await world.fs.read(writer, 0, len(body)) == body[:3] + b"xyz" + body[6:]
        await world.close(writer)
        await drain(world)

    play(scene, upload_delay_sec=0.01)
    assert bucket(store) == {"later": b"1"}


@pytest.mark.decision(10)
@pytest.mark.parametrize("unlinked", ["before", "after"])
def test_so_it_does_for_who_changes_it_while_it_is_sent(
    unlinked: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    """What he has not changed, and has not read yet, is that of the version that arrives."""
    body = random.Random(1).randbytes(20 << 20)
    put(store, "a", body)

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        await world.fs.write(handle, 0, b"one")
        stopped = StoppedPut(store, "upload_part")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, handle)
            await stopped.sent()
            if unlinked == "before":
                await world.unlink("a")
            await world.fs.write(handle, 4, b"two")
            if unlinked == "after":
                await world.unlink("a")
            stopped.arrive()
        while world.house.journal.is_paying("a"):
            await trio.sleep(0.01)
        assert await world.fs.read(handle, 0, 8) == b"one" + body[3:4] + b"two" + body[7:8]
        assert await world.fs.read(handle, len(body) - 100, 100) == body[-100:]
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_bytes_max=0)
    assert bucket(store) == {}


@pytest.mark.decision(4)
def test_what_was_stored_while_it_was_read_is_spared(
    store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.writeback.uploader.LATE_SEC", 0.1)
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        reader = await world.open("a")
        await world.unlink("a")
        await trio.sleep(0.2)
        put(store, "a", b"theirs")
        await world.close(reader)
        await drain(world)

    play(scene)
    assert bucket(store) == {"a": b"theirs"}


async def write_anew(world: World) -> None:
    await world.write("d/a", b"new")


async def move_the_directory(world: World) -> None:
    await world.rename("d", "e")


async def remove_the_directory(world: World) -> None:
    await world.rmdir("d")


async def take_its_name(world: World) -> None:
    await world.write("other", b"new")
    await world.rename("other", "d/a")


@pytest.mark.decision(10)
@pytest.mark.parametrize(
    ("act", "left"),
    [
        (write_anew, {"d/": b"", "d/a": b"new"}),
        (move_the_directory, {"e/": b""}),
        (remove_the_directory, {}),
        (take_its_name, {"d/": b"", "d/a": b"new"}),
    ],
)
@pytest.mark.parametrize("dies", [False, True])
def test_what_else_happens_where_an_object_waits_for_its_end(
    act: Callable[[World], Awaitable[None]],
    left: dict[str, bytes],
    dies: bool,
    store: MemoryStore,
    play: Callable[..., None],
) -> None:
    put(store, "d/a", b"old")

    async def scene(world: World) -> None:
        reader = await world.open("d/a")
        await world.unlink("d/a")
        await act(world)
        if not dies:
            await world.close(reader)
            await drain(world)

    play(scene)
    play(drain)
    assert bucket(store) == left


@pytest.mark.parametrize("name", [".a.Ab12Cd", "tmp_obj_Ab12Cd", "sedAb12Cd", "index.lock", "a~"])
def test_a_temporary_file_waits_longer_until_it_is_renamed(
    name: str, store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        journal = world.house.journal
        await world.write(name, b"x")
        temporary = journal.latest(name)
        assert temporary
        assert temporary.not_before_sec > trio.current_time() + 5 * NEVER_SEC
        await world.rename(name, "a")
        renamed = journal.latest("a")
        assert renamed
        assert renamed.not_before_sec <= trio.current_time() + NEVER_SEC

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_directory_is_removed_again_while_its_first_end_is_tried_again(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "d/", b"")

    async def scene(world: World) -> None:
        store.faults = lambda method, _: Unavailable("no") if method == "delete" else None
        await world.rmdir("d")
        debt = world.house.journal.latest("d/")
        while debt and not debt.attempts:
            await trio.sleep(0.001)
        await world.mkdir("d")
        await world.rmdir("d")
        store.faults = lambda *_: None
        await drain(world)

    play(scene)
    assert bucket(store) == {}
