"""Random lives of a mount, compared step by step with a dictionary of paths.

The model is a local file system reduced to what it means: paths to bytes, ``None`` for a
directory. After the last step everything is drained and the bucket itself is compared.

Files become large at 8 MiB. In half of the tests they do so at 8 bytes, which is the only
thing that differs: then lives of files sent in parts cost no more than others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qarnotfs.core.filesystem import Changes
from qarnotfs.errors import FileError, IsADirectory, NoSuchEntry
from qarnotfs.store.base import PART_BYTES_MIN
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.house import World, bucket, entered
from tests.steps import Step, lives, paths, steps

Model = dict[str, bytes | None]

CELL_BYTES = 8
PIECE_BYTES = 5  # of a file that is written piece by piece, and sent meanwhile

any_step = st.one_of(
    steps("write", offset=st.integers(0, 6), data=st.binary(min_size=1, max_size=4)),
    steps("unlink"),
    steps("mkdir"),
    steps("rmdir"),
    steps("rename", other=paths),
    steps("sync"),
    steps("kill"),
)
sizes = st.integers(0, 5 * CELL_BYTES)
some = st.binary(min_size=1, max_size=3 * CELL_BYTES)
any_step_of_large = st.one_of(
    *[steps("write", offset=sizes, data=some), steps("stream", offset=sizes, data=some)] * 2,
    *[steps("truncate", offset=sizes), steps("rename", other=paths)] * 2,
    steps("unlink"),
    steps("mkdir"),
    steps("sync"),
    steps("kill"),
)


@contextmanager
def parts_of_bytes(size: int) -> Iterator[None]:
    """Files are sent in parts of ``size`` bytes, as soon as they have so many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("plan", "streaming", "uploads", "recorded"):
            patch.setattr(f"qarnotfs.writeback.{module}.PART_BYTES", size)
        patch.setattr("qarnotfs.core.content.PART_BYTES", size)
        patch.setattr("qarnotfs.store.memory.PART_BYTES_MIN", min(size, PART_BYTES_MIN))
        yield


def parent(path: str) -> str:
    above = str(PurePosixPath(path).parent)
    return "" if above == "." else above


def is_directory(model: Model, path: str) -> bool:
    return path == "" or (path in model and model[path] is None)


def below(model: Model, path: str) -> list[str]:
    return [other for other in model if other.startswith(path + "/")]


def expect(model: Model, step: Step) -> bool:
    """Apply a step to the model; whether a local file system would let it happen."""
    path, found = step.path, step.path in model
    directory = is_directory(model, path)
    if step.what in ("write", "stream"):
        if not is_directory(model, parent(path)) or directory:
            return False
        old = (model.get(path) or b"").ljust(step.offset, b"\0")
        model[path] = old[: step.offset] + step.data + old[step.offset + len(step.data) :]
    elif step.what == "truncate":
        whole = model.get(path)
        if whole is None:
            return False
        model[path] = whole[: step.offset].ljust(step.offset, b"\0")
    elif step.what == "mkdir":
        if found or not is_directory(model, parent(path)):
            return False
        model[path] = None
    elif step.what in ("unlink", "rmdir"):
        if not found or directory != (step.what == "rmdir") or below(model, path):
            return False
        del model[path]
    elif step.what == "rename":
        return expect_rename(model, path, step.other)
    return True


def expect_rename(model: Model, old: str, new: str) -> bool:
    if old not in model or not is_directory(model, parent(new)):
        return False
    if new == old:
        return True
    if new.startswith(old + "/"):
        return False
    if new in model and (is_directory(model, old) != is_directory(model, new) or below(model, new)):
        return False
    for path in [old, *below(model, old)]:
        model[new + path.removeprefix(old)] = model.pop(path)
    return True


async def perform(world: World, step: Step) -> None:
    match step.what:
        case "write":
            await world.write(step.path, step.data, step.offset)
        case "stream":
            await stream(world, step)
        case "truncate":
            await truncate(world, step)
        case "unlink":
            await world.unlink(step.path)
        case "mkdir":
            await world.mkdir(step.path)
        case "rmdir":
            await world.rmdir(step.path)
        case "rename":
            await world.rename(step.path, step.other)
        case "sync":
            await world.house.uploader.drain()


async def stream(world: World, step: Step) -> None:
    """Write piece by piece, so that parts are sent before the file is closed."""
    try:
        handle = await world.open(step.path, os.O_WRONLY)
    except NoSuchEntry:
        handle = await world.create(step.path)
    try:
        for at in range(0, len(step.data), PIECE_BYTES):
            piece = step.data[at : at + PIECE_BYTES]
            await world.fs.write(handle, step.offset + at, piece)
            await trio.testing.wait_all_tasks_blocked()
    finally:
        await world.close(handle)


async def truncate(world: World, step: Step) -> None:
    inode = await world.inode(step.path)
    if inode.is_directory:  # the kernel's part
        raise IsADirectory("A directory has no size.")
    await world.fs.setattr(inode, Changes(size=step.offset))


def parts_of(life: list[Step]) -> list[list[Step]]:
    """Cut at each kill."""
    found: list[list[Step]] = [[]]
    for step in life:
        if step.what == "kill":
            found.append([])
        else:
            found[-1].append(step)
    return found


def into_itself(step: Step) -> bool:
    """The kernel refuses to rename a directory into itself before we are asked."""
    return step.what == "rename" and step.other.startswith(step.path + "/")


async def live(life: list[Step], store: MemoryStore, directory: Path, delay_sec: float) -> Model:
    model: Model = {}
    for part in parts_of([step for step in life if not into_itself(step)]):
        async with entered(store, directory, upload_delay_sec=delay_sec) as world:
            for step in part:
                allowed = expect(model, step)
                try:
                    await perform(world, step)
                    assert allowed, f"{step} succeeded"
                except FileError:
                    assert not allowed, f"{step} failed"
                assert await world.tree() == model, step
    async with entered(store, directory) as world:
        assert await world.tree() == model
        assert await world.drain()
        assert await world.tree() == model
    return model


def check(life: list[Step], delay_sec: float) -> MemoryStore:
    store = MemoryStore()
    with TemporaryDirectory() as directory:
        model = trio.run(live, life, store, Path(directory), delay_sec)
    stored = bucket(store)
    assert {key: data for key, data in stored.items() if not key.endswith("/")} == {
        path: data for path, data in model.items() if data is not None
    }
    assert {key[:-1] for key in stored if key.endswith("/")} <= {
        path for path, data in model.items() if data is None
    }
    return store


real = settings(max_examples=45, deadline=None, suppress_health_check=[HealthCheck.too_slow])
delays = st.sampled_from([0.0, 0.005, 1000.0])


@real
@given(lives(any_step, 25), delays)
def test_a_mount_is_a_file_system(life: list[Step], delay_sec: float) -> None:
    check(life, delay_sec)


@real
@given(lives(any_step_of_large, 25), delays)
def test_a_mount_of_large_files_is_a_file_system(life: list[Step], delay_sec: float) -> None:
    with parts_of_bytes(CELL_BYTES):
        store = check(life, delay_sec)
    for info in store.list_page("").objects:
        _, _, count = info.etag.partition("-")
        assert count == ("" if info.size < CELL_BYTES else str(-(-info.size // CELL_BYTES)))
