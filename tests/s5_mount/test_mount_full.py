"""Too little room: a full disk under the cache, and a limit on what may wait for upload."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli, Mount, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOLD = ("--upload-delay", "3600")
MIB = 1 << 20
DISK_MIB = 32


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def held(small_disk: Path, mounts: Mounts, s3: S3Client, bucket: str) -> Iterator[Mount]:
    """A mount with its cache on the small disk, of a bucket with more in it than fits there."""
    s3.put_object(Bucket=bucket, Key="there", Body=random.Random(1).randbytes(40 * MIB))
    mount = mounts(*HOLD, "--dirty-size", "1G", cache_dir=small_disk)  # none waits for room
    yield mount
    mount.remove()


def test_warm_says_what_the_disk_has_no_room_for(
    cli: Cli, small_disk: Path, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=random.Random(1).randbytes(40 * MIB))
    s3.put_object(Bucket=bucket, Key="little", Body=b"bytes")
    warm = cli("warm", bucket, "--cache-dir", small_disk, "--cache-size", "1G")
    assert warm.code == 1
    assert "large: It was fetched, but the disk has no room to keep it" in warm.err
    assert "1 file (5 B) cached and pinned" in warm.out


def fill(path: Path) -> int:
    """Write until the disk is full; how many files were accepted, each of 1 MiB."""
    accepted: list[int] = []

    def write() -> None:
        for number in range(2 * DISK_MIB):
            (path / f"file{number:02}").write_bytes(b"%02d" % number * (MIB // 2))
            accepted.append(number)

    with pytest.raises(OSError, match="No space left on device"):
        write()
    return len(accepted)


def test_what_was_accepted_before_the_disk_was_full_arrives(
    held: Mount, s3: S3Client, bucket: str
) -> None:
    accepted = fill(held.path)
    assert accepted > DISK_MIB // 2  # the cache gave way
    (held.path / f"file{accepted:02}").unlink(missing_ok=True)
    held.unmount()
    names = [f"file{number:02}" for number in range(accepted)]
    assert bucket_keys(s3, bucket) == [*names, "there"]
    for number, name in enumerate(names):
        body = s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        assert body == b"%02d" % number * (MIB // 2)


def test_reading_goes_on_when_the_disk_is_full(held: Mount) -> None:
    accepted = fill(held.path)
    assert (held.path / "there").read_bytes() == random.Random(1).randbytes(40 * MIB)
    last = accepted - 1
    assert (held.path / f"file{last:02}").read_bytes() == b"%02d" % last * (MIB // 2)


def test_there_is_room_again_once_it_was_uploaded(held: Mount) -> None:
    accepted = fill(held.path)
    (held.path / f"file{accepted:02}").unlink(missing_ok=True)
    held.flush()
    (held.path / "more").write_bytes(bytes(4 * MIB))
    held.flush()


# --- --dirty-size ----------------------------------------------------------------------------


def test_a_writer_is_held_back_and_everything_arrives(
    mounts: Mounts, gateway: Gateway, s3: S3Client, bucket: str
) -> None:
    limit, size, count = 8 * MIB, 2 * MIB, 24
    with FaultProxy(gateway) as proxy:
        proxy.inject(Rule(Fault.SLOW, lambda method, _: method == "PUT"))
        mount = mounts(*HOLD, "--dirty-size", str(limit), endpoint=proxy.endpoint)

        def write() -> None:
            for number in range(count):
                (mount.path / f"file{number:02}").write_bytes(b"%02d" % number * (size // 2))

        most = _most(lambda: _bytes_staged(mount), write)
        assert limit - size <= most <= limit + 2 * size
        proxy.calm()
        mount.unmount()
    assert len(bucket_keys(s3, bucket)) == count
    for number in range(count):
        body = s3.get_object(Bucket=bucket, Key=f"file{number:02}")["Body"].read()
        assert body == b"%02d" % number * (size // 2)


def _most(measure: Callable[[], int], work: Callable[[], None]) -> int:
    """The largest figure that was measured while ``work`` went on."""
    worker = threading.Thread(target=work)
    worker.start()
    figures = [0]

    def ended() -> bool:
        figures.append(measure())
        return not worker.is_alive()

    eventually(ended, within_sec=100)
    worker.join()
    return max(figures)


def _bytes_staged(mount: Mount) -> int:
    """What `du` says of the files that wait for upload."""
    total = 0
    for path in mount.cache_dir.glob("*/journals/*/staged/*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # it has arrived
            continue
    return total
