"""`cache.disk`: uploaded files become cache entries, and stay as they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from qarnotfs.cache.blocks import BLOCK_BYTES
from tests.s4_cache.scripted import blocks
from tests.s4_cache.shelf import MIB, Clock, Make, keep, on_disk, version


def test_an_adopted_file_is_the_cache_entry_without_a_copy(make: Make, tmp_path: Path) -> None:
    body = blocks(2.5)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk, info = make(), version(body)
    disk.adopt(info, staged)
    assert staged.stat().st_nlink == 2
    staged.unlink()
    assert disk.read(info, 0, len(body)) == body
    assert make().read(info, 0, len(body)) == body


def test_adopting_takes_the_place_of_what_was_cached(make: Make, tmp_path: Path) -> None:
    body = blocks(2)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk, info = make(), version(body)
    disk.store(info, BLOCK_BYTES, body[BLOCK_BYTES:])
    disk.adopt(info, staged)
    assert disk.read(info, 0, len(body)) == body


def test_across_file_systems_an_adopted_file_is_copied(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cross_device(*_: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "link", cross_device)
    body = blocks(1.5)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk, info = make(), version(body)
    disk.adopt(info, staged)
    assert staged.stat().st_nlink == 1
    assert disk.read(info, 0, len(body)) == body


def test_a_file_of_the_wrong_size_or_none_is_not_adopted(make: Make, tmp_path: Path) -> None:
    disk, info = make(), version(b"bytes")
    staged = tmp_path / "staged"
    disk.adopt(info, staged)
    staged.write_bytes(b"byte")
    disk.adopt(info, staged)
    assert disk.read(info, 0, 5) is None
    assert on_disk(disk.directory, "*.tmp", "*.map", "*.data") == []


def test_evicting_part_of_an_adopted_file_leaves_the_original_alone(
    make: Make, tmp_path: Path, clock: Clock
) -> None:
    body = blocks(16)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk = make(8 * MIB)
    disk.adopt(version(body), staged)
    for number in range(5):
        clock.now_sec += 1
        keep(disk, blocks(4, seed=number), f"key{number}")
    assert disk.read(version(body), 0, 1) is None
    assert staged.read_bytes() == body


def test_storing_into_an_adopted_file_leaves_the_original_alone(make: Make, tmp_path: Path) -> None:
    """A damaged block is fetched again while the file still waits under its other name."""
    body = blocks(2)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk, info = make(), version(body)
    disk.adopt(info, staged)
    damaged = b"\0" * BLOCK_BYTES + body[BLOCK_BYTES:]
    staged.write_bytes(damaged)
    assert disk.block(info, 0) is None
    disk.store(info, 0, body[:BLOCK_BYTES])
    assert disk.block(info, 0) == body[:BLOCK_BYTES]
    assert staged.read_bytes() == damaged


def test_a_file_larger_than_half_the_cache_is_not_adopted(make: Make, tmp_path: Path) -> None:
    body = blocks(12)
    staged = tmp_path / "staged"
    staged.write_bytes(body)
    disk = make(4 * MIB)
    small = keep(disk, b"bytes")
    disk.adopt(version(body, "large"), staged)
    assert disk.read(small, 0, 5) == b"bytes"
    assert staged.stat().st_nlink == 1
