"""Calls that must fail, and how: names without room, mounts to read only, programs that run."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.calling import closing, outcome
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Seen, bucket_keys, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY_BYTES_MAX = 1024
OBJECT_BYTES_MAX = 5 << 40
MAKE: dict[str, Callable[[Path], object]] = {
    "create": Path.touch,
    "mkdir": Path.mkdir,
    "mkfifo": os.mkfifo,
    "symlink": lambda path: path.symlink_to("target"),
    "rename": lambda path: path.with_name("file").rename(path),
    "rename directory": lambda path: path.with_name("dir").rename(path),
}
DIRECTORIES = {"mkdir", "rename directory"}  # whose marker's key ends in a slash

CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda top: closing(os.O_WRONLY)(f"{top}/file"),
    "read and write": lambda top: closing(os.O_RDWR)(f"{top}/file"),
    "empty": lambda top: closing(os.O_WRONLY | os.O_TRUNC)(f"{top}/file"),
    "append": lambda top: closing(os.O_WRONLY | os.O_APPEND)(f"{top}/file"),
    "create": lambda top: closing(os.O_RDONLY | os.O_CREAT)(f"{top}/new"),
    "create in a directory": lambda top: (top / "full" / "new").touch(),
    "truncate": lambda top: os.truncate(top / "file", 1),
    "mkdir": lambda top: (top / "new").mkdir(),
    "mkfifo": lambda top: os.mkfifo(top / "new"),
    "symlink": lambda top: (top / "new").symlink_to("file"),
    "link": lambda top: os.link(top / "file", top / "new"),
    "unlink": lambda top: (top / "file").unlink(),
    "rmdir": lambda top: (top / "empty").rmdir(),
    "rename": lambda top: (top / "file").rename(top / "new"),
    "rename onto": lambda top: (top / "file").rename(top / "full" / "inner"),
    "rename directory": lambda top: (top / "full").rename(top / "new"),
    "chmod": lambda top: (top / "file").chmod(0o600),
    "chmod of a directory": lambda top: (top / "full").chmod(0o700),
    "chown": lambda top: os.chown(top / "file", 1, 1),
    "utime": lambda top: os.utime(top / "file"),
    "set attribute": lambda top: os.setxattr(top / "file", "user.x", b"1"),
    "remove attribute": lambda top: os.removexattr(top / "file", "user.x"),
}


@pytest.mark.decision(5)
@pytest.mark.parametrize("make", MAKE)
def test_deep_in_a_tree_there_is_less_room_for_names(here: Path, seen: Seen, make: str) -> None:
    deep = here / ("d" * 700)
    (deep / "dir").mkdir(parents=True)
    (deep / "file").touch()
    assert os.pathconf(deep, "PC_NAME_MAX") == KEY_BYTES_MAX
    room = KEY_BYTES_MAX - len(seen.key(deep)) - len("/") - (make in DIRECTORIES)
    before = sorted(os.listdir(deep))
    assert outcome(partial(MAKE[make], deep / ("n" * (room + 1)))) == "ENAMETOOLONG"
    assert sorted(os.listdir(deep)) == before
    assert outcome(partial(MAKE[make], deep / ("n" * room))) == "ok"
    assert "n" * room in os.listdir(deep)
    assert max(len(key) for key in seen.keys(here)) == KEY_BYTES_MAX


@pytest.mark.decision(5)
@pytest.mark.parametrize("uploaded", [False, True], ids=["owed", "uploaded"])
def test_a_directory_is_not_renamed_where_its_files_would_have_no_room(
    here: Path, seen: Seen, uploaded: bool
) -> None:
    """Not even in part."""
    (here / "a" / "sub").mkdir(parents=True)
    room = KEY_BYTES_MAX - len(seen.key(here / "a" / "sub")) - len("/")
    paths = [here / "a" / "first", here / "a" / "sub" / ("n" * room)]
    for path in paths:
        path.write_bytes(b"1")
    if uploaded:
        seen.mount.flush()
    assert outcome(partial(os.rename, here / "a", here / "longer")) == "ENAMETOOLONG"
    assert os.listdir(here) == ["a"]
    assert [path.read_bytes() for path in paths] == [b"1", b"1"]
    assert {seen.key(path) for path in paths} <= set(seen.keys(here))
    assert not [key for key in seen.keys(here) if "/longer" in key]
    assert outcome(partial(os.rename, here / "a", here / "b")) == "ok"


def test_a_mount_to_read_only_refuses_every_change(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    first = mounts()
    for name in ("full", "empty"):
        (first.path / name).mkdir()
    for name in ("file", "full/inner"):
        (first.path / name).write_bytes(b"12345")
    os.setxattr(first.path / "file", "user.x", b"1")
    first.unmount()
    keys = bucket_keys(s3, bucket)
    top = mounts("--read-only").path
    came = {name: outcome(partial(change, top)) for name, change in CHANGES.items()}
    assert came == dict.fromkeys(CHANGES, "EROFS")
    assert not os.access(top / "file", os.W_OK)
    assert (top / "file").read_bytes() == b"12345"
    assert bucket_keys(s3, bucket) == keys


def test_a_program_that_runs_is_not_written_to(here: Path) -> None:
    """Nor is one run that is being written: the kernel's doing, on any file system."""
    path = here / "program"
    shutil.copy(shutil.which("sleep") or "", path)
    assert path.stat().st_mode & stat.S_IXUSR
    with path.open("ab"):
        assert outcome(lambda: subprocess.run([path, "0"], check=True)) == "ETXTBSY"
    running = subprocess.Popen([path, "1000"])
    try:
        assert outcome(partial(closing(os.O_WRONLY), str(path))) == "ETXTBSY"
        assert outcome(partial(os.truncate, path, 0)) == "ETXTBSY"
        path.unlink()
    finally:
        running.kill()
        running.wait()


def test_fsync_of_a_directory_means_that_its_names_are_in_the_bucket(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    top = mounts("--upload-delay", "3600").path / "dir"
    top.mkdir()

    def names_after_fsync() -> list[str]:
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        return bucket_keys(s3, bucket)

    for name in ("kept", "renamed", "removed"):
        (top / name).write_bytes(b"1")
    assert names_after_fsync() == ["dir/", "dir/kept", "dir/removed", "dir/renamed"]
    (top / "renamed").rename(top / "new")
    (top / "removed").unlink()
    assert names_after_fsync() == ["dir/", "dir/kept", "dir/new"]


@pytest.mark.decision(1)
def test_sync_of_everything_does_not_wait_and_of_one_file_does(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    """The kernel does not tell a mount of the former."""
    path = mounts("--upload-delay", "3600").path / "file"
    path.write_bytes(b"1")
    run("sync", "--file-system", path)
    assert bucket_keys(s3, bucket) == []
    run("sync", path)
    assert bucket_keys(s3, bucket) == ["file"]


@pytest.mark.decision(1)
@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])
def test_each_write_waits_where_it_shall(
    mounts: Mounts, s3: S3Client, bucket: str, flag: int
) -> None:
    path = mounts("--upload-delay", "3600").path / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | flag)
    for text in (b"1", b"12"):
        os.write(descriptor, text[-1:])
        assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == text
    os.close(descriptor)


@pytest.mark.decision(17)
def test_no_file_is_larger_than_an_object_can_be(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b"12345")
    with path.open("r+b", buffering=0) as file:
        too_far = (
            partial(os.truncate, path, OBJECT_BYTES_MAX + 1),
            partial(os.ftruncate, file.fileno(), 1 << 62),
            partial(os.pwrite, file.fileno(), b"x", OBJECT_BYTES_MAX),
        )
        assert [outcome(call) for call in too_far] == ["EFBIG"] * 3
    assert seen.content(path) == b"12345"


@pytest.mark.decision(8)
def test_attributes_of_a_file_have_two_kibibytes(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b"12345")
    os.setxattr(path, "user.a", bytes(1000))
    assert outcome(partial(os.setxattr, path, "user.b", bytes(1000))) == "ENOSPC"
    assert outcome(partial(os.setxattr, path, "user.a", bytes(2000))) == "ENOSPC"
    path.chmod(0o600)
    assert os.listxattr(path) == ["user.a"]
    assert os.getxattr(path, "user.a") == bytes(1000)
    assert int(seen.metadata(path)["mode"]) == stat.S_IFREG | 0o600
