"""Whatever lies in a cache directory: never a wrong byte, never an exception."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
from pathlib import Path

import pytest

from qarnotfs.cache.blockmap import HEADER_BYTES
from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.shelves import GRACE_SEC
from qarnotfs.store.base import ObjectInfo
from tests.s4_cache.scripted import blocks

MIB = 1 << 20
BODY = blocks(3.25)
INFO = ObjectInfo("key", len(BODY), hashlib.md5(BODY).hexdigest(), 1_700_000_000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A cache that holds one object."""
    disk = fresh(tmp_path)
    disk.store(INFO, 0, BODY)
    disk.close()
    return tmp_path


def fresh(directory: Path) -> Disk:
    return Disk(directory, 100 * MIB, memory_bytes_max=0)


def only(directory: Path, pattern: str) -> Path:
    (path,) = directory.rglob(pattern)
    return path


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 0x10]))


def assert_right_or_absent(disk: Disk) -> set[int]:
    """Look at every block; which ones are there."""
    there = set()
    for number in range(4):
        found = disk.block(INFO, number)
        assert found in (None, BODY[number * BLOCK_BYTES :][:BLOCK_BYTES])
        if found is not None:
            there.add(number)
    return there


def assert_recovers(disk: Disk) -> None:
    """Storing again makes everything good, also for another process."""
    disk.store(INFO, 0, BODY)
    assert disk.read(INFO, 0, len(BODY)) == BODY
    assert fresh(disk.directory).read(INFO, 0, len(BODY)) == BODY


def test_a_flipped_bit_is_counted_and_forgotten_and_its_neighbours_stay(directory: Path) -> None:
    flip(only(directory, "*.data"), BLOCK_BYTES + 12345)
    disk = fresh(directory)
    assert disk.read(INFO, 0, len(BODY)) is None
    assert disk.corrupt == 1
    assert assert_right_or_absent(disk) == {0, 2, 3}
    assert disk.corrupt == 1  # it is forgotten, not found again and again
    assert_recovers(disk)


def test_a_flipped_bit_in_a_checksum_is_as_bad(directory: Path) -> None:
    flip(only(directory, "*.map"), HEADER_BYTES + 8 * 2)
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == {0, 1, 3}
    assert disk.corrupt == 1
    assert_recovers(disk)


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7, len(BODY) - 1])
def test_a_truncated_data_file(directory: Path, length: int) -> None:
    os.truncate(only(directory, "*.data"), length)
    disk = fresh(directory)
    assert disk.read(INFO, 0, len(BODY)) is None
    assert assert_right_or_absent(disk) == set(range(length // BLOCK_BYTES))
    assert disk.corrupt == 4 - length // BLOCK_BYTES
    assert_recovers(disk)


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 11])
def test_a_truncated_map(directory: Path, length: int) -> None:
    os.truncate(only(directory, "*.map"), length)
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == ({0} if length > HEADER_BYTES + 8 else set())
    assert_recovers(disk)


@pytest.mark.parametrize("seed", range(20))
def test_a_map_full_of_garbage(
    directory: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = only(directory, "*.map")
    path.write_bytes(random.Random(seed).randbytes(path.stat().st_size))
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == set()
    removed = [r for r in caplog.records if "is removed from the cache" in r.getMessage()]
    assert len(removed) == 1
    assert_recovers(disk)


@pytest.mark.parametrize("seed", range(20))
def test_records_full_of_garbage(directory: Path, seed: int) -> None:
    overwrite(only(directory, "*.map"), HEADER_BYTES, random.Random(seed).randbytes(32))
    disk = fresh(directory)
    assert_right_or_absent(disk)
    assert_recovers(disk)


@pytest.mark.parametrize("seed", range(20))
def test_garbage_anywhere(directory: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 5)):
        path = only(directory, rng.choice(["*.map", "*.data"]))
        at = rng.randrange(max(1, path.stat().st_size))
        overwrite(path, at, rng.randbytes(rng.randint(1, 5000)))
        if rng.random() < 0.3:
            os.truncate(path, rng.randrange(path.stat().st_size))
    disk = fresh(directory)
    disk.make_room()
    assert_right_or_absent(disk)
    assert_recovers(disk)


def test_a_map_of_an_old_format_is_removed_by_whoever_sees_it(directory: Path) -> None:
    overwrite(only(directory, "*.map"), 16, b"\0")
    fresh(directory).make_room()
    assert [*directory.rglob("*.map"), *directory.rglob("*.data")] == []


def test_files_of_another_version_under_our_name(directory: Path) -> None:
    """Somebody mixed up the files: the header says what they are."""
    other = ObjectInfo("other", len(BODY), "0" * 32, 0)
    disk = fresh(directory)
    disk.store(other, 0, blocks(3.25, seed=1))
    ours, theirs = (disk._identity(info).name for info in (INFO, other))
    for kind in ("map", "data"):
        shutil.copy(only(directory, f"{theirs}.{kind}"), only(directory, f"{ours}.{kind}"))
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == set()
    assert_recovers(disk)


def test_data_of_another_version_under_our_map(directory: Path) -> None:
    only(directory, "*.data").write_bytes(blocks(3.25, seed=1))
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == set()
    assert disk.corrupt == 4


@pytest.mark.parametrize("kind", ["map", "data"])
def test_a_directory_in_the_place_of_a_file(directory: Path, kind: str) -> None:
    path = only(directory, f"*.{kind}")
    path.unlink()
    path.mkdir()
    disk = fresh(directory)
    assert assert_right_or_absent(disk) == set()
    disk.store(INFO, 0, BODY)
    disk.make_room()
    assert_right_or_absent(disk)


@pytest.mark.parametrize("kind", ["map", "data"])
def test_a_symbolic_link_in_the_place_of_a_file_is_not_followed(
    directory: Path, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "precious"
    target.write_bytes(b"")
    path = only(directory, f"*.{kind}")
    path.unlink()
    path.symlink_to(target)
    disk = fresh(directory)
    disk.store(INFO, 0, BODY)
    assert_right_or_absent(disk)
    assert target.read_bytes() == b""


def test_halves_of_pairs_are_swept_when_they_are_old(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    only(directory, "*.map").rename(only(directory, "*.map").with_name("f" * 40 + ".map"))
    leftover = only(directory, "*.data").with_suffix("." + "e" * 32 + ".data.tmp")
    leftover.write_bytes(b"x")
    fresh(directory).make_room()
    assert len([*directory.rglob("*.*")]) == 3
    later = leftover.stat().st_ctime + GRACE_SEC + 1
    caplog.set_level(logging.WARNING)
    Disk(directory, 100 * MIB, clock=lambda: later).make_room()
    assert [*directory.rglob("*.*")] == []


def test_files_that_are_not_ours_are_never_touched(tmp_path: Path) -> None:
    """A directory given by mistake: somebody's photographs."""
    (tmp_path / "ab").mkdir()
    theirs = [tmp_path / "photo.jpg", tmp_path / "ab" / "x.map", tmp_path / "ab" / "y.data"]
    for path in theirs:
        path.write_bytes(b"precious" * 100_000)
    disk = Disk(tmp_path, 2 * BLOCK_BYTES, clock=lambda: 9e9)
    disk.store(INFO, 0, BODY[:BLOCK_BYTES])
    disk.make_room(2 * BLOCK_BYTES)
    assert [path.read_bytes() for path in theirs] == [b"precious" * 100_000] * 3


def test_times_in_the_future_do_not_make_an_entry_immortal(directory: Path) -> None:
    overwrite(only(directory, "*.map"), 32, b"\xff" * 16)
    now_sec = 1_800_000_000.0
    disk = Disk(directory, 2 * MIB, memory_bytes_max=0, clock=lambda: now_sec)
    others = [ObjectInfo(f"other{number}", 2 * BLOCK_BYTES, "0" * 32, 0) for number in range(3)]
    for other in others:
        now_sec += 1
        disk.store(other, 0, blocks(2, seed=1))
    assert disk.present(INFO, range(4)) == set()
    assert [len(disk.present(other, range(2))) for other in others] == [2, 2, 2]
