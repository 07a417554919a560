"""`cache.disk`: keeping and finding blocks, also those that others keep."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.cache.entry import base_path, punch
from qarnotfs.checksums import CRC32, CRC32C, Checksum
from qarnotfs.store.base import ObjectInfo
from tests.s4_cache.scripted import blocks
from tests.s4_cache.shelf import MIB, Clock, Make, keep, taken, version


def test_bytes_come_back_whole_and_in_parts(make: Make) -> None:
    body = blocks(2.5)
    disk = make()
    info = keep(disk, body)
    for offset, size in [(0, len(body)), (1, 1), (BLOCK_BYTES - 1, 2), (len(body) - 1, 1), (0, 7)]:
        assert disk.read(info, offset, size) == body[offset : offset + size]


def test_a_range_is_there_only_when_every_block_is(make: Make) -> None:
    body = blocks(3)
    disk, info = make(), version(body)
    disk.store(info, 2 * BLOCK_BYTES, body[2 * BLOCK_BYTES :])
    assert disk.read(info, 0, 10) is None
    assert disk.read(info, 2 * BLOCK_BYTES - 1, 2) is None
    assert disk.read(info, 2 * BLOCK_BYTES, 2) == body[2 * BLOCK_BYTES :][:2]
    assert disk.present(info, range(3)) == {2}


def test_another_version_or_scope_has_other_blocks(make: Make) -> None:
    info = keep(make(scope="one"), b"bytes")
    other = ObjectInfo("key", 5, "f" * 32, 0)
    assert make(scope="one").read(info, 0, 5) == b"bytes"
    assert make(scope="one").read(other, 0, 5) is None
    assert make(scope="two").read(info, 0, 5) is None


def test_another_checksum_is_never_used_to_verify(make: Make) -> None:
    info = keep(make(), b"bytes")
    other = make(checksum=CRC32)
    assert other.read(info, 0, 5) is None
    other.store(info, 0, b"bytes")
    assert other.read(info, 0, 5) == b"bytes"
    assert make().read(info, 0, 5) == b"bytes"


def test_keys_of_any_kind_are_kept(make: Make) -> None:
    disk = make(scope="s" * 5000)
    for key in ("k" * 1024, "é\n/../\0", "\ud800", ""):
        info = keep(disk, key.encode("utf-8", "replace") + b"!", key)
        assert disk.read(info, 0, info.size) == key.encode("utf-8", "replace") + b"!"


def test_a_restart_finds_everything(make: Make) -> None:
    body = blocks(1.5)
    before = make()
    info = keep(before, body)
    before.close()
    after = make()
    after.make_room()
    assert after.read(info, 0, len(body)) == body
    assert after.bytes_used() == taken(after.directory)


def test_bytes_used_is_what_the_disk_says(make: Make) -> None:
    disk = make()
    for number in range(5):
        keep(disk, blocks(2, seed=number), f"key{number}")
    told = disk.bytes_used()
    disk.make_room()
    assert disk.bytes_used() == taken(disk.directory)
    assert abs(disk.bytes_used() - told) <= 5 * 8192  # the maps are counted by the survey


def test_two_reads_of_one_block_verify_it_once(make: Make) -> None:
    calls: list[int] = []

    def count(piece: bytes | memoryview, _: int = 0) -> int:
        calls.append(len(piece))
        return 7

    disk = make(checksum=Checksum("counting", count), memory_bytes_max=MIB)
    info = keep(disk, blocks(1))
    calls.clear()
    disk.read(info, 0, BLOCK_BYTES // 2)
    disk.read(info, BLOCK_BYTES // 2, BLOCK_BYTES // 2)
    assert calls == [BLOCK_BYTES]


def test_blocks_in_memory_are_bounded(make: Make) -> None:
    disk = make(0, memory_bytes_max=2 * BLOCK_BYTES)
    info = keep(disk, blocks(3))
    assert disk.present(info, range(3)) == {1, 2}


def test_a_cache_of_size_zero_leaves_the_disk_alone(make: Make, tmp_path: Path) -> None:
    disk = make(0)
    info = keep(disk, b"bytes")
    disk.make_room(100)
    disk.adopt(info, tmp_path)
    disk.validated(info, 1.0)
    disk.forget(info)
    assert disk.read(info, 0, 5) is None
    assert disk.quick(info, 5)
    assert list(tmp_path.iterdir()) == []


def test_reading_without_waiting_says_so_when_the_disk_is_slow(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make()
    info = keep(disk, b"bytes")

    def busy(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    monkeypatch.setattr(os, "preadv", busy)
    with pytest.raises(BlockingIOError):
        disk.read(info, 0, 5, wait=False)
    assert disk.read(info, 0, 5) == b"bytes"


def test_what_one_keeps_the_other_finds(make: Make) -> None:
    one, two = make(), make()
    body = blocks(2)
    info = version(body)
    one.store(info, 0, body[:BLOCK_BYTES])
    assert two.read(info, 0, BLOCK_BYTES) == body[:BLOCK_BYTES]
    two.store(info, BLOCK_BYTES, body[BLOCK_BYTES:])
    assert one.read(info, 0, len(body)) == body
    assert (one.corrupt, two.corrupt) == (0, 0)


def test_what_one_evicts_the_other_misses_and_can_keep_again(make: Make) -> None:
    one, two = make(), make()
    body = blocks(2)
    info = keep(one, body)
    assert two.read(info, 0, len(body)) == body
    one.forget(info)
    assert two.read(info, 0, len(body)) is None
    two.store(info, 0, body)
    assert one.read(info, 0, len(body)) == body


def test_an_entry_deleted_in_the_middle_of_a_read_stays_readable(make: Make) -> None:
    one, two = make(), make()
    body = blocks(2)
    info = keep(one, body)
    entry = one._opened.peek(one._identity(info).name)
    two.forget(info)
    assert entry is not None
    assert entry.read(range(2)) == body


def test_the_limit_holds_for_all_together(make: Make, clock: Clock) -> None:
    one, two = make(8 * MIB), make(8 * MIB)
    for number in range(40):
        clock.now_sec += 1
        keep((one, two)[number % 2], blocks(1, seed=number), f"key{number}")
    # Each may be mistaken about the other's additions by an eighth, before it looks again.
    assert taken(one.directory) <= 8 * MIB + 2 * MIB


def test_both_use_the_same_few_blocks_and_never_see_a_wrong_byte(make: Make) -> None:
    """One punches and evicts what the other one reads."""
    one, two = make(2 * MIB), make(2 * MIB)
    body = blocks(16)
    info = version(body)
    for round_ in range(64):
        writer, reader = (one, two) if round_ % 3 else (two, one)
        start = round_ * 5 % 16 * BLOCK_BYTES
        writer.store(info, start, body[start : start + BLOCK_BYTES])
        for number in range(16):
            found = reader.block(info, number)
            assert found in (None, body[number * BLOCK_BYTES :][:BLOCK_BYTES])
    assert (one.corrupt, two.corrupt) == (0, 0)


def test_a_block_that_is_punched_while_it_is_read_was_not_damaged(make: Make) -> None:
    disk = make()
    info = keep(disk, blocks(2))
    name = disk._identity(info).name

    def punched_meanwhile(*_: object) -> int:
        punch(base_path(disk.directory, name), None, 2 * BLOCK_BYTES)
        return 0

    unlucky = make(checksum=Checksum(CRC32C.name, punched_meanwhile))
    assert unlucky.read(info, 0, info.size) is None
    assert unlucky.corrupt == 0
