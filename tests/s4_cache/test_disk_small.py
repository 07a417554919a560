"""`cache.disk`: a version of one block is one file, whatever lies there."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from qarnotfs.cache.blockmap import ATTRIBUTE, ATTRIBUTE_BYTES, read_attribute
from qarnotfs.cache.blocks import BLOCK_BYTES
from qarnotfs.cache.shelves import GRACE_SEC, survey
from tests.s4_cache.scripted import blocks
from tests.s4_cache.shelf import Clock, Make, keep, on_disk, taken, version

BODY = b"small" * 1000
FILES = "*.data", "*.map", "*.tmp"


@pytest.fixture
def no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no attributes here")

    monkeypatch.setattr(os, "setxattr", unsupported)


def adopted(make: Make, folder: Path, body: bytes = BODY) -> Path:
    """A staged file that is the cache entry of its version, too."""
    staged = folder / "staged"
    staged.write_bytes(body)
    make().adopt(version(body), staged)
    return staged


@pytest.mark.parametrize("size", [1, 4096, BLOCK_BYTES])
def test_it_is_one_file_stored_or_adopted(make: Make, tmp_path: Path, size: int) -> None:
    body = blocks(1)[:size]
    info = keep(make(), body)
    (data,) = on_disk(make().directory, *FILES)
    assert make().read(info, 0, size) == body
    data.unlink()
    assert make().read(info, 0, size) is None
    staged = adopted(make, tmp_path, body)
    assert on_disk(make().directory, *FILES) == [data]
    assert data.samefile(staged)
    assert make().read(info, 0, size) == body


def test_a_byte_more_has_a_map_file(make: Make) -> None:
    info = keep(make(), body := blocks(1) + b"x")
    assert [path.suffix for path in on_disk(make().directory, *FILES)] == [".data", ".map"]
    assert make().read(info, 0, info.size) == body


@pytest.mark.usefixtures("no_attributes")
def test_where_there_are_no_attributes_it_has_a_map_file(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = keep(make(), BODY, "one"), version(BODY)
    adopted(make, tmp_path)
    assert [path.suffix for path in on_disk(make().directory, *FILES)] == [".data", ".map"] * 2
    assert [make().read(info, 0, info.size) for info in (one, two)] == [BODY] * 2
    monkeypatch.undo()  # a kernel that has them, later
    assert [make().read(info, 0, info.size) for info in (one, two)] == [BODY] * 2
    make().forget(one)
    make().forget(two)
    assert on_disk(make().directory, *FILES) == []


@pytest.mark.parametrize("at", [0, len(BODY) - 1])
def test_a_flipped_bit_is_counted_and_forgotten(make: Make, at: int) -> None:
    info = keep(make(), BODY)
    (data,) = on_disk(make().directory, *FILES)
    data.write_bytes(BODY[:at] + b"?" + BODY[at + 1 :])
    disk = make()
    assert disk.read(info, 0, info.size) is None
    assert disk.corrupt == 1
    assert disk.read(info, 0, info.size) is None
    assert disk.corrupt == 1
    keep(disk, BODY)
    assert make().read(info, 0, info.size) == BODY


@pytest.mark.parametrize("seed", range(20))
def test_an_attribute_full_of_garbage(
    make: Make, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    info = keep(make(), BODY)
    (data,) = on_disk(make().directory, *FILES)
    rng = random.Random(seed)
    value = bytearray(read_attribute(str(data)))
    assert len(value) == ATTRIBUTE_BYTES
    at = rng.randrange(32)  # what says which version it is of, and in which format
    value[at] ^= rng.randint(1, 255)
    os.setxattr(data, ATTRIBUTE, value[: rng.choice([at + 1, ATTRIBUTE_BYTES])])
    disk = make()
    assert disk.read(info, 0, info.size) is None
    assert sum("is removed from the cache" in record.getMessage() for record in caplog.records) == 1
    keep(disk, BODY)
    assert make().read(info, 0, info.size) == BODY


@pytest.mark.parametrize("seed", range(20))
def test_a_record_or_times_full_of_garbage(make: Make, clock: Clock, seed: int) -> None:
    info = keep(make(), BODY)
    (data,) = on_disk(make().directory, *FILES)
    value = read_attribute(str(data))
    os.setxattr(data, ATTRIBUTE, value[:32] + random.Random(seed).randbytes(24))
    assert make().read(info, 0, info.size) is None
    (entry,) = survey(data.parent.parent, clock.now_sec)
    assert max(entry.last_use_sec, entry.validated_at_sec) <= clock.now_sec
    keep(make(), BODY)
    assert make().read(info, 0, info.size) == BODY


def test_the_file_of_another_version_under_its_name(make: Make) -> None:
    theirs, ours = keep(make(), b"their" * 1000, "a"), keep(make(), BODY, "b")
    for data in on_disk(make().directory, "*.data"):
        if data.read_bytes() == BODY:
            mine = data
        else:
            other = data
    other.replace(mine)
    assert make().read(ours, 0, ours.size) is None
    assert make().read(theirs, 0, theirs.size) is None


def test_a_file_without_its_attribute_is_swept_when_it_is_old(make: Make, clock: Clock) -> None:
    keep(make(), BODY)
    (data,) = on_disk(make().directory, *FILES)
    os.removexattr(data, ATTRIBUTE)
    clock.now_sec = data.stat().st_ctime
    make().make_room()
    assert data.exists()
    clock.now_sec += GRACE_SEC + 1
    make().make_room()
    assert not data.exists()


def test_what_it_takes_is_known_and_it_goes_when_it_was_not_used_for_longest(
    make: Make, clock: Clock
) -> None:
    disk = make(100 * 4096)
    infos = []
    for number in range(100):
        clock.now_sec += 1
        infos.append(keep(disk, b"%04d" % number, f"key{number}"))
        assert disk.bytes_used() == taken(disk.directory) == (number + 1) * 4096
    clock.now_sec += 1
    assert disk.read(infos[0], 0, 4) == b"0000"
    disk.close()
    again = make(100 * 4096)
    keep(again, b"new", "new")
    assert again.bytes_used() == taken(disk.directory) <= 100 * 4096
    kept = [again.read(info, 0, 4) is not None for info in infos]
    assert kept[0]
    assert not kept[1]
    assert kept[1:] == sorted(kept[1:])


def test_who_has_an_adopted_file_open_does_not_see_it_change(make: Make, tmp_path: Path) -> None:
    staged = adopted(make, tmp_path)
    disk, info = make(), version(BODY)
    keep(disk, BODY)
    assert staged.stat().st_nlink == 1  # what was stored is another file
    staged.write_bytes(b"written on")
    assert disk.read(info, 0, info.size) == BODY
    assert make().read(info, 0, info.size) == BODY


def test_a_staged_file_that_is_written_on_and_sent_again(make: Make, tmp_path: Path) -> None:
    staged = adopted(make, tmp_path)
    staged.write_bytes(later := BODY + b"more")
    disk = make()
    disk.adopt(version(later), staged)
    assert disk.read(version(BODY), 0, len(BODY)) is None
    assert make().read(version(later), 0, len(later)) == later


@pytest.mark.parametrize("size", [1, 4097, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_what_it_will_take_is_known_before(make: Make, size: int) -> None:
    info = keep(disk := make(), blocks(2)[:size])
    assert [taken(disk.directory)] == [total for _, total in disk.entries([info])]


def test_who_will_not_wait_adopts_small_files_alone_and_never_makes_room(
    make: Make, tmp_path: Path
) -> None:
    staged = tmp_path / "staged"
    disk = make(8 * BLOCK_BYTES)
    disk.make_room()
    staged.write_bytes(large := blocks(1) + b"x")
    with pytest.raises(BlockingIOError):
        disk.adopt(version(large), staged, wait=False)
    staged.write_bytes(BODY)
    disk.adopt(version(BODY), staged, wait=False)
    assert make().read(version(BODY), 0, len(BODY)) == BODY
    keep(disk, blocks(7), "full")
    staged.write_bytes(small := blocks(1, seed=1))
    with pytest.raises(BlockingIOError):
        disk.adopt(version(small), staged, wait=False)
    disk.adopt(version(small), staged)
    assert make().read(version(small), 0, len(small)) == small
