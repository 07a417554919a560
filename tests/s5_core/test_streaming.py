"""Large files: sent while they are written, gone on with after failures and deaths.

Parts are real ones of 8 MiB, each filled with one byte, so that a part in the wrong place,
or of another time, is seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import Corrupt, Unavailable
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import NEVER_SEC, World, bucket, put
from tests.s5_core.stops import StoppedPut

Play = Callable[..., None]


def cells(*letters: bytes, tail: bytes = b"") -> bytes:
    """A file of cells, each of one byte, and what comes behind them."""
    return b"".join(letter * PART_BYTES for letter in letters) + tail


def count(store: MemoryStore, method: str) -> int:
    return sum(called == method for called, _ in store.calls)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.001)


async def opened(world: World, name: str, data: bytes) -> int:
    """A file that is written in pieces of 1 MiB and not closed."""
    handle = await world.create(name)
    await append(world, handle, 0, data)
    return handle


async def append(world: World, handle: int, start: int, data: bytes) -> None:
    for at in range(0, len(data), 1 << 20):
        await world.fs.write(handle, start + at, data[at : at + (1 << 20)])


def no_uploads(store: MemoryStore) -> bool:
    return not store._uploads


def test_full_parts_are_sent_while_the_file_is_written(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", tail=b"end"))
        await until(lambda: count(store, "upload_part") == 2)
        await append(world, handle, 2 * PART_BYTES + 3, b"x" * PART_BYTES)
        await until(lambda: count(store, "upload_part") == 3)
        assert bucket(store) == {}
        await world.close(handle)
        assert await world.drain()
        assert not world.house.journal.bytes_dirty

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": cells(b"1", b"2", tail=b"end" + b"x" * PART_BYTES)}
    assert count(store, "upload_part") == 4
    assert no_uploads(store)


def test_a_streamed_file_is_sent_as_soon_as_it_is_closed(store: MemoryStore, play: Play) -> None:
    """A rename before would be the end of its parts."""

    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", tail=b"end"))
        debt = world.house.journal.latest("a")
        assert debt
        await until(lambda: debt.upload is not None and len(debt.upload.etags) == 2)
        await world.close(handle)
        await until(lambda: "a" in bucket(store))

    play(scene, upload_delay_sec=NEVER_SEC)


def test_a_streamed_file_has_the_attributes_it_was_closed_with(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2"))
        await until(lambda: count(store, "upload_part") == 2)
        await world.fs.setattr(await world.inode("a"), Changes(mode=0o600, mtime_ns=5 * 10**9))
        await world.close(handle)
        assert await world.drain()
        posix = (await world.inode("a")).posix
        assert (posix.mode & 0o777, posix.mtime_ns) == (0o600, 5 * 10**9)

    play(scene)
    metadata = store.head("a").result().metadata or {}
    assert (int(metadata["mode"]) & 0o777, metadata["mtime"]) == (0o600, "5")


def test_a_part_that_is_written_again_is_sent_again(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", b"3"))
        await until(lambda: count(store, "upload_part") == 3)
        await world.fs.write(handle, PART_BYTES + 5, b"!")
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    content = bytearray(cells(b"1", b"2", b"3"))
    content[PART_BYTES + 5 : PART_BYTES + 6] = b"!"
    assert bucket(store) == {"a": bytes(content)}
    assert count(store, "upload_part") == 4


def test_a_part_that_is_written_while_it_is_sent_does_not_count(
    store: MemoryStore, play: Play
) -> None:
    async def scene(world: World) -> None:
        stopped = StoppedPut(store, "upload_part")
        handle = await opened(world, "a", cells(b"1", b"2"))
        await stopped.sent()
        await world.fs.write(handle, 5, b"!")
        await world.fs.write(handle, PART_BYTES + 5, b"!")
        stopped.arrive()
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    content = bytearray(cells(b"1", b"2"))
    content[5:6] = content[PART_BYTES + 5 : PART_BYTES + 6] = b"!"
    assert bucket(store) == {"a": bytes(content)}


@pytest.mark.decision(1)
@pytest.mark.parametrize(
    ("name", "data"),
    [("a", cells(b"1", tail=b"2" * (PART_BYTES - 1))), (".a.x1Y2z3", cells(b"1", b"2", b"3"))],
    ids=["small", "temporary"],
)
def test_what_is_not_streamed(store: MemoryStore, play: Play, name: str, data: bytes) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, name, data)
        await trio.sleep(0.05)
        assert not store._uploads
        await world.close(handle)

    play(scene, upload_delay_sec=NEVER_SEC)


@pytest.mark.parametrize("what", ["rename", "unlink", "truncate", "grow"])
def test_an_upload_that_is_for_nothing_is_aborted(
    store: MemoryStore, play: Play, what: str
) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2"))
        await until(lambda: count(store, "upload_part") == 2)
        if what == "rename":
            await world.rename("a", "b")
        elif what == "unlink":
            await world.unlink("a")
        elif what == "truncate":
            await world.fs.setattr(await world.inode("a"), Changes(size=5))
        else:
            await world.fs.setattr(await world.inode("a"), Changes(size=10_001 * PART_BYTES))
            await world.fs.setattr(await world.inode("a"), Changes(size=PART_BYTES))
        if what in ("rename", "unlink"):
            await until(lambda: no_uploads(store))
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    expected = {
        "rename": {"b": cells(b"1", b"2")},
        "unlink": {},
        "truncate": {"a": b"1" * 5},
        "grow": {"a": cells(b"1")},
    }
    assert bucket(store) == expected[what]
    assert no_uploads(store)


def test_a_failure_does_not_send_anew_what_arrived(store: MemoryStore, play: Play) -> None:
    failures = [Unavailable("503"), Unavailable("reset")]

    def fault(method: str, _: str) -> Exception | None:
        late = method == "upload_part" and count(store, method) > 3
        return failures.pop() if late and failures else None

    async def scene(world: World) -> None:
        store.faults = fault
        handle = await opened(world, ".a.x1Y2z3", cells(*(b"%d" % n for n in range(6))))
        await world.rename(".a.x1Y2z3", "a")
        await world.close(handle)
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": cells(*(b"%d" % n for n in range(6)))}
    assert count(store, "upload_part") == 6 + 2
    assert count(store, "create_upload") == 1


def test_failures_of_streaming_are_quiet(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        store.faults = lambda method, _: Corrupt("No.") if method == "upload_part" else None
        handle = await opened(world, "a", cells(b"1", b"2", b"3"))
        await until(lambda: count(store, "upload_part") >= 2)
        store.faults = lambda *_: None
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": cells(b"1", b"2", b"3")}


def test_an_upload_that_the_server_lost_is_begun_anew(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", b"3"))
        await until(lambda: count(store, "upload_part") == 3)
        store._uploads.clear()
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": cells(b"1", b"2", b"3")}


def test_a_conflict_of_a_streamed_file_keeps_both(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2"))
        await until(lambda: count(store, "upload_part") == 2)
        put(store, "a", b"theirs")
        await world.close(handle)
        assert await world.drain()

    play(scene)
    assert sorted(bucket(store).values()) == [cells(b"1", b"2"), b"theirs"]
    assert bucket(store)["a"] == b"theirs"
    assert no_uploads(store)


# --- deaths ---------------------------------------------------------------------------------


async def drained(world: World) -> None:
    assert await world.drain()


def test_dying_while_a_file_is_streamed_leaves_no_parts(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        await opened(world, "a", cells(b"1", b"2"))
        await until(lambda: count(store, "upload_part") == 2)

    play(before)
    assert store._uploads
    play(drained)
    assert bucket(store) == {}
    assert no_uploads(store)


def test_an_upload_goes_on_after_a_death(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", b"3"))
        await until(lambda: count(store, "upload_part") == 3)
        await append(world, handle, 3 * PART_BYTES, cells(b"4", b"5"))
        await world.fs.write(handle, 7, b"!")
        store.faults = lambda *_: Unavailable("down")
        await world.close(handle)

    play(before, upload_delay_sec=NEVER_SEC)
    store.faults = lambda *_: None
    store.calls.clear()
    play(drained)
    content = bytearray(cells(b"1", b"2", b"3", b"4", b"5"))
    content[7:8] = b"!"
    assert bucket(store) == {"a": bytes(content)}
    assert count(store, "upload_part") <= 3  # the changed one, and what had not been noted
    assert count(store, "create_upload") == 0
    assert no_uploads(store)


def test_dying_after_the_upload_was_completed_pays_it_once(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over a base, which is no longer there to be copied from: ours has taken its place."""
    put(store, "a", cells(b"1", b"2"))
    real = store.complete_upload

    async def before(world: World) -> None:
        done = trio.Event()

        def complete(*args: Any) -> None:
            real(*args)
            store.faults = lambda *_: Unavailable("down")
            trio.from_thread.run_sync(done.set)

        monkeypatch.setattr(store, "complete_upload", complete)
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 3, b"!")
        await world.close(handle)
        await done.wait()

    play(before)
    monkeypatch.undo()
    store.faults = lambda *_: None
    store.calls.clear()
    play(drained)
    assert bucket(store) == {"a": b"111!" + cells(b"1", b"2")[4:]}
    assert not {"upload_part", "complete_upload"} & {method for method, _ in store.calls}


@pytest.mark.decision(1)
def test_what_was_closed_survives_a_truncation_that_was_not(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        await world.write("a", b"closed")
        handle = await world.open("a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"new")
        assert await world.read("a") == b"new"

    play(before, upload_delay_sec=NEVER_SEC)
    play(drained)
    assert bucket(store) == {"a": b"closed"}


def test_what_was_truncated_and_closed_takes_its_place(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        await world.write("a", b"closed")
        handle = await world.open("a", os.O_WRONLY | os.O_TRUNC)
        await world.fs.write(handle, 0, b"new")
        await world.close(handle)
        assert len(list((world.house.journal.staging.directory).iterdir())) == 1

    play(before, upload_delay_sec=NEVER_SEC)
    play(drained)
    assert bucket(store) == {"a": b"new"}


def test_a_file_that_was_cut_survives(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        await world.write("a", b"closed")
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.setattr(await world.inode("a"), Changes(size=3))
        await world.fs.write(handle, 0, b"C")

    play(before, upload_delay_sec=NEVER_SEC)
    play(drained)
    assert bucket(store) == {"a": b"Clo"}


# --- room -----------------------------------------------------------------------------------


def test_a_writer_waits_for_its_own_parts(store: MemoryStore, play: Play) -> None:
    most = 0

    async def scene(world: World) -> None:
        nonlocal most
        handle = await world.create("a")
        for number in range(40):
            data = bytes([number]) * (1 << 20)
            await world.fs.write(handle, number << 20, data)
            most = max(most, world.house.journal.bytes_dirty)
        assert count(store, "upload_part") >= 3
        await world.close(handle)
        assert await world.drain()

    play(scene, dirty_bytes_max=PART_BYTES, upload_delay_sec=NEVER_SEC)
    assert most <= 2 * PART_BYTES + (1 << 20)
    assert bucket(store)["a"] == b"".join(bytes([n]) * (1 << 20) for n in range(40))


def test_bytes_that_arrived_are_not_owed(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        handle = await opened(world, "a", cells(b"1", b"2", b"3"))
        await until(lambda: count(store, "upload_part") == 3)
        journal, uploader = world.house.journal, world.house.uploader
        await until(lambda: not journal.bytes_dirty)
        [transfer] = uploader.transfers()
        assert (transfer.key, transfer.bytes_total) == ("a", 3 * PART_BYTES)
        assert transfer.bytes_sent == 3 * PART_BYTES
        await world.fs.write(handle, 3 * PART_BYTES, b"1234")
        await world.fs.write(handle, 0, b"1")
        assert journal.bytes_dirty == PART_BYTES + 4
        await world.close(handle)
        assert journal.bytes_owed == PART_BYTES + 4
        assert await world.drain()
        assert not journal.bytes_dirty
        assert not uploader.transfers()

    play(scene, upload_delay_sec=NEVER_SEC)
