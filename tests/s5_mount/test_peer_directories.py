"""Directories as s3fs, rclone and other tools mark them: listed, emptied, renamed and removed."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bench.peers import OURS, RCLONE, S3FS
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import bucket_keys, run
from tests.s5_mount.peering import Clients, comes_to, names_below
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Make = Callable[[Clients, str], None]


def made_by(client: str) -> Make:
    def make(clients: Clients, name: str) -> None:
        (clients.paths[client] / name).mkdir(parents=True)

    return make


def stored(kind: str) -> Make:
    return lambda clients, name: clients.put(f"{name}/", kind=kind)


# How a directory comes to be there. The last kind is nothing but the beginning of a key.
MARKED: dict[str, Make] = {
    "ours": made_by(OURS),
    "s3fs": made_by(S3FS),
    "rclone": made_by(RCLONE),
    "plain": stored("binary/octet-stream"),
    "console": stored("application/x-directory; charset=UTF-8"),
}
KINDS: dict[str, Make] = MARKED | {"unmarked": lambda clients, name: None}


def make_each(clients: Clients, top: str) -> None:
    """Of each kind an empty directory, one with a file in it, and one with another below."""
    for kind, make in KINDS.items():
        for use in ("empty", "full", "outer"):
            make(clients, f"{top}/{kind}-{use}")
        clients.put(f"{top}/{kind}-full/file", b"1")
        clients.put(f"{top}/{kind}-outer/inner/file", b"2")  # whose parent is never marked
    clients.ours.flush()
    eventually(lambda: {f"{top}/{kind}-empty/" for kind in MARKED} <= {*clients.keys(top)})


def expected_names() -> set[str]:
    found: set[str] = set()
    for kind in KINDS:
        found |= {f"{kind}-full/", f"{kind}-full/file"}
        found |= {f"{kind}-outer/", f"{kind}-outer/inner/", f"{kind}-outer/inner/file"}
    return found | {f"{kind}-empty/" for kind in MARKED}


def all_show(clients: Clients, top: str, expected: set[str]) -> None:
    """Once everything has arrived, each client shows these names; rclone one that forgets."""
    assert names_below(clients.paths[OURS] / top) == expected
    clients.ours.flush()
    assert names_below(clients.paths[S3FS] / top) == expected
    listed = clients.rclone("lsf", "-R", "--s3-directory-markers", clients.remote(top))
    assert set(listed.splitlines()) == expected


def test_each_kind_is_seen_and_renamed(clients: Clients) -> None:
    """We date them by their own attributes, or when they were stored; unmarked, not at all."""
    make_each(clients, "seen")
    all_show(clients, "seen", expected_names())
    comes_to(lambda: names_below(clients.look_anew() / "seen"), expected_names())
    top = clients.paths[OURS] / "seen"
    bucket, head = clients.ours.bucket, clients.s3.head_object
    for kind in ("plain", "console"):
        modified = head(Bucket=bucket, Key=f"seen/{kind}-full/")["LastModified"]
        assert (top / f"{kind}-full").stat().st_mtime == modified.timestamp()
    for kind in ("s3fs", "rclone"):
        mtime = float(clients.metadata(f"seen/{kind}-full/")["mtime"])
        assert (top / f"{kind}-full").stat().st_mtime == pytest.approx(mtime, abs=1e-6)
    assert (top / "unmarked-full").stat().st_mtime == 0
    before = {key: clients.metadata(key) for key in clients.keys("seen")}
    for name in os.listdir(top):
        (top / name).rename(top / f"new-{name}")
    all_show(clients, "seen", {f"new-{name}" for name in expected_names()})
    after = {key.replace("/new-", "/"): clients.metadata(key) for key in clients.keys("seen")}
    assert after == before
    assert (clients.paths[S3FS] / "seen" / "new-s3fs-full" / "file").read_bytes() == b"1"


def test_emptied_ones_stay_until_they_are_removed(clients: Clients) -> None:
    make_each(clients, "emptied")
    top, before_sec = clients.paths[OURS] / "emptied", int(time.time())
    for kind in KINDS:
        with pytest.raises(OSError, match="not empty"):
            (top / f"{kind}-full").rmdir()
        (top / f"{kind}-full" / "file").unlink()
        (top / f"{kind}-outer" / "inner" / "file").unlink()
        (top / f"{kind}-outer" / "inner").rmdir()
    left = {f"{kind}-{use}/" for kind in KINDS for use in ("full", "outer")}
    left |= {f"{kind}-empty/" for kind in MARKED}
    all_show(clients, "emptied", left)
    # What had no marker got one, from when it was emptied.
    assert float(clients.metadata("emptied/unmarked-full/")["mtime"]) >= before_sec
    assert (clients.paths[S3FS] / "emptied" / "unmarked-outer").stat().st_mtime >= before_sec
    for name in left:
        (top / name).rmdir()
    all_show(clients, "emptied", set())
    assert clients.keys("emptied") == ["emptied/"]


@pytest.mark.parametrize("client", [S3FS, RCLONE])
def test_peers_rename_and_remove_ours(clients: Clients, client: str) -> None:
    name = f"by-{client}"
    ours, theirs = clients.paths[OURS] / name, clients.paths[client] / name
    for folder in ("goes", "moves/inner", "stays"):
        (ours / folder).mkdir(parents=True)
    (ours / "moves" / "file").write_bytes(b"1")
    clients.ours.flush()
    clients.look_anew()
    eventually(theirs.is_dir)
    (theirs / "goes").rmdir()
    (theirs / "moves").rename(theirs / "moved")
    expected = {"moved/", "moved/inner/", "moved/file", "stays/"}
    comes_to(lambda: names_below(ours), expected)
    assert (ours / "moved" / "file").read_bytes() == b"1"
    (ours / "moved" / "inner").rmdir()
    all_show(clients, name, expected - {"moved/inner/"})


def test_marked_and_unmarked_beside_each_other(clients: Clients) -> None:
    """A marker between two directories that have none, and a name that others continue."""
    for key in ("a/b/", "a/b/c/d/file", "a/bc/file", "a/b-/", "a/b.txt"):
        clients.put(f"beside/{key}", b"" if key.endswith("/") else b"1")
    names = {*("a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/file"), "a/bc/", "a/bc/file"}
    all_show(clients, "beside", names | {"a/b-/", "a/b.txt"})
    a = clients.paths[OURS] / "beside" / "a"
    (a / "b" / "c" / "d" / "file").unlink()
    (a / "b" / "c" / "d").rmdir()
    (a / "b-").rmdir()
    all_show(clients, "beside", {"a/", "a/b/", "a/b/c/", "a/bc/", "a/bc/file", "a/b.txt"})
    assert "beside/a/b/" in clients.keys("beside")


def test_what_old_tools_mark_otherwise_is_a_file(clients: Clients) -> None:
    """To tell it from an empty file would cost a HEAD each. It can be removed as a file.

    To s3fs it is a directory, to rclone a file. What is put into it is there for everybody.
    """
    for name in ("bare", "used"):
        clients.put(f"old/{name}", kind="application/x-directory")
    clients.put("old/hadoop_$folder$")
    clients.put("old/hadoop/file", b"1")
    top, theirs = clients.paths[OURS] / "old", clients.paths[S3FS] / "old"
    hadoop = {"hadoop/", "hadoop/file"}
    assert names_below(top) == {"bare", "used", "hadoop_$folder$"} | hadoop
    assert {"bare/", "used/"} <= names_below(theirs)
    assert {"bare", "used"} <= {*clients.rclone("lsf", clients.remote("old")).splitlines()}
    (theirs / "used" / "file").write_bytes(b"2")
    comes_to(lambda: names_below(top) & {"used", "used/", "used/file"}, {"used/", "used/file"})
    assert (top / "used" / "file").read_bytes() == b"2"
    run("rm", "-r", *(top / name for name in os.listdir(top) if name != "hadoop"))
    all_show(clients, "old", hadoop)


class TestRemovedByTwo:
    """`rm -rf` of what another client removes meanwhile."""

    def test_files_that_are_gone_do_not_keep_a_directory(
        self, mounts: Mounts, s3: S3Client, bucket: str
    ) -> None:
        """They are listed still, for as long as the TTL is; a look at one finds it gone."""
        keys = [f"tree/d/{number:02}" for number in range(20)]
        for key in ["tree/", "tree/d/", *keys]:
            s3.put_object(Bucket=bucket, Key=key)
        mount = mounts("--cache-ttl", "3600")
        assert len(os.listdir(mount.path / "tree" / "d")) == len(keys)
        for key in ["tree/", "tree/d/", *keys]:
            s3.delete_object(Bucket=bucket, Key=key)
        there = [key for key in keys if (mount.path / key).exists()]
        assert len(there) < len(keys)
        assert sorted(os.listdir(mount.path / "tree" / "d")) == [key[-2:] for key in there]
        run("rm", "-rf", mount.path / "tree")
        assert os.listdir(mount.path) == []
        mount.flush()
        assert bucket_keys(s3, bucket) == []

    @pytest.mark.parametrize("ttl", ["0", "60"])
    def test_meanwhile(self, mounts: Mounts, s3: S3Client, bucket: str, ttl: str) -> None:
        trees = {first: put_tree(s3, bucket, first) for first in ("markers", "files", "any")}
        mount = mounts("--cache-ttl", ttl)
        run("ls", "-lR", mount.path)
        for first, keys in trees.items():
            random.Random(first).shuffle(keys)
            if first != "any":
                keys.sort(key=lambda key: key.endswith("/") is (first == "files"))
            with meanwhile(lambda: [s3.delete_object(Bucket=bucket, Key=key) for key in keys]):  # noqa: B023
                run("rm", "-rf", mount.path / first)
        assert os.listdir(mount.path) == []
        mount.flush()
        assert bucket_keys(s3, bucket) == []

    def test_by_s3fs(self, clients: Clients) -> None:
        put_tree(clients.s3, clients.ours.bucket, "both")
        theirs = clients.paths[S3FS] / "both"
        with meanwhile(lambda: shutil.rmtree(theirs, ignore_errors=True)):
            run("rm", "-rf", clients.paths[OURS] / "both")
        clients.ours.flush()
        assert clients.keys("both") == []


def put_tree(s3: S3Client, bucket: str, top: str) -> list[str]:
    """Two directories of two, each with its marker, the inner ones with files; the keys."""
    keys = [f"{top}/{a}/{b}/{c}" for a in range(2) for b in range(2) for c in (0, 1, 2, "")]
    keys += [f"{top}/", *(f"{top}/{a}/" for a in range(2))]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key)
    return keys


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
