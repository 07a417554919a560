"""What can be done to directories, and what the bucket then holds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli, Seen, bucket_keys, run
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Every one of these is an object somebody can store, and that no path can name as it stands.
ODD_KEYS = (
    "a",  # both a file and
    "a/b",  # a directory
    "double//slash",
    "/leading",
    "./dot",
    "../up",
    "x/./y",
    "x/../z",
    "trailing/",  # with bytes: no directory marker
    "percent%2Fsign",
    "line\nfeed",
    "tab\tand 'quotes\"",
    "ünïcode/日本",
    "n" * 255 + "/" + "k" * 255,
    "n" * 1024,
)


def put_all(s3: S3Client, bucket: str, keys: Iterable[str]) -> None:
    """Store an object under each key whose content is the key."""

    def put(key: str) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))


@pytest.mark.decision(6)
def test_mkdir(here: Path, seen: Seen) -> None:
    path = here / "new"
    path.mkdir()
    assert path.is_dir()
    assert os.listdir(path) == []
    with pytest.raises(FileExistsError):
        path.mkdir()
    with pytest.raises(FileNotFoundError):
        (here / "no" / "parent").mkdir()
    assert seen.key(path) + "/" in seen.keys(here)


def test_makedirs_and_walk(here: Path, seen: Seen) -> None:
    deep = here / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "leaf").write_bytes(b"1")
    (here / "a" / "top").write_bytes(b"2")
    found = [(Path(folder).name, sorted(files)) for folder, _, files in os.walk(here / "a")]
    assert found == [("a", ["top"]), ("b", []), ("c", ["leaf"])]
    assert seen.key(deep / "leaf") in seen.keys(here)


def test_rmdir(here: Path, seen: Seen) -> None:
    path = here / "gone"
    path.mkdir()
    (path / "child").touch()
    with pytest.raises(OSError, match="not empty"):
        path.rmdir()
    (path / "child").unlink()
    path.rmdir()
    assert not path.exists()
    assert seen.keys(path) == []
    with pytest.raises(FileNotFoundError):
        path.rmdir()


def test_rmdir_of_a_directory_the_bucket_filled(here: Path, seen: Seen) -> None:
    child = seen.put(here / "theirs" / "child", b"1")
    with pytest.raises(OSError, match="not empty"):
        child.parent.rmdir()
    assert seen.content(child) == b"1"


@pytest.mark.decision(6)
def test_directory_without_marker_outlives_its_last_file(here: Path, seen: Seen) -> None:
    child = seen.put(here / "theirs" / "child", b"1")
    child.unlink()
    assert child.parent.is_dir()
    assert os.listdir(child.parent) == []
    assert seen.keys(child.parent) == [seen.key(child.parent) + "/"]


@pytest.mark.decision(9)
def test_rename_directory(here: Path, seen: Seen) -> None:
    old, new = here / "old", here / "new"
    (old / "sub").mkdir(parents=True)
    (old / "sub" / "pending").write_bytes(b"ours")
    seen.put(old / "uploaded", b"theirs")
    (old / "empty").mkdir()
    assert sorted(os.listdir(old)) == ["empty", "sub", "uploaded"]
    old.rename(new)
    assert not old.exists()
    assert sorted(os.listdir(new)) == ["empty", "sub", "uploaded"]
    assert (new / "sub" / "pending").read_bytes() == b"ours"
    assert (new / "uploaded").read_bytes() == b"theirs"
    assert seen.content(new / "uploaded") == b"theirs"
    assert seen.content(new / "sub" / "pending") == b"ours"
    assert seen.keys(old) == []


def test_rename_of_uploaded_directory_with_many_files(here: Path, seen: Seen) -> None:
    old, new = here / "old", here / "new"
    old.mkdir()
    for number in range(60):
        (old / f"{number:03}").write_bytes(b"%d" % number)
    seen.mount.flush()
    old.rename(new)
    assert [(new / f"{number:03}").read_bytes() for number in range(60)] == [
        b"%d" % number for number in range(60)
    ]
    assert seen.keys(old) == []
    assert seen.content(new / "059") == b"59"


def test_rename_directory_onto_others(here: Path) -> None:
    source, empty, full = here / "source", here / "empty", here / "full"
    for path in (source, empty, full):
        path.mkdir()
    (source / "file").write_bytes(b"1")
    (full / "file").write_bytes(b"2")
    with pytest.raises(OSError, match="not empty"):
        source.rename(full)
    with pytest.raises(OSError, match="Invalid argument"):
        source.rename(source / "below")
    source.rename(empty)
    assert (empty / "file").read_bytes() == b"1"
    with pytest.raises(IsADirectoryError):
        (empty / "file").rename(full)


def test_large_directory(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    names = {f"file-{number:05}" for number in range(1500)}
    put_all(s3, bucket, {f"big/{name}" for name in names} | {f"big/dir-{n}/x" for n in range(50)})
    mount = mounts()
    expected = names | {f"dir-{number}" for number in range(50)}
    listed = os.listdir(mount.path / "big")
    assert len(listed) == len(expected)
    assert set(listed) == expected
    assert run("ls", "-U", mount.path / "big").count("\n") == len(expected)


def test_listing_while_files_come_and_go(here: Path) -> None:
    names = [f"stays-{number}" for number in range(300)]
    for name in names:
        (here / name).touch()
    with os.scandir(here) as entries:
        found = [next(entries).name]
        for number in range(20):
            (here / f"comes-{number}").touch()
        (here / "comes-0").unlink()
        found += [entry.name for entry in entries]
    assert len(found) == len(set(found)), "an entry twice"
    assert set(names) <= set(found)


def test_remove_a_tree(here: Path, seen: Seen) -> None:
    for folder in ("tree", "tree/a", "tree/a/b"):
        (here / folder).mkdir()
        for number in range(10):
            (here / folder / f"file{number}").write_bytes(b"x")
    seen.mount.flush()
    run("rm", "-r", here / "tree")
    assert os.listdir(here) == []
    assert seen.keys(here / "tree") == []


def test_deletions_go_out_a_thousand_at_a_time(
    mounts: Mounts, cli: Cli, s3: S3Client, gateway: Gateway, bucket: str, tmp_path: Path
) -> None:
    """The gateway refuses a batch of more, so three that it took had at most 1000 keys each."""
    for number in range(2500):
        path = tmp_path / "tree" / f"{number % 7}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    cli("put", "--quiet", "--recursive", tmp_path / "tree", f"{bucket}:tree/").ok()
    s3.put_object(Bucket=bucket, Key="kept", Body=b"1")
    assert len(bucket_keys(s3, bucket)) == 2501
    mount = mounts("--upload-delay", "3600")
    mark = gateway.mark()
    run("rm", "-rf", mount.path / "tree")
    mount.flush()
    assert bucket_keys(s3, bucket) == ["kept"]
    asked = gateway.requests(mark)
    batches = [r.status for r in asked if r.method == "POST" and r.path.endswith("?delete")]
    assert batches == [200, 200, 200]
    assert [r for r in asked if r.method in ("PUT", "DELETE")] == []
    assert os.listdir(mount.path) == ["kept"]


def test_every_object_is_reachable(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ODD_KEYS)
    mount = mounts()
    contents = [
        (Path(folder) / name).read_bytes().decode()
        for folder, _, names in os.walk(mount.path)
        for name in names
    ]
    assert sorted(contents) == sorted(ODD_KEYS)


@pytest.mark.decision(5)
def test_names_that_look_like_escapes_keep_their_names(
    mounts: Mounts, s3: S3Client, bucket: str
) -> None:
    names = ["%", "%41", "100%", "%2E%2E", "~tilde", " blank ", "-dash", "back\\"]
    mount = mounts()
    with pytest.raises(PermissionError):
        (mount.path / "%2F").touch()  # the name of nothing at all
    with pytest.raises(OSError, match="Invalid") as caught:
        (mount.path / "a%FILE").touch()  # the name of an object beside a directory a
    assert caught.value.errno == errno.EILSEQ
    for name in names:
        (mount.path / name).write_text(name)
    assert sorted(os.listdir(mount.path)) == sorted(names)
    mount.unmount()
    again = mounts()
    assert sorted(os.listdir(again.path)) == sorted(names)
    assert [(again.path / name).read_text() for name in names] == names


def test_others_changes_appear(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="dir/old", Body=b"1")
    mount = mounts("--cache-ttl", "0")
    assert os.listdir(mount.path / "dir") == ["old"]
    s3.put_object(Bucket=bucket, Key="dir/new", Body=b"2")
    s3.delete_object(Bucket=bucket, Key="dir/old")
    eventually(lambda: os.listdir(mount.path / "dir") == ["new"])
    assert (mount.path / "dir" / "new").read_bytes() == b"2"
    assert not (mount.path / "dir" / "old").exists()


def test_a_link_that_looked_like_a_file_is_one(
    mounts: Mounts, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    """Of many objects that keep no modes a few are looked at; the others are guessed regular."""
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"many/{number:02}", Body=b"x" * number)
    target = "./" * 100 + "../many"
    link = str(stat.S_IFLNK | 0o777)
    s3.put_object(Bucket=bucket, Key="many/link", Body=target.encode(), Metadata={"mode": link})
    many, mark = mounts().path / "many", gateway.mark()
    with os.scandir(many) as entries:
        assert all(entry.is_file(follow_symlinks=False) for entry in entries)
    heads = [r.path for r in gateway.requests(mark) if r.method == "HEAD" and "/many/" in r.path]
    assert len(heads) <= 10
    assert (many / "link" / "07").read_bytes() == b"x" * 7
    assert (many / "link").lstat().st_size == len(target)
    assert os.readlink(many / "link") == target
    with os.scandir(many) as entries:
        assert [entry.name for entry in entries if entry.is_symlink()] == ["link"]
