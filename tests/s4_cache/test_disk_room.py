"""`cache.disk`: who has to go, and disks that do not want."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.opened import OPEN_ENTRIES_MAX, TIMES_EVERY_SEC
from qarnotfs.cache.shelves import survey
from qarnotfs.cache.space import PAUSE_SEC
from tests.s4_cache.scripted import blocks, noise
from tests.s4_cache.shelf import MIB, Clock, Make, keep, made_room_in, on_disk, taken, version


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
        keep(disk, blocks(1) + b"x", f"key{number}")
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    ours = [link for link in links if link.startswith(str(disk.directory))]
    assert len(ours) == 2 * OPEN_ENTRIES_MAX


def test_pinned_versions_stay(make: Make, clock: Clock) -> None:
    disk = make(4 * MIB)
    pinned = keep(disk, blocks(4), "pinned")
    disk.pins.pin("p", disk.entries([pinned]))
    for number in range(1, 6):
        clock.now_sec += 1
        keep(disk, blocks(4, seed=number), f"key{number}")
    assert disk.read(pinned, 0, MIB) is not None
    disk.pins.unpin("p")
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


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_many_small_versions_take_no_more_of_the_disk_than_they_may(make: Make, size: int) -> None:
    """The disk gives whole blocks, and each version has a map, which has its own."""
    disk = make(4 * MIB)
    for number in range(1000):
        keep(disk, noise(size, seed=number), f"key{number}")
        if not number % 100:
            assert taken(disk.directory) <= 4 * MIB
    assert 2 * MIB <= taken(disk.directory) <= 4 * MIB
    assert taken(disk.directory) * 7 // 8 <= disk.bytes_used() <= 4 * MIB


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


def test_a_cache_full_of_pinned_versions_is_not_looked_through_for_each_block(make: Make) -> None:
    disk = make(2 * MIB)
    disk.pins.pin("p", disk.entries([keep(disk, blocks(7), "pinned")]))
    keep(disk, blocks(4, seed=1), "no room")
    surveys = disk._space.surveys
    for number in range(5):
        info = keep(disk, blocks(4, seed=number), f"key{number}")
        assert disk.present(info, range(4)) == set()
    assert disk._space.surveys == surveys


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


def test_a_process_that_does_not_end_making_room_is_not_waited_for(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.cache.space.PATIENCE_SEC", 0.1)
    disk = make(memory_bytes_max=MIB)
    with made_room_in(disk.directory):
        info = keep(disk, b"bytes")
        assert disk.read(info, 0, 5) == b"bytes"  # from memory
        assert on_disk(disk.directory, "*.data") == []
        clock.now_sec += PAUSE_SEC
        keep(disk, b"bytes")  # it is looked whether that has ended
        assert on_disk(disk.directory, "*.data") == []
    clock.now_sec += PAUSE_SEC
    keep(disk, b"bytes")
    assert make().read(info, 0, 5) == b"bytes"


def test_a_process_that_ends_making_room_in_time_is_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.cache.space.PATIENCE_SEC", 30.0)
    disk = make()
    with ThreadPoolExecutor() as threads:
        with made_room_in(disk.directory):
            keeping = threads.submit(keep, disk, b"bytes")
            assert not wait([keeping], timeout=0.1).done
        info = keeping.result()
    assert make().read(info, 0, 5) == b"bytes"


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
