"""What happens when something fails: refusals, full disks, lost answers, sudden death.

Each scene stops one call of the store in the middle, or makes it fail, and does to the same
file what another program could. Nothing accepted may be lost, mixed, or waited for for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import CredentialsRejected, NoSpace, NotUploaded, Unavailable
from qarnotfs.store.base import Attributes, Flight
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedCopy, StoppedPut


def full(*_: object, **__: object) -> None:
    raise NoSpace("The disk that holds the journal is full.")


def test_a_rename_that_fails_leaves_what_it_would_have_replaced(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"a")

    async def scene(world: World) -> None:
        await world.write("b", b"b")
        store.faults = lambda method, _: (
            CredentialsRejected("No.") if method == "copy_object" else None
        )
        with pytest.raises(CredentialsRejected):
            await world.rename("a", "b")
        store.faults = lambda *_: None
        assert await world.tree() == {"a": b"a", "b": b"b"}
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"a", "b": b"b"}


def test_a_refused_upload_does_not_hold_up_a_newer_one(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"one")
        await stopped.sent()
        await world.write("a", b"two")
        store.faults = lambda method, _: CredentialsRejected("No.") if method == "put" else None
        stopped.arrive()
        await trio.sleep(0.1)
        store.faults = lambda *_: None
        await world.write("a", b"three")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"three"}


def test_a_deletion_behind_a_refused_upload_ends_the_drain(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        await world.write("a", b"new")
        await world.rename("a", "b")
        store.faults = lambda method, _: CredentialsRejected("No.") if method == "put" else None
        assert not await world.drain()
        assert await world.read("b") == b"new"

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"old"}


def test_a_flush_does_not_wait_for_open_files(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("open")
        await world.fs.write(handle, 0, b"half")
        held = await world.create("held")
        await world.fs.write(held, 0, b"whole")
        await world.fs.flush(held)
        await world.house.uploader.drain()
        assert bucket(store) == {"held": b"whole"}

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_writer_does_not_wait_for_itself(store: MemoryStore, play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"x" * 100)
        await world.fs.flush(handle)
        await world.fs.write(handle, 100, b"y")
        await world.fs.write(handle, 101, b"z")
        await world.close(handle)
        assert await world.drain()

    play(scene, dirty_bytes_max=50, upload_delay_sec=NEVER_SEC)
    assert len(bucket(store)["a"]) == 102


def test_a_full_debt_that_is_refused_is_an_error_not_a_hang(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        store.faults = lambda method, _: CredentialsRejected("No.") if method == "put" else None
        await world.write("a", b"x" * 100)
        await world.drain()
        with pytest.raises(NoSpace):
            await world.write("b", b"x")

    play(scene, dirty_bytes_max=50)


def test_a_file_that_the_server_never_takes_stops_no_writer(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    def fails(method: str, key: str) -> Exception | None:
        return Unavailable("500") if (method, key) == ("put", "poison") else None

    store.faults = fails

    async def scene(world: World) -> None:
        await world.write("poison", b"x" * 20)
        handle = await world.create(".file.AbC123")  # rsync's: it is not sent early
        for number in range(100):
            await world.fs.write(handle, number, b"y")
        await world.close(handle)

    play(scene, dirty_bytes_max=50)


def test_a_writer_waits_for_much_though_the_server_does_not_answer(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    store.faults = lambda method, _: Unavailable("503") if method == "put" else None

    async def scene(world: World) -> None:
        await world.write("closed", b"x" * 40)
        handle = await world.create("open")
        await world.fs.write(handle, 0, b"y" * 20)
        with trio.move_on_after(0.3) as waited:
            await world.fs.write(handle, 20, b"y")
        assert waited.cancelled_caught
        store.faults = lambda *_: None
        await world.fs.write(handle, 20, b"y")

    play(scene, dirty_bytes_max=50)


def test_what_somebody_waits_for_is_renamed_while_it_is_sent(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """He waits for the end of its first name, and that for it under whichever name it has."""
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        await world.write("a", b"new")
        await world.rename("a", "b")
        end = world.house.journal.latest("a")
        assert end
        stopped = StoppedPut(store)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.house.uploader.settle, end)
                await stopped.sent()
                await world.rename("b", "c")
                stopped.arrive()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert "a" not in bucket(store)
    assert bucket(store)["c"] == b"new"


def test_two_closes_at_once_record_once(store: MemoryStore, play: Callable[..., None]) -> None:
    put(store, "a", b"0123456789")

    async def scene(world: World) -> None:
        one, two = await world.open("a", os.O_WRONLY), await world.open("a", os.O_WRONLY)
        await world.fs.write(one, 2, b"X")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.fsync, one)
            nursery.start_soon(world.fs.fsync, two)
        await world.close(one)
        await world.close(two)
        assert await world.drain()
        assert not world.house.journal.count
        assert world.house.journal.bytes_owed == 0

    play(scene, cache_bytes_max=0)
    assert bucket(store) == {"a": b"01X3456789"}


def test_a_file_renamed_while_it_is_closed_is_recorded(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"0123456789")

    async def scene(world: World) -> None:
        one = await world.open("a", os.O_WRONLY)
        await world.fs.write(one, 2, b"X")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.flush, one)
            await trio.sleep(0)
            await world.rename("a", "b")
        debt = world.house.journal.latest("b")
        assert debt is not None
        assert debt.recorded
        assert debt.seal is not None

    async def after(world: World) -> None:
        assert await world.drain()

    play(scene, cache_bytes_max=0, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"01X3456789"}


def test_dying_after_the_rename_of_an_open_file_loses_no_object(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"0123456789")

    async def before(world: World) -> None:
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 2, b"X")
        await world.rename("a", "b")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before, upload_delay_sec=NEVER_SEC)
    play(after)
    assert bucket(store) == {"b": b"01X3456789"}


def test_a_deleted_file_whose_upload_may_have_arrived_is_deleted(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    real = store.put

    def unheard(*args: Any, **kwargs: Any) -> Flight[str]:
        real(*args, **kwargs)
        return Flight.failed(Unavailable("reset"))

    async def scene(world: World) -> None:
        store.put = unheard  # type: ignore[method-assign]  # the network's part
        await world.write("a", b"bytes")
        while not bucket(store):
            await trio.sleep(0.001)
        await trio.sleep(0.05)
        store.put = real  # type: ignore[method-assign]  # as it was
        await world.unlink("a")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {}


@pytest.mark.parametrize("what", ["unlink", "rename", "replace"])
def test_a_full_disk_changes_nothing_that_was_accepted(
    store: MemoryStore, play: Callable[..., None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        await world.write("a", b"accepted")
        await world.write("b", b"target")
        journal, target = world.house.journal, "b" if what == "replace" else "c"
        with monkeypatch.context() as patch:
            patch.setattr(journal._records, "change", full)
            with pytest.raises(NoSpace):
                await (world.unlink("a") if what == "unlink" else world.rename("a", target))
        assert await world.tree() == {"a": b"accepted", "b": b"target"}
        await world.write("a", b"ACCEPTED")
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"ACCEPTED", "b": b"target"}


def test_a_close_on_a_full_disk_can_be_repeated(
    store: MemoryStore, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"one")
        with monkeypatch.context() as patch:
            patch.setattr(world.house.journal._records, "change", full)
            with pytest.raises(NoSpace):
                await world.fs.flush(handle)
        await world.fs.write(handle, 3, b"two")
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"onetwo"}


def test_at_the_end_one_file_that_cannot_be_read_stops_no_other(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    async def scene(world: World) -> None:
        for name in ("a", "b"):
            handle = await world.create(name)
            await world.fs.write(handle, 3, b"in no")
            await world.fs.write(handle, 0, b"der")
        staged = (await world.inode("a")).staged
        assert staged is not None
        staged.path.unlink()
        await world.fs.seal_all()
        await world.house.uploader.drain()
        assert [debt.key for debt in world.house.journal.all()] == ["a"]

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"b": b"derin no"}


def test_what_was_closed_survives_being_replaced_by_what_was_not(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    """The file is renamed and reopened while it is being sent; then the daemon dies."""

    async def before(world: World) -> None:
        stopped = StoppedPut(store)
        await world.write("a", b"closed")
        await stopped.sent()
        await world.rename("a", "b")
        handle = await world.open("b", os.O_WRONLY)
        await world.fs.write(handle, 0, b"o")

    async def after(world: World) -> None:
        assert await world.drain()

    play(before)
    play(after)
    assert bucket(store) == {"b": b"closed"}


def test_attributes_do_not_hide_that_somebody_else_changed_the_bytes(
    store: MemoryStore, play: Callable[..., None]
) -> None:
    put(store, "a", b"base")

    async def scene(world: World) -> None:
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600))
        store.put("a", b"theirs", Attributes()).result()
        stopped = StoppedCopy(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.house.uploader.drain)
            await stopped.made()
            handle = await world.open("a", os.O_WRONLY)
            await world.fs.write(handle, 0, b"ours")
            await world.close(handle)
            stopped.go_on()
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert sorted(bucket(store).values()) == [b"ours", b"theirs"]


def test_a_refused_file_says_so_and_is_kept(store: MemoryStore, play: Callable[..., None]) -> None:
    async def scene(world: World) -> None:
        store.faults = lambda method, _: CredentialsRejected("No.") if method == "put" else None
        handle = await world.create("a")
        await world.fs.write(handle, 0, b"bytes")
        with pytest.raises(NotUploaded):
            await world.fs.fsync(handle)
        world.fs.forget((await world.inode("a")).number, 0)
        assert await world.read("a") == b"bytes"

    play(scene)
