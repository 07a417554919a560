"""How a mount ends when something goes wrong: what programs wrote is not lost."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from qarnotfs.errors import InUse, QarnotfsError, UsageError
from qarnotfs.session import House, build
from qarnotfs.session.life import Session
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from tests.s5_core.house import MemoryBucket, World, bucket, entered, options

Scene = Callable[[World], Awaitable[None]]


class NoKernel:
    """In place of `Kernel`: a scene is what programs do; the mount cannot be taken away."""

    def __init__(self, scene: Scene, error: Exception) -> None:
        self._scene, self._error = scene, error

    def __call__(self, house: House) -> NoKernel:
        self._house = house
        return self

    def mount(self) -> None: ...

    def close(self) -> None: ...

    async def look(self) -> None: ...

    async def trim(self) -> None: ...

    async def serve(self) -> None:
        await self._scene(World(self._house))
        await trio.sleep_forever()

    async def unmount(self, *, lazily: bool) -> None:
        raise self._error


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory of this test's; short, as a socket's path has to be."""
    with tempfile.TemporaryDirectory(prefix="qfs-") as folder:
        monkeypatch.setenv("QARNOTFS_RUNTIME_DIR", folder)
        yield


def lived(store: MemoryStore, directory: Path) -> int:
    """The exit code of a mount from its start to its end."""
    house = build(MemoryBucket(store, View()), options(directory))  # type: ignore[arg-type]  # a bucket in all that is used of one

    async def main() -> int:
        with trio.fail_after(20):
            return await Session(house, lambda: None).run()

    try:
        return trio.run(main)
    finally:
        house.journal.close()
        house.lock.release()
        house.index.close()
        house.disk.close()


async def left_open(world: World) -> None:
    for name in ("a", "b"):
        await world.fs.write(await world.create(name), 0, name.encode())


@pytest.mark.parametrize(
    "error",
    [
        UsageError("fusermount3 is not installed."),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't start new thread"),
    ],
)
def test_a_mount_that_cannot_be_taken_away_is_drained_all_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    async def scene(world: World) -> None:
        await left_open(world)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("qarnotfs.session.life.Kernel", NoKernel(scene, error))
    store = MemoryStore()
    assert lived(store, tmp_path) == 0
    assert bucket(store) == {"a": b"a", "b": b"b"}
    assert str(error) in caplog.text
    assert ("Traceback" in caplog.text) == (not isinstance(error, QarnotfsError))


def test_what_programs_wrote_outlives_a_mount_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        await left_open(world)
        raise ZeroDivisionError

    monkeypatch.setattr("qarnotfs.session.life.Kernel", NoKernel(scene, InUse("never asked")))
    store = MemoryStore()
    with pytest.raises(ExceptionGroup) as caught:
        lived(store, tmp_path)
    assert caught.group_contains(ZeroDivisionError)
    assert bucket(store) == {}

    async def next_life() -> None:
        async with entered(store, tmp_path) as world:
            assert await world.drain()
            assert world.house.journal.findings == []

    trio.run(next_life)
    assert bucket(store) == {"a": b"a", "b": b"b"}
