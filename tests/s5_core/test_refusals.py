"""What each answer of the server means for what is owed: later, never, or anew.

And which requests of one key may not overtake each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from qarnotfs.errors import (
    Corrupt,
    CredentialsExpired,
    NoSuchBucket,
    NoSuchKey,
    NotUploaded,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.base import Flight
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import uploader
from qarnotfs.writeback.debts import Kind, State
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import NEVER_SEC, World, bucket, put

Play = Callable[..., None]

SMALL = b"small"
LARGE = b"1" * PART_BYTES + b"2"

# (file, method that fails, with what, how often; what becomes of the file)
TABLE: list[tuple[bytes, str, StoreError, int, str]] = [
    (SMALL, "put", Unavailable("503 SlowDown"), 3, "stored"),
    (SMALL, "put", Corrupt("400 BadDigest"), 3, "stored"),
    (SMALL, "put", Corrupt("400 BadDigest"), 99, "failed"),
    (SMALL, "put", Refused("403 AccessDenied"), 1, "failed"),
    (SMALL, "put", Refused("400 EntityTooLarge"), 1, "failed"),
    (SMALL, "put", CredentialsExpired("400 ExpiredToken"), 1, "failed"),
    (SMALL, "put", NoSuchBucket("404 NoSuchBucket"), 1, "failed"),
    (SMALL, "put", NoSuchKey("404 of a proxy"), 1, "failed"),
    (LARGE, "create_upload", Unavailable("500"), 2, "stored"),
    (LARGE, "create_upload", Refused("403 AccessDenied"), 1, "failed"),
    (LARGE, "upload_part", Unavailable("reset"), 3, "stored"),
    (LARGE, "upload_part", NoSuchKey("404 NoSuchUpload"), 2, "stored"),
    (LARGE, "upload_part", NoSuchBucket("404 NoSuchBucket"), 2, "failed"),
    (LARGE, "upload_part", Refused("403 AccessDenied"), 2, "failed"),
    (LARGE, "upload_part", Corrupt("another MD5"), 2, "stored"),
    (LARGE, "complete_upload", Unavailable("500"), 2, "stored"),
    (LARGE, "complete_upload", NoSuchKey("404 NoSuchUpload"), 2, "stored"),
    (LARGE, "complete_upload", Corrupt("400 InvalidPart"), 2, "stored"),
    (LARGE, "complete_upload", Corrupt("400 InvalidPart"), 99, "failed"),
    (LARGE, "complete_upload", Refused("400 MalformedXML"), 1, "failed"),
    (LARGE, "head", Unavailable("timeout"), 3, "stored"),
    (LARGE, "abort_upload", Refused("403 AccessDenied"), 1, "stored"),
]


@pytest.mark.parametrize(
    ("data", "method", "error", "times", "outcome"),
    TABLE,
    ids=[f"{'small' if d is SMALL else 'large'}-{m}-{e}-{n}" for d, m, e, n, _ in TABLE],
)
def test_what_an_answer_means(
    store: MemoryStore,
    play: Play,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    method: str,
    error: StoreError,
    times: int,
    outcome: str,
) -> None:
    monkeypatch.setattr("qarnotfs.writeback.uploader.backoff_sec", lambda *_: 0.001)
    left = times

    def fault(called: str, key: str) -> Exception | None:
        nonlocal left
        if called == method and key == "a" and left:
            left -= 1
            return error
        return None

    async def scene(world: World) -> None:
        handle = await world.create("a")
        await world.fs.write(handle, 0, data)
        store.faults = fault
        await world.fs.flush(handle)
        if outcome == "stored":
            await world.fs.fsync(handle)
            await world.close(handle)
            assert await world.drain()
            return
        for _ in range(2):
            with pytest.raises(NotUploaded):
                await world.fs.fsync(handle)
        with pytest.raises(NotUploaded):
            await world.close(handle)
        assert not await world.drain()
        [debt] = world.house.journal.all()
        assert debt.state is State.FAILED
        assert debt.error == str(error)
        assert await world.read("a") == data
        assert not store._uploads

    play(scene, upload_delay_sec=NEVER_SEC)
    if outcome == "stored":
        assert bucket(store) == {"a": data}


def test_a_refused_file_that_is_written_anew_is_tried_again(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        store.faults = lambda method, _: Refused("No.") if method == "put" else None
        await world.write("a", b"one")
        assert not await world.drain()
        store.faults = lambda *_: None
        await world.write("a", b"two")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"two"}


def test_a_reason_survives_a_death(store: MemoryStore, play: Play) -> None:
    async def before(world: World) -> None:
        store.faults = lambda method, _: Refused("No room.") if method == "put" else None
        await world.write("a", b"one")
        assert not await world.drain()
        text = dict(world.house.journal._records.rows())
        assert "No room." in "".join(text.values())

    play(before)


# --- what may not overtake what ---------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.001)


@pytest.mark.parametrize("dies", [False, True])
def test_a_put_does_not_overtake_a_deletion_without_an_answer(
    store: MemoryStore, play: Play, dies: bool
) -> None:
    """The server may carry the deletion out late: it is repeated until the server has answered."""
    put(store, "a", b"old")

    def hangs(method: str, _: str) -> Exception | None:
        return Unavailable("timeout") if method == "delete" else None

    async def before(world: World) -> None:
        store.faults = hangs
        await world.unlink("a")
        await until(lambda: ("delete", "") in store.calls)
        await trio.sleep(0.01)
        await world.write("a", b"new")
        if not dies:
            await after(world)

    async def after(world: World) -> None:
        store.calls.clear()
        await trio.sleep(0.1)
        assert ("put", "a") not in store.calls
        store.faults = lambda *_: None
        assert await world.drain()
        order = [called for called, key in store.calls if called == "put" or key == "a"]
        assert order.index("delete_key") < order.index("put")
        assert await world.read("a") == b"new"

    play(before)
    if dies:
        play(after)
    assert bucket(store) == {"a": b"new"}


def test_a_rename_does_not_overtake_a_deletion_without_an_answer(
    store: MemoryStore, play: Play
) -> None:
    put(store, "a", b"a")
    put(store, "b", b"b")

    async def scene(world: World) -> None:
        store.faults = lambda method, _: Unavailable("timeout") if method == "delete" else None
        await world.unlink("b")
        await until(lambda: ("delete", "") in store.calls)
        await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rename, "a", "b")
            await trio.sleep(0.05)
            assert ("copy_object", "a") not in store.calls
            store.faults = lambda *_: None
        assert await world.drain()
        assert await world.tree() == {"b": b"a"}

    play(scene)
    assert bucket(store) == {"b": b"a"}


@pytest.mark.parametrize("size", [100, PART_BYTES + 100])
def test_a_patch_behind_a_patch_whose_answer_was_lost(
    store: MemoryStore, play: Play, size: int
) -> None:
    """Ours is in the bucket, and is what the second one builds upon."""
    put(store, "a", b"0" * size)

    async def scene(world: World) -> None:
        handle = await world.open("a", os.O_WRONLY)
        await world.fs.write(handle, 1, b"1")
        lost = False

        def fault(method: str, key: str) -> Exception | None:
            nonlocal lost
            lost |= bucket_has(store, "a", b"01")
            return Unavailable("reset") if lost and method != "list_page" else None

        store.faults = fault
        await world.fs.flush(handle)
        world.house.uploader.wake()
        debt = world.house.journal.latest("a")
        assert debt is not None
        debt.urgent = True
        await until(lambda: lost)
        await until(lambda: debt.attempts)
        await world.fs.write(handle, 3, b"3")
        store.faults = lambda *_: None
        await world.close(handle)
        assert await world.drain()

    def bucket_has(store: MemoryStore, key: str, start: bytes) -> bool:
        return store._objects[key][1].startswith(start)

    put_unheard(store)
    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {"a": b"0103" + b"0" * (size - 4)}


def put_unheard(store: MemoryStore) -> None:
    """The first PUT is carried out, and its answer lost."""
    real = store.put

    def unheard(*args: Any, **kwargs: Any) -> Flight[str]:
        store.put = real  # type: ignore[method-assign]  # as it was
        real(*args, **kwargs)
        return Flight.failed(Unavailable("reset"))

    store.put = unheard  # type: ignore[method-assign]  # the network's part


def test_a_file_rewritten_behind_its_lost_answer_meets_nobody_else(
    store: MemoryStore, play: Play
) -> None:
    real = store.put

    def unheard(*args: Any, **kwargs: Any) -> Flight[str]:
        real(*args, **kwargs)
        return Flight.failed(Unavailable("reset"))

    async def scene(world: World) -> None:
        store.put = unheard  # type: ignore[method-assign]  # the network's part
        await world.write("a", b"one")
        await until(lambda: bucket(store))
        debt = world.house.journal.latest("a")
        await until(lambda: debt and debt.attempts)
        store.put = real  # type: ignore[method-assign]  # as it was
        await world.write("a", b"two")
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"two"}


def test_the_first_of_many_tries_without_an_answer_meets_nobody_else(
    store: MemoryStore, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server hangs for long, and the file is written again and again: only the first arrived."""
    monkeypatch.setattr(uploader, "backoff_sec", lambda *_: 0.001)
    put(store, "a", b"old")
    real, tries = store.put, 0

    def unheard(*args: Any, **kwargs: Any) -> Flight[str]:
        nonlocal tries
        tries += 1
        real(*args, **kwargs)  # all but the first meet a 412, which nobody hears
        return Flight.failed(Unavailable("timeout"))

    async def scene(world: World) -> None:
        store.put = unheard  # type: ignore[method-assign]  # the network's part
        for number in range(50):
            before = tries
            await world.write("a", b"version %d" % number)
            while tries == before:
                await trio.sleep(0.001)
        store.put = real  # type: ignore[method-assign]  # as it was
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"version 49"}


def test_what_replaces_a_file_waits_for_its_upload_to_be_aborted(
    store: MemoryStore, play: Play
) -> None:
    """The answer to the completion is lost; the file is deleted and written as a small one."""

    async def scene(world: World) -> None:
        await world.write("a", LARGE)
        store.faults = lambda method, _: (
            Unavailable("timeout") if method in ("complete_upload", "abort_upload") else None
        )
        await until(lambda: ("complete_upload", "a") in store.calls)
        await world.unlink("a")
        await world.write("a", SMALL)
        await until(lambda: ("abort_upload", "a") in store.calls)
        await trio.sleep(0.05)
        assert ("put", "a") not in store.calls
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": SMALL}
    assert not store._uploads


def test_deletions_are_begun_once(store: MemoryStore, play: Play) -> None:
    put(store, "a", b"old")

    async def scene(world: World) -> None:
        await world.unlink("a")
        await world.write("a", b"new")
        await world.unlink("a")
        kinds = [debt.kind for debt in world.house.journal.all()]
        assert kinds == [Kind.DELETE]
        assert await world.drain()

    play(scene, upload_delay_sec=NEVER_SEC)
    assert bucket(store) == {}
    assert ("put", "a") not in store.calls[1:]


def test_a_small_file_that_changed_on_this_disk_is_not_sent(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        await world.write("a", b"hello")
        debt = world.house.journal.latest("a")
        assert debt
        assert debt.staged
        debt.staged.path.write_bytes(b"helLo")
        with pytest.raises(Corrupt):
            await world.house.uploader.sender.send(debt)
        assert bucket(store) == {}

    play(scene, upload_delay_sec=NEVER_SEC)
