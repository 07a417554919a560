"""Modes, owners, times, links: kept by the mount, by the object, and seen by the next mount."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Seen

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATIME_NS, MTIME_NS = 1_500_000_000_000_000_001, 1_600_000_000_123_456_789
# Only root may give files away.
OWNER = (1234, 5678) if os.getuid() == 0 else (os.getuid(), os.getgid())


def change(path: Path, mode: int) -> None:
    os.chown(path, *OWNER)
    os.chmod(path, mode)  # last: a change of owner takes set-user-id away
    os.utime(path, ns=(ATIME_NS, MTIME_NS))


def assert_changed(path: Path, mode: int) -> None:
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == mode
    assert (found.st_uid, found.st_gid) == OWNER
    assert (found.st_atime_ns, found.st_mtime_ns) == (ATIME_NS, MTIME_NS)


@pytest.mark.decision(8)
def test_survive_a_remount_with_a_fresh_cache(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"theirs")
    s3.put_object(Bucket=bucket, Key="unmarked/x", Body=b"")
    first = mounts()
    (first.path / "ours").write_bytes(b"ours")
    (first.path / "dir").mkdir()
    for name, mode in (("ours", 0o640), ("theirs", 0o4755), ("dir", 0o2750), ("unmarked", 0o700)):
        change(first.path / name, mode)
        assert_changed(first.path / name, mode)
    first.unmount()
    again = mounts()
    for name, mode in (("ours", 0o640), ("theirs", 0o4755), ("dir", 0o2750), ("unmarked", 0o700)):
        assert_changed(again.path / name, mode)
    assert (again.path / "theirs").read_bytes() == b"theirs"
    assert (again.path / "ours").read_bytes() == b"ours"


@pytest.mark.decision(8)
def test_are_stored_as_other_tools_write_them(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b"x")
    change(path, 0o640)
    expected = {
        "mode": str(stat.S_IFREG | 0o640),
        "uid": str(OWNER[0]),
        "gid": str(OWNER[1]),
        "mtime": "1600000000.123456789",
        "atime": "1500000000.000000001",
    }
    metadata = seen.metadata(path)
    assert {name: metadata[name] for name in expected} == expected


def test_of_an_object_that_has_none(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="dir/plain", Body=b"12345")
    modified = s3.head_object(Bucket=bucket, Key="dir/plain")["LastModified"]
    mount = mounts("--uid", "42", "--gid", "43", "--umask", "027")
    found = (mount.path / "dir" / "plain").stat()
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert (found.st_uid, found.st_gid, found.st_size) == (42, 43, 5)
    assert found.st_mtime == modified.timestamp()
    directory = (mount.path / "dir").stat()
    assert stat.S_ISDIR(directory.st_mode)
    assert stat.S_IMODE(directory.st_mode) == 0o750
    assert (directory.st_uid, directory.st_gid) == (42, 43)


def test_modes_of_objects_that_have_none(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="dir/plain", Body=b"12345")
    mount = mounts("--umask", "0", "--file-mode", "604", "--dir-mode", "2771")
    assert stat.S_IMODE((mount.path / "dir" / "plain").stat().st_mode) == 0o604
    assert stat.S_IMODE((mount.path / "dir").stat().st_mode) == 0o2771
    assert stat.S_IMODE(mount.path.stat().st_mode) == 0o2771


def test_written_by_another_tool(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    metadata = {"mode": "33152", "uid": "7", "gid": "8", "mtime": "1234567890.5", "tool": "x"}
    s3.put_object(Bucket=bucket, Key="file", Body=b"1", Metadata=metadata)
    mount = mounts()
    path = mount.path / "file"
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o600, 7, 8)
    assert found.st_mtime_ns == 1_234_567_890_500_000_000
    os.chmod(path, 0o644)
    mount.flush()
    kept = s3.head_object(Bucket=bucket, Key="file")["Metadata"]
    assert kept["tool"] == "x"
    assert kept["mode"] == str(stat.S_IFREG | 0o644)


def test_writing_moves_mtime_and_keeps_the_rest(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x")
    change(path, 0o640)
    before_ns = time.time_ns() - 10**9  # the kernel's coarse clock is a little behind
    with path.open("ab") as file:
        file.write(b"y")
    found = path.stat()
    assert found.st_mtime_ns >= before_ns
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert (found.st_uid, found.st_gid) == OWNER


def test_utime_while_open_for_writing(here: Path, seen: Seen) -> None:
    path = here / "file"
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        os.utime(file.fileno(), ns=(ATIME_NS, MTIME_NS))
    assert path.stat().st_mtime_ns == MTIME_NS
    assert seen.metadata(path)["mtime"] == "1600000000.123456789"


def test_dates_that_cannot_be_stored_are_the_nearest(mounts: Mounts) -> None:
    first = mounts()
    for name, sec in {"late": 10**10, "early": -(10**11)}.items():
        (first.path / name).touch()
        os.utime(first.path / name, (sec, sec))
    before = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
    first.unmount()
    assert before == {"late": 2**63 - 1, "early": 1 - 2**63}
    assert {path.name: path.stat().st_mtime_ns for path in mounts().path.iterdir()} == before


def test_creation_mode_heeds_umask(here: Path) -> None:
    path = here / "file"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o777))
    before = os.umask(0)
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~before


@pytest.mark.decision(8)
def test_symlinks(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    first = mounts()
    (first.path / "target").write_bytes(b"content")
    link = first.path / "link"
    link.symlink_to("target")
    (first.path / "broken").symlink_to("/no/such/place")
    assert link.read_bytes() == b"content"
    assert os.readlink(link) == "target"
    assert link.lstat().st_size == len("target")
    with pytest.raises(FileExistsError):
        link.symlink_to("elsewhere")
    link.rename(first.path / "renamed")
    first.unmount()
    assert s3.get_object(Bucket=bucket, Key="renamed")["Body"].read() == b"target"
    again = mounts()
    assert os.readlink(again.path / "renamed") == "target"
    assert os.readlink(again.path / "broken") == "/no/such/place"
    assert (again.path / "renamed").read_bytes() == b"content"
    (again.path / "renamed").unlink()
    assert sorted(os.listdir(again.path)) == ["broken", "target"]


def test_hard_links_are_refused(here: Path) -> None:
    (here / "file").touch()
    with pytest.raises(OSError, match=r".") as caught:
        os.link(here / "file", here / "second")
    assert caught.value.errno in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
    assert os.listdir(here) == ["file"]


def test_statfs(here: Path) -> None:
    found = os.statvfs(here)
    assert found.f_bsize > 0
    assert found.f_blocks >= found.f_bavail > 0
    assert found.f_namemax >= 255


@pytest.mark.decision(8)
def test_reading_leaves_the_access_time_alone(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(ATIME_NS, MTIME_NS))
    seen.mount.flush()
    assert path.read_bytes() == b"12345"
    assert path.stat().st_atime_ns == ATIME_NS


@pytest.mark.decision(1)
def test_every_file_says_what_it_is_in_the_bucket(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b"12345")
    seen.mount.flush()
    said = {name: os.getxattr(path, f"user.qarnotfs.{name}") for name in ("key", "etag", "state")}
    etag = hashlib.md5(b"12345").hexdigest().encode()
    assert said == {"key": seen.key(path).encode(), "etag": etag, "state": b"clean"}
    assert os.getxattr(path, "user.qarnotfs.cached") in {b"0", b"5"}
    assert os.listxattr(path) == []


def test_changes_reach_an_open_file(here: Path) -> None:
    path = here / "file"
    with path.open("wb", buffering=0) as file:
        file.write(b"12345")
        os.fchmod(file.fileno(), 0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size == 5
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_missing(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        (here / "none").stat()
    (here / "none").touch()
    assert (here / "none").stat().st_nlink >= 1


@pytest.mark.decision(17)
def test_same_inode_while_mounted(here: Path) -> None:
    path = here / "file"
    path.touch()
    number = path.stat().st_ino
    path.rename(here / "renamed")
    assert (here / "renamed").stat().st_ino == number
    with (here / "renamed").open("rb") as file:
        assert os.fstat(file.fileno()).st_ino == number
    assert [entry.inode() for entry in os.scandir(here)] == [number]


@pytest.mark.decision(8)
@pytest.mark.parametrize("name", ["system.posix_acl_access", "security.capability", "trusted.x"])
def test_attributes_that_no_file_has_are_not_supported(here: Path, name: str) -> None:
    """So `ls -l` asks one file of the device for its access list, and not each."""
    path = here / "file"
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(path, name)
    with pytest.raises(OSError, match="No data"):
        os.getxattr(path, "user.none")


@pytest.mark.parametrize("command", ["cp -a", "cp --preserve=all", "rsync -aX", "mv"])
def test_copying_tools_take_attributes_along(here: Path, tmp_path: Path, command: str) -> None:
    program, *options = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    theirs, ours = tmp_path / "from", here / "file"
    theirs.write_bytes(b"x")
    theirs.chmod(0o750)
    subprocess.run([program, *options, str(theirs), str(ours)], check=True)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o750
    os.setxattr(ours, "user.a", b"1")
    subprocess.run([program, *options, str(ours), str(here / "copy")], check=True)
    assert stat.S_IMODE((here / "copy").stat().st_mode) == 0o750
    assert os.getxattr(here / "copy", "user.a") == b"1"
    assert os.listxattr(here / "copy") == ["user.a"]
