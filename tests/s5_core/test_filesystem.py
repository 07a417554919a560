"""What the file system does, without a kernel: names, versions, debts, and time."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from trio.testing import MockClock

from qarnotfs.errors import (
    CredentialsRejected,
    DirectoryNotEmpty,
    EntryExists,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
    NotPermitted,
    NotUploaded,
    QarnotfsError,
    ReadOnly,
    Stale,
    Unavailable,
)
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from tests.s5_core.house import NEVER_SEC, World, bucket, put


def test_what_is_closed_arrives(store: MemoryStore, play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        await world.mkdir("d")
        await world.write("d/a", b"bytes")
        assert await world.tree() == {"d": None, "d/a": b"bytes"}
        assert await world.drain()
        assert await world.tree() == {"d": None, "d/a": b"bytes"}

    play(scene)
    assert bucket(store) == {"d/": b"", "d/a": b"bytes"}


def test_what_was_closed_survives_the_daemon(store: MemoryStore, play: Callable[..., None]) -> None:
    async def before(world: World) -> None:
        await world.write("a", b"bytes")

    async def after(world: World) -> None:
        assert await world.tree() == {"a": b"bytes"}
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {}
    play(after)
    assert bucket(store) == {"a": b"bytes"}


def test_a_part_of_an_object_is_changed(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a", b"0123456789")

    async def scene(world: World) -> None:
        await world.write("a", b"XY", 4)
        assert await world.read("a") == b"0123XY6789"
        await world.drain()
        await world.write("a", b"!", 10)
        await world.drain()
        assert await world.read("a") == b"0123XY6789!"

    play(scene)
    assert bucket(store) == {"a": b"0123XY6789!"}


def test_temporaries_of_editors_never_reach_the_bucket(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "file", b"old")

    async def scene(world: World) -> None:
        await world.write("file.tmp", b"new")
        await world.rename("file.tmp", "file")
        assert await world.tree() == {"file": b"new"}
        assert await world.drain()
        assert await world.tree() == {"file": b"new"}

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"file": b"new"}
    assert not [call for call in store.calls if "file.tmp" in str(call) and "put" in str(call)]


def test_rename_of_an_object_copies_then_deletes(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"bytes", mode="33261")
    put(store, "d/b", b"other")

    async def scene(world: World) -> None:
        await world.rename("a", "d/b")
        assert await world.tree() == {"d": None, "d/b": b"bytes"}
        assert (await world.inode("d/b")).posix.mode == 0o100755
        assert await world.drain()
        assert await world.tree() == {"d": None, "d/b": b"bytes"}

    play(scene)
    assert bucket(store) == {"d/b": b"bytes"}


def test_rename_of_a_directory_moves_everything(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "old/", b"")
    put(store, "old/a", b"1")
    put(store, "old/sub/b", b"2")

    async def scene(world: World) -> None:
        await world.write("old/new", b"3")
        await world.rename("old", "fresh")
        files = {"fresh/a": b"1", "fresh/new": b"3", "fresh/sub/b": b"2"}
        expected = {"fresh": None, "fresh/sub": None, **files}
        assert await world.tree() == expected
        assert await world.drain()
        assert await world.tree() == expected
        await world.mkdir("old")
        assert await world.names("old") == []

    play(scene)
    assert {key for key in bucket(store) if not key.endswith("/")} == {
        "fresh/a", "fresh/new", "fresh/sub/b",
    }  # fmt: skip


def test_rename_while_the_file_is_open(store: MemoryStore, play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"one")
        await world.rename("a", "b")
        await world.fs.write(handle, 3, b"two")
        await world.close(handle)
        assert await world.tree() == {"b": b"onetwo"}
        await world.drain()

    play(scene)
    assert bucket(store) == {"b": b"onetwo"}


def test_a_directory_that_is_emptied_stays(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "d/a")
    put(store, "d/b")

    async def scene(world: World) -> None:
        await world.unlink("d/a")
        await world.unlink("d/b")
        assert await world.tree() == {"d": None}
        await world.drain()
        assert await world.tree() == {"d": None}
        await world.rmdir("d")
        assert await world.tree() == {}
        await world.drain()
        assert await world.tree() == {}

    play(scene)
    assert bucket(store) == {}


def test_refusals(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "d/a")
    put(store, "file")

    async def scene(world: World) -> None:
        refused: list[tuple[type[QarnotfsError], Callable[[], Awaitable[object]]]] = [
            (DirectoryNotEmpty, lambda: world.rmdir("d")),
            (IsADirectory, lambda: world.unlink("d")),
            (NotADirectory, lambda: world.rmdir("file")),
            (NoSuchEntry, lambda: world.unlink("none")),
            (EntryExists, lambda: world.mkdir("file")),
            (EntryExists, lambda: world.create("file")),
            (IsADirectory, lambda: world.rename("file", "d")),
            (NotADirectory, lambda: world.rename("d", "file")),
        ]
        for error, attempt in refused:
            with pytest.raises(error):
                await attempt()

    play(scene)
    assert set(bucket(store)) == {"d/a", "file"}


def test_a_deleted_file_is_readable_while_it_is_open(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"bytes")
        await world.unlink("a")
        assert await world.tree() == {}
        await world.fs.write(handle, 5, b"!")
        assert await world.fs.read(handle, 0, 100) == b"bytes!"
        await world.close(handle)
        assert await world.drain()
        assert not list(world.house.journal.staging.directory.iterdir())

    play(scene)
    assert bucket(store) == {}


def test_a_view_shows_and_stores_under_its_prefix(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "p/a", b"1")
    put(store, "other", b"2")

    async def scene(world: World) -> None:
        assert await world.tree() == {"a": b"1"}
        await world.write("new", b"3")
        await world.mkdir("d")
        await world.write("d/x", b"4")
        await world.drain()

    play(scene, view=View("p/", "p/"))
    assert bucket(store) == {
        "p/a": b"1", "p/new": b"3", "p/d/": b"", "p/d/x": b"4", "other": b"2",
    }  # fmt: skip


def test_outside_a_filter_nothing_is_written(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a/b/image1", b"1")

    async def scene(world: World) -> None:
        assert await world.tree() == {"a": None, "a/b": None, "a/b/image1": b"1"}
        for attempt in (world.create("x"), world.mkdir("a/y"), world.rename("a/b/image1", "z")):
            with pytest.raises(NotPermitted):
                await attempt
        await world.write("a/b/image2", b"2")
        assert await world.drain()

    play(scene, view=View("a/b/im"))
    assert bucket(store) == {"a/b/image1": b"1", "a/b/image2": b"2"}


@pytest.mark.decision(2)
def test_a_replaced_object_is_stale_for_who_reads_the_old_one(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"old" * 500_000)

    async def scene(world: World) -> None:
        handle = await world.open("a")
        put(store, "a", b"new")
        with pytest.raises(Stale):
            await world.fs.read(handle, 0, 100)
        assert await world.read("a") == b"new"
        await world.close(handle)

    play(scene, cache_ttl_sec=0, cache_bytes_max=0)


def test_both_survive_when_two_write_the_same_file(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        await world.write("a", b"ours")
        put(store, "a", b"theirs")
        assert await world.drain()
        names = await world.names()
        assert names[0] == "a"
        assert names[1].startswith("a.conflict-")
        assert await world.read("a") == b"theirs"
        assert await world.read(names[1]) == b"ours"
        assert world.house.uploader.conflicts == [names[1]]

    play(scene, upload_delay_sec=NEVER_SEC)
    assert sorted(bucket(store).values()) == [b"ours", b"theirs"]


def test_the_last_writer_wins_when_asked_to(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        await world.write("a", b"ours")
        put(store, "a", b"theirs")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC, on_conflict="overwrite")
    assert bucket(store) == {"a": b"ours"}


def test_a_refused_upload_is_said_kept_and_tried_again(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def refused(world: World) -> None:
        store.faults = lambda method, key: CredentialsRejected("No.") if method == "put" else None
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"bytes")
        with pytest.raises(NotUploaded):
            await world.fs.fsync(handle)
        with pytest.raises(NotUploaded):
            await world.fs.flush(handle)
        await world.fs.release(handle)
        assert not await world.drain()
        assert await world.read("a") == b"bytes"

    async def allowed(world: World) -> None:
        assert await world.drain()

    play(refused)
    store.faults = lambda *_: None
    play(allowed)
    assert bucket(store) == {"a": b"bytes"}


def test_an_upload_that_arrived_unheard_is_no_conflict(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The put is carried out, its answer lost: trying again finds our own bytes."""
    lost: list[str] = []

    async def scene(world: World) -> None:
        real_put = store.put

        def put_unheard(*args: Any, **kwargs: Any) -> Any:
            flight = real_put(*args, **kwargs)
            if lost:
                return flight
            lost.append("answer")
            return type(flight).failed(Unavailable("reset"))

        store.put = put_unheard  # type: ignore[method-assign]  # the network's part
        await world.write("a", b"bytes")
        assert await world.drain()

    play(scene)
    assert lost
    assert bucket(store) == {"a": b"bytes"}


@pytest.mark.decision(11)
def test_a_failure_of_the_bucket_is_never_an_absence(
    store: MemoryStore, play: Callable[..., None], clock: MockClock
) -> None:
    put(store, "a")

    async def scene(world: World) -> None:
        store.faults = lambda *_: Unavailable("503")
        for attempt in (world.inode("a"), world.names(), world.create("b")):
            with pytest.raises(Unavailable):
                await attempt
        store.faults = lambda *_: None
        assert await world.tree() == {"a": b"x"}

    play(scene, clock, io_timeout_sec=0.3)


def test_a_read_only_mount_changes_nothing(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a")

    async def scene(world: World) -> None:
        for attempt in (
            world.create("b"), world.mkdir("d"), world.unlink("a"), world.rename("a", "b"),
            world.open("a", os.O_RDWR),
        ):  # fmt: skip
            with pytest.raises(ReadOnly):
                await attempt

    play(scene, read_only=True)
    assert bucket(store) == {"a": b"x"}


@pytest.mark.parametrize("theirs", [b"theirs", None])
def test_what_is_written_to_a_file_that_was_replaced_elsewhere_is_kept(
    store: MemoryStore, play: Callable[..., None], theirs: bytes | None
) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_RDWR)
        if theirs is None:
            store.delete(["a"])
        else:
            put(store, "a", theirs)
        await world.names()
        assert ("a" in await world.names()) == (theirs is not None)
        if theirs is not None:
            assert await world.read("a") == theirs
        await world.fs.write(handle, 0, b"ours")
        await world.close(handle)
        assert await world.drain()

    play(scene, cache_ttl_sec=0)
    assert sorted(bucket(store).values()) == ([b"ours", theirs] if theirs else [b"ours"])
