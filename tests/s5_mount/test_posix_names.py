"""A bucket full of odd keys: listed, read, copied and removed by ordinary programs, whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import remove_bucket
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli, bucket_keys, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = (
    *("a", "a/b", "a/b/c", "b", "b/", "double//slash", "//two", "/leading", "///"),
    *(".", "..", "./dot", "../up", "x/./y", "x/../z", "x/.", "..."),
    *("trailing/", "trailing/more/", "line\nfeed", "\n", " ", "tab\t", "quote\"'`$", "*?[x]"),
    *("%41", "%2F", "a%2Fb", "%252F", "%2E", "%00", "100%", "c%FILE", "a%FILE", "%FILE"),
    *("😀/🏳️‍🌈", "e\u0301", "\u00e9", "ﬁ", "\u202egnp.exe", "\ufeffbom", "日本/語"),
    *("back\\slash", "\\", "c:\\x", "-rf", "~", "#"),
    *("new\nline/inside", "\x01/\x02/\x03", "esc\x1b[1m//x", "end\x7f/x", "a/.\n/x", "a/\n/x"),
    *("k" * 1024, "é" * 512, "s/" * 511 + "d", "n" * 255 + "/" + "m" * 255),
)


def put_all(s3: S3Client, bucket: str, keys: Iterable[str]) -> None:
    """Store an object under each key whose content is the key."""

    def put(key: str) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))


def files_below(top: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(top) for name in names]


@pytest.mark.decision(5)
def test_all_of_them(mounts: Mounts, cli: Cli, s3: S3Client, bucket: str) -> None:
    put_all(s3, bucket, KEYS)
    mount = mounts()
    paths = {path.read_bytes().decode(): path for path in files_below(mount.path)}
    assert paths.keys() == set(KEYS)
    assert {os.getxattr(path, "user.qarnotfs.key").decode() for path in paths.values()} == set(KEYS)
    for key, path in paths.items():  # each by its path alone, on a mount that has seen nothing
        assert path.is_file(), key
    # Everything about names that are not the keys, and nothing else, is explained.
    said = json.loads(cli("check", bucket, "--cache-dir", mount.cache_dir, "--json").ok().out)
    shown = {key: str(path.relative_to(mount.path)) for key, path in paths.items()}
    assert {one["key"]: one["path"] for one in said["names"]} == {
        key: path for key, path in shown.items() if key != path
    }
    text = cli("check", bucket, "--cache-dir", mount.cache_dir).ok().out
    assert text.count("name: ") == len(said["names"])


def test_copied_to_another_bucket(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    """With `cp -r`: what is created under an escape becomes the key that it stands for."""
    other = f"{bucket}-copy"
    s3.create_bucket(Bucket=other)
    try:
        put_all(s3, bucket, KEYS)
        source, target = mounts(), mounts(bucket=other)
        run("cp", "-r", f"{source.path}/.", target.path)
        assert {path.read_bytes().decode() for path in files_below(target.path)} == set(KEYS)
        target.unmount()
        copied = {key for key in bucket_keys(s3, other) if not is_marker(s3, other, key)}
        assert copied == set(KEYS)
    finally:
        remove_bucket(s3, other)


def is_marker(s3: S3Client, bucket: str, key: str) -> bool:
    return key.endswith("/") and not s3.head_object(Bucket=bucket, Key=key)["ContentLength"]


def test_copied_out_and_removed(mounts: Mounts, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    on_a_disk = [key for key in KEYS if all(len(part.encode()) < 250 for part in key.split("/"))]
    put_all(s3, bucket, KEYS)
    mount = mounts()
    long = {path for path in files_below(mount.path) if len(path.name.encode()) > 255}
    out = tmp_path / "out"
    run("rsync", "-r", *(f"--exclude={'?' * 256}*" for _ in long), f"{mount.path}/", out)
    assert {path.read_bytes().decode() for path in files_below(out)} >= set(on_a_disk)
    run("find", mount.path, "-mindepth", "1", "-delete")
    assert os.listdir(mount.path) == []
    mount.unmount()
    assert bucket_keys(s3, bucket) == []


def test_removed_with_rm(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    put_all(s3, bucket, KEYS)
    mount = mounts()
    run("rm", "-r", *(Path(mount.path, name) for name in os.listdir(mount.path)))
    assert os.listdir(mount.path) == []
    mount.unmount()
    assert bucket_keys(s3, bucket) == []


@pytest.mark.decision(5)
def test_ordinary_names_are_the_keys(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    names = [
        *("%41", "a%2Fb", "100%", "back\\slash", "line\nfeed", " ", "-", "~", "...", ".hidden"),
        *("😀", "e\u0301", "\u00e9", "\x01\x7f", "%2f", "%FILE", "k" * 1024),
    ]
    mount = mounts()
    for name in names:
        (mount.path / name).write_bytes(name.encode())
    mount.unmount()
    assert sorted(bucket_keys(s3, bucket)) == sorted(names)
    again = mounts()
    assert sorted(os.listdir(again.path)) == sorted(names)
    run("find", again.path, "-type", "f", "-delete")
    again.unmount()
    assert bucket_keys(s3, bucket) == []
