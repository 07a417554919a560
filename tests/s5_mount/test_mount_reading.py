"""Reading many files: what is asked of the gateway for it, counted in its own log."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter as Tally
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qarnotfs.core.kinds import SMALLEST, SPREAD
from qarnotfs.index.versions import RACY_SEC
from tests.rgw import Gateway, Request
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount, run
from tests.s5_mount.test_mount_time import Counter
from tests.s8_cli.objects import fill
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST_LOOKS = 5  # files whose attributes are asked for before it is known what a program does
LARGE_COUNT = 4_000
LONG = ("--cache-ttl", "3600")


def body(number: int) -> bytes:
    return random.Random(number).randbytes(4096)


def small_files(s3: S3Client, bucket: str, count: int) -> None:
    fill(s3, bucket, {f"d{n % 2}/{n:04}": body(n) for n in range(count)})


def kinds(requests: list[Request]) -> Tally[str]:
    return Tally("LIST" if "list-type" in r.path else r.method for r in requests)


def test_copying_a_tree_is_one_get_a_file(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str, tmp_path: Path
) -> None:
    small_files(s3, bucket, 100)
    mount = mounts(*LONG)
    asked = Counter(gateway, bucket)
    run("cp", "-r", mount.path, tmp_path / "copy")
    found = kinds(asked())
    assert found["GET"] == 100
    # And one for each directory's marker, and for what some of its files are, at most.
    assert found["HEAD"] <= FIRST_LOOKS + 2 * (1 + SMALLEST + SPREAD)
    assert found["LIST"] == 3
    for number in range(100):
        assert (tmp_path / "copy" / f"d{number % 2}" / f"{number:04}").read_bytes() == body(number)


def test_a_program_that_walks_a_tree_is_told_what_is_a_file(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    """Else it would ask of each name, before it reads the first: also in the second directory."""
    small_files(s3, bucket, 200)
    mount = mounts(*LONG)
    asked = Counter(gateway, bucket)
    seen = 0
    for directory, below, names in os.walk(mount.path):
        below.sort()
        for name in sorted(names):
            assert Path(directory, name).read_bytes() == body(int(name))
            seen += 1
    assert seen == 200
    found = kinds(asked())
    assert found["GET"] == 200
    assert found["HEAD"] <= FIRST_LOOKS + 2 * (1 + SMALLEST + SPREAD)


def test_a_listed_directory_needs_no_lookups(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    small_files(s3, bucket, 100)
    mount = mounts(*LONG, "--attrs", "listing")
    asked = Counter(gateway, bucket)
    assert len(os.listdir(mount.path / "d0")) == 50
    assert kinds(asked())["LIST"] == 2
    for number in range(200):
        assert (mount.path / "d0" / f"{number:04}").exists() == (number % 2 == 0 and number < 100)
    assert asked() == []


@pytest.mark.decision(3)
def test_after_the_ttl_one_request_renews_a_directory(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    fill(s3, bucket, {f"{n:02}": body(n) for n in range(20)})
    settled_sec = time.time() + RACY_SEC + 1  # from then on LastModified tells versions apart
    mount = mounts("--cache-ttl", "6")
    asked = Counter(gateway, bucket)
    eventually(lambda: time.time() > settled_sec)

    def read_all() -> list[Request]:
        for number in range(20):
            assert (mount.path / f"{number:02}").read_bytes() == body(number)
        return asked()

    read_all()
    renewed = kinds(eventually(read_all))
    assert renewed == {"LIST": 1}


def test_thousands_of_names_come_page_by_page_and_once(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    fill(s3, bucket, {f"d/{n:05}": b"" for n in range(LARGE_COUNT)})
    mount = mounts(*LONG)
    asked = Counter(gateway, bucket)
    with os.scandir(mount.path / "d") as entries:
        next(entries)
        assert kinds(asked())["LIST"] <= 4  # of the root, and a page or two ahead
        names = {entry.name for entry in entries}
    assert len(names) == LARGE_COUNT - 1
    asked()
    assert len(os.listdir(mount.path / "d")) == LARGE_COUNT
    assert not (mount.path / "d" / "none").exists()
    assert asked() == []
    mount.unmount()
    again = mounts(*LONG, cache_dir=mount.cache_dir)
    asked()
    assert len(os.listdir(again.path / "d")) == LARGE_COUNT
    assert asked() == []


def test_several_mounts_share_one_cache_at_the_same_time(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    small_files(s3, bucket, 60)
    first = mounts(*LONG, "--cache-size", "2M")
    second = mounts(*LONG, "--cache-size", "2M", cache_dir=first.cache_dir)
    third = mounts("--cache-ttl", "0", cache_dir=first.cache_dir)

    def work(mount: Mount) -> None:
        for number in random.Random(str(mount.path)).sample(range(60), 60):
            assert (mount.path / f"d{number % 2}" / f"{number:04}").read_bytes() == body(number)
        mine = mount.path / f"by-{mount.path.name}"
        mine.write_bytes(body(1000))
        assert mine.name in os.listdir(mount.path)
        assert mine.read_bytes() == body(1000)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, [first, second, third] * 2))
    for mount in (first, second, third):
        mount.flush()
    names = {f"by-{mount.path.name}" for mount in (first, second, third)}
    eventually(lambda: names <= set(os.listdir(third.path)))
    for mount in (first, second, third):
        assert mount.status()["cache"]["corrupt"] == 0
        assert mount.status()["errors"] == []


def test_a_cache_directory_full_of_garbage_harms_nobody(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    small_files(s3, bucket, 30)
    first = mounts(*LONG)
    read_all(first)
    first.unmount()
    [place] = first.cache_dir.glob(f"{bucket}-*")
    spoil(place, random.Random(5))
    again = mounts(*LONG, cache_dir=first.cache_dir)
    read_all(again)
    told = again.log_path.read_text()
    assert "beliefs" in told
    assert f"{'aa' * 20} is removed from the cache: no block map of this format" in told
    assert "1 damaged blocks of 'd0/" in told
    again.unmount()
    read_all(mounts(*LONG, cache_dir=first.cache_dir))


def read_all(mount: Mount) -> None:
    for number in range(30):
        assert (mount.path / f"d{number % 2}" / f"{number:04}").read_bytes() == body(number)


def spoil(place: Path, chance: random.Random) -> None:
    """Garbage, truncated files, flipped bits, an old format, and files of another bucket."""
    for number, path in enumerate(sorted((place / "blocks").rglob("*.*"))):
        data = bytearray(path.read_bytes())
        if number % 4 == 0:
            data = data[: len(data) // 2]
        elif number % 4 == 1 and data:
            data[chance.randrange(len(data))] ^= 0x10
        elif number % 4 == 2:
            data = bytearray(chance.randbytes(len(data)))
        path.write_bytes(data)
    (place / "blocks" / "aa").mkdir(exist_ok=True)
    for kind in ("map", "data"):
        foreign = place / "blocks" / "aa" / f"{'aa' * 20}.{kind}"
        foreign.write_bytes(b"QFSMAP\0\0" + bytes(5000))
    (place / "blocks" / "pins.db").write_bytes(chance.randbytes(8192))
    with sqlite3.connect(place / "beliefs.db") as db:
        db.execute("PRAGMA user_version = 1")


def test_pages_of_a_listing_that_are_damaged_are_listed_again(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    small_files(s3, bucket, 30)
    first = mounts(*LONG)
    read_all(first)
    first.unmount()
    [place] = first.cache_dir.glob(f"{bucket}-*")
    with sqlite3.connect(place / "beliefs.db") as db:
        db.execute("UPDATE pages SET data = X'00'")
    again = mounts(*LONG, cache_dir=first.cache_dir)
    assert len(os.listdir(again.path / "d0")) == 15
    read_all(again)
