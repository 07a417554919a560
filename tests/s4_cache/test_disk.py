"""`cache.disk`: keeping, finding, evicting and adopting blocks."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.entry import Checksum, base_path, punch
from qarnotfs.cache.opened import OPEN_ENTRIES_MAX, TIMES_EVERY_SEC
from qarnotfs.cache.shelves import survey
from qarnotfs.cache.space import PAUSE_SEC
from qarnotfs.store.base import ObjectInfo
from tests.s4_cache.scripted import blocks, noise

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now_sec = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_sec


def version(body: bytes, key: str = "key") -> ObjectInfo:
    return ObjectInfo(key, len(body), hashlib.md5(body).hexdigest(), 1_700_000_000)


def keep(disk: Disk, body: bytes, key: str = "key") -> ObjectInfo:
    info = version(body, key)
    disk.store(info, 0, body)
    return info


def on_disk(directory: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in directory.rglob(pattern))


def taken(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in on_disk(directory, "*.map", "*.data"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., Disk]


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Make:
    """Builds a `Disk` on the test's directory that keeps nothing in memory."""

    def build(cache_bytes_max: int = 100 * MIB, **options: Any) -> Disk:
        options.setdefault("memory_bytes_max", 0)
        options.setdefault("clock", clock)
        return Disk(tmp_path / "cache", cache_bytes_max, **options)

    return build


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
    other = make(checksum=Checksum("sum", sum))
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

    def count(piece: memoryview) -> int:
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


# --- eviction -----------------------------------------------------------------------------


def test_the_least_recently_used_goes_first(make: Make, clock: Clock) -> None:
    disk = make(4 * MIB)
    infos = []
    for number in range(3):
        clock.now_sec += 1
        infos.append(keep(disk, blocks(4, seed=number), f"key{number}"))
    clock.now_sec += 1
    assert disk.read(infos[0], 0, 1) is not None
    keep(disk, blocks(4, seed=9), "new")
    kept = [disk.present(info, range(4)) == set(range(4)) for info in infos]
    assert kept == [True, False, True]
    assert taken(disk.directory) <= 4 * MIB
    assert disk.evicted_bytes >= MIB


def test_use_is_remembered_across_a_restart(make: Make, clock: Clock) -> None:
    before = make(4 * MIB)
    infos = []
    for number in range(3):
        clock.now_sec += 10
        infos.append(keep(before, blocks(4, seed=number), f"key{number}"))
    clock.now_sec += 10
    before.read(infos[0], 0, 1)
    before.close()
    after = make(4 * MIB)
    keep(after, blocks(4, seed=9), "new")
    assert after.read(infos[0], 0, MIB) is not None


def test_what_was_not_validated_goes_before_what_was_used_long_ago(
    make: Make, clock: Clock
) -> None:
    disk = make(4 * MIB, ttl_sec=60)
    old, young = keep(disk, blocks(4, 1), "old"), keep(disk, blocks(4, 2), "young")
    clock.now_sec += 100
    disk.validated(old, clock.now_sec)
    clock.now_sec += 1
    disk.read(young, 0, 1)
    keep(disk, blocks(4, 3), "third")
    keep(disk, blocks(4, 4), "new")
    assert disk.read(old, 0, MIB) is not None
    assert disk.read(young, 0, MIB) is None


def test_validation_is_remembered_across_a_restart(make: Make, clock: Clock) -> None:
    before = make(4 * MIB)
    old, young = keep(before, blocks(4, 1), "old"), keep(before, blocks(4, 2), "young")
    clock.now_sec += 100
    before.validated(old, clock.now_sec)
    before.close()
    after = make(4 * MIB, ttl_sec=60)
    keep(after, blocks(4, 3), "third")
    keep(after, blocks(4, 4), "new")
    assert after.read(old, 0, MIB) is not None
    assert after.read(young, 0, MIB) is None


def test_what_matters_is_written_down_also_for_a_process_that_is_killed(
    make: Make, clock: Clock
) -> None:
    killed = make()
    info = keep(killed, b"bytes")
    clock.now_sec += TIMES_EVERY_SEC
    killed.read(info, 0, 5)
    used_sec = clock.now_sec
    clock.now_sec += 1
    killed.validated(info, clock.now_sec)
    killed.read(info, 0, 5)
    (entry,) = survey(killed.directory, clock.now_sec + 1000)
    assert entry.last_use_sec == used_sec + 1
    assert entry.validated_at_sec == clock.now_sec


def test_files_that_others_deleted_are_closed_and_the_rest_stays_open(make: Make) -> None:
    one, two = make(), make()
    gone, stays = keep(one, b"gone", "gone"), keep(one, b"stays", "stays")
    two.forget(gone)
    one.make_room()
    assert one._opened.peek(one._identity(gone).name) is None
    assert one._opened.peek(one._identity(stays).name) is not None


def test_few_files_are_open(make: Make) -> None:
    disk = make()
    for number in range(2 * OPEN_ENTRIES_MAX):
        keep(disk, b"bytes", f"key{number}")
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    ours = [link for link in links if link.startswith(str(disk.directory))]
    assert len(ours) == 2 * OPEN_ENTRIES_MAX


def test_pinned_versions_stay(make: Make, clock: Clock) -> None:
    disk = make(4 * MIB)
    pinned = keep(disk, blocks(4), "pinned")
    disk.pin(pinned)
    for number in range(1, 6):
        clock.now_sec += 1
        keep(disk, blocks(4, seed=number), f"key{number}")
    assert disk.read(pinned, 0, MIB) is not None
    disk.unpin(pinned)
    for number in range(1, 6):
        clock.now_sec += 1
        keep(disk, blocks(4, seed=number), f"again{number}")
    assert disk.read(pinned, 0, MIB) is None


def test_an_object_larger_than_the_cache_streams_through_it(make: Make) -> None:
    body = blocks(40)
    disk, info = make(4 * MIB), version(body)
    for start in range(0, len(body), MIB):
        disk.store(info, start, body[start : start + MIB])
        assert disk.read(info, start, MIB) == body[start : start + MIB]
        assert taken(disk.directory) <= 4 * MIB
    kept = disk.present(info, range(40))
    assert 8 <= len(kept) < 16
    assert {36, 37, 38, 39} <= kept
    for number in kept:
        assert disk.block(info, number) == body[number * BLOCK_BYTES :][:BLOCK_BYTES]


def test_bytes_that_never_fit_evict_nothing(make: Make) -> None:
    disk = make(2 * MIB)
    info = keep(disk, blocks(4))
    keep(disk, blocks(9, seed=1), "too large")
    assert disk.read(info, 0, MIB) is not None


def test_forgotten_versions_are_gone(make: Make) -> None:
    disk = make(memory_bytes_max=MIB)
    info = keep(disk, b"bytes")
    disk.read(info, 0, 2)
    disk.forget(info)
    assert disk.read(info, 0, 5) is None
    assert on_disk(disk.directory, "*.map", "*.data") == []


# --- two processes ------------------------------------------------------------------------


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

    def punched_meanwhile(_: memoryview) -> int:
        punch(base_path(disk.directory, name), None, 2 * BLOCK_BYTES)
        return 0

    unlucky = make(checksum=Checksum("crc32", punched_meanwhile))
    assert unlucky.read(info, 0, info.size) is None
    assert unlucky.corrupt == 0


# --- adopting -----------------------------------------------------------------------------


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


# --- a disk that does not want ------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_is_left_alone_and_tried_again(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    disk = make(memory_bytes_max=MIB)
    kept = keep(disk, b"before", "before")
    written = os.pwrite

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", refuse)
    info = keep(disk, b"bytes")
    assert disk.read(info, 0, 5) == b"bytes"  # from memory
    assert disk.read(kept, 0, 6) == b"before"
    monkeypatch.setattr(os, "pwrite", written)
    keep(disk, b"later", "later")
    assert not make().read(version(b"later", "later"), 0, 5)
    clock.now_sec += PAUSE_SEC
    keep(disk, b"later", "later")
    assert make().read(version(b"later", "later"), 0, 5) == b"later"


def test_a_write_that_the_disk_took_half_of_leaves_no_block(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of storing one part fails once; what is left behind is never wrong."""
    body = blocks(2)
    info = version(body)
    real = os.pwrite
    for failing in range(6):
        calls = 0

        def half(fd: int, data: bytes, at: int, failing: int = failing) -> int:
            nonlocal calls
            calls += 1
            if calls > failing:
                raise OSError(errno.ENOSPC, "full")
            return real(fd, data[: max(1, len(data) // 2)], at)

        monkeypatch.setattr(os, "pwrite", half)
        make(scope=str(failing)).store(info, 0, body)
        monkeypatch.setattr(os, "pwrite", real)
        fresh = make(scope=str(failing))
        for number in range(2):
            assert fresh.block(info, number) in (None, body[number * BLOCK_BYTES :][:BLOCK_BYTES])


def test_a_nearly_full_disk_is_left_its_reserve(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make()
    info = keep(disk, blocks(8))
    real = os.statvfs(disk.directory)

    class Full:
        f_blocks, f_frsize, f_bavail = real.f_blocks, real.f_frsize, 0

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    disk.make_room()
    assert disk.bytes_used() == 0
    assert disk.read(info, 0, 1) is None


def test_a_directory_deleted_under_our_hands_is_made_again(make: Make, tmp_path: Path) -> None:
    disk = make()
    info = keep(disk, b"bytes")
    (tmp_path / "cache").rename(tmp_path / "gone")
    disk.make_room()
    keep(disk, noise(10), "other")
    assert disk.read(version(noise(10), "other"), 0, 10) == noise(10)
    assert disk.read(info, 0, 5) in (None, b"bytes")


def test_a_directory_that_cannot_be_made_means_no_cache(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    disk = Disk(tmp_path / "cache", MIB, memory_bytes_max=MIB, clock=clock)
    info = keep(disk, b"bytes")
    assert disk.read(info, 0, 5) == b"bytes"
    assert (tmp_path / "cache").is_file()
