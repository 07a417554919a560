"""The SDK's `Bucket` and ours: one file at a time, listings, and the mapping style.

A difference on purpose is stated for both and has its number in docs/SEMANTICS.md.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from qarnotfs.errors import QarnotfsError
from tests.s6_bucket.conftest import Content, Face, fill, found

pytestmark = pytest.mark.gateway

PART = 8 << 20
ODD_KEYS = ["d/é ü/日本.txt", "with space", "a+b&c=d?e#f;g", "100%/%41", "tail/", "~", "'\"<>"]


def etag(body: bytes) -> str:
    """As S3 makes it for what is sent in parts of 8 MiB from 8 MiB on."""
    if len(body) < PART:
        return f'"{hashlib.md5(body).hexdigest()}"'
    digests = [hashlib.md5(body[at : at + PART]).digest() for at in range(0, len(body), PART)]
    return f'"{hashlib.md5(b"".join(digests)).hexdigest()}-{len(digests)}"'


def fails(face: Face, call: Callable[[], object], ours: type[Exception]) -> None:
    """Where the SDK lets botocore's exceptions through, ours has a name and a sentence."""
    with pytest.raises(ClientError if face.is_sdk else ours) as caught:
        call()
    assert face.is_sdk or isinstance(caught.value, QarnotfsError)


# --- sending --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ODD_KEYS)
def test_any_key_will_do(one: Any, content: Content, key: str) -> None:
    one.add_string("héllo", key)
    assert content.all() == {key: "héllo".encode()}
    assert [file.key for file in one.list_files()] == [key]
    one.copy_file(key, "copy")
    one.delete_file(key)
    assert content.all() == {"copy": "héllo".encode()}


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 20 << 20])
def test_a_file_and_its_etag(one: Any, content: Content, tree: Path, size: int) -> None:
    body = random.Random(size).randbytes(size)
    (tree / "file").write_bytes(body)
    one.add_file(str(tree / "file"), "d/file")
    assert content["d/file"] == body
    assert content.etags() == {"d/file": etag(body)}
    assert one.get_file("d/file", str(tree / "copy")) == str(tree / "copy")
    assert (tree / "copy").read_bytes() == body


def test_a_file_keeps_its_name_unless_given_one(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"d/file.txt": b"1"})
    one.add_file(str(tree / "d" / "file.txt"))
    with (tree / "d" / "file.txt").open("rb") as file:
        one.add_file(file, "other")
    assert content.all() == {"file.txt": b"1", "other": b"1"}


def test_an_open_file_is_sent_from_where_it_is(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"name": b"0123456789"})
    with (tree / "name").open("rb") as file:
        file.seek(4)
        one.add_file(file)
    one.add_file(io.BytesIO(b"memory"), "m")
    assert content.all() == {"name": b"456789", "m": b"memory"}


def test_an_open_file_stays_open(face: Face, one: Any) -> None:
    """D5: the SDK closes a small one, and leaves a large one open."""
    small, large = io.BytesIO(b"x"), io.BytesIO(bytes(PART))
    one.add_file(small, "small")
    one.add_file(large, "large")
    assert (small.closed, large.closed) == (face.is_sdk, False)


def test_a_path_object(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D6: the SDK takes paths as strings only."""
    fill(tree, {"name": b"1"})
    if face.is_sdk:
        with pytest.raises(ValueError, match="must implement read"):
            one.add_file(tree / "name")
    else:
        one.add_file(tree / "name")
        assert content.all() == {"name": b"1"}


def test_its_content_type(face: Face, one: Any) -> None:
    """D7: the SDK says none, and a browser then offers a picture for download."""
    one.add_string("x", "page.html")
    [file] = one.list_files()
    expected = "binary/octet-stream" if face.is_sdk else "text/html"
    assert file.get()["ContentType"] == expected


def test_there_is_no_such_local_file(one: Any, content: Content, tree: Path) -> None:
    with pytest.raises(FileNotFoundError):
        one.add_file(str(tree / "none"), "x")
    with pytest.raises(IsADirectoryError):
        one.add_file(str(tree), "x")
    assert content.all() == {}


# --- directories ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "prefix"), [("", ""), ("r", "r/"), ("r/", "r/"), ("/r//s", "r/s/")]
)
@pytest.mark.parametrize("end", ["", "/"])
def test_a_directory(
    one: Any, content: Content, tree: Path, remote: str, prefix: str, end: str
) -> None:
    fill(tree, {"a": b"1", "d/b": b"2", "d/e/é": b"3", "tree/tree": b"4"})
    (tree / "empty").mkdir()
    one.add_directory(f"{tree}{end}", remote)
    assert content.all() == {f"{prefix}{name}": body for name, body in found(tree).items()}


def test_a_directory_is_added_to_what_there_is(one: Any, content: Content, tree: Path) -> None:
    content["a"], content["z"] = b"old", b"kept"
    fill(tree, {"a": b"new"})
    one.add_directory(str(tree))
    assert content.all() == {"a": b"new", "z": b"kept"}


def test_links_are_not_followed(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D8: the SDK's does not follow links to directories, but those to files."""
    fill(tree, {"d/file": b"1"})
    (tree / "link").symlink_to("d")
    (tree / "file-link").symlink_to("d/file")
    one.add_directory(str(tree))
    assert content.all() == {"d/file": b"1"} | ({"file-link": b"1"} if face.is_sdk else {})


def test_it_is_no_directory(one: Any, tree: Path) -> None:
    fill(tree, {"file": b"1"})
    for name in ("file", "none"):
        with pytest.raises(IOError, match="directory"):
            one.add_directory(str(tree / name))


# --- listings -------------------------------------------------------------------------------


def test_what_a_listing_tells(one: Any, bucket: str) -> None:
    one.add_string("hello", "a/b")
    [file] = one.list_files()
    assert (file.bucket_name, file.key, file.size) == (bucket, "a/b", 5)
    assert file.e_tag == etag(b"hello")
    assert abs(file.last_modified - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_listed_file_can_be_read(one: Any, content: Content) -> None:
    content["a"] = b"0123456789"
    [file] = one.list_files()
    answer = file.get()
    assert (answer["ContentLength"], answer["ETag"]) == (10, etag(b"0123456789"))
    assert abs(answer["LastModified"] - file.last_modified) < timedelta(seconds=1)
    assert answer["Metadata"] == {}
    body = answer["Body"]
    assert (body.read(3), body.read(), body.read()) == (b"012", b"3456789", b"")
    body.close()
    assert b"".join(file.get()["Body"].iter_chunks(4)) == b"0123456789"


def test_a_large_listed_file_is_streamed(one: Any, content: Content) -> None:
    data = random.Random(1).randbytes(20 << 20)
    content["a"] = data
    [file] = one.list_files()
    body = file.get()["Body"]
    assert b"".join(iter(lambda: body.read(1 << 20), b"")) == data


def test_a_listed_file_that_is_gone(face: Face, one: Any, content: Content) -> None:
    """D9: an error of ours has a name, also where the SDK shows botocore's."""
    content["a"] = b"1"
    [file] = one.list_files()
    one.delete_file("a")
    fails(face, file.get, ValueError)


def test_a_directory_is_a_prefix(one: Any, content: Content) -> None:
    for key in ("a", "d/1", "d/e/2", "dd", "é/3"):
        content[key] = b""
    assert [file.key for file in one.directory()] == ["a", "d/1", "d/e/2", "dd", "é/3"]
    assert [file.key for file in one.directory("d")] == ["d/1", "d/e/2", "dd"]
    assert [file.key for file in one.directory("d/")] == ["d/1", "d/e/2"]
    assert [file.key for file in one.directory("é")] == ["é/3"]
    assert list(one.directory("none")) == []


def test_when_a_directory_is_listed(face: Face, one: Any, content: Content) -> None:
    """D10: the SDK's asks when it is gone through, and again each time."""
    listed = one.directory("d/")
    content["d/late"] = b""
    assert len(list(listed)) == (1 if face.is_sdk else 0)


# --- fetching -------------------------------------------------------------------------------


def test_where_a_file_goes(
    one: Any, content: Content, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content["d/file"] = b"1"
    monkeypatch.chdir(tree)
    assert one.get_file("d/file") == "file"
    (tree / "into").mkdir()
    assert one.get_file("d/file", str(tree / "into")) == str(tree / "into" / "file")
    assert one.get_file("d/file", "new/deep/name") == "new/deep/name"
    assert one.get_file("d/file", "file", None) == "file"  # over what was there
    assert found(tree) == {"file": b"1", "into/file": b"1", "new/deep/name": b"1"}


def test_a_file_that_is_not_there(face: Face, one: Any, tree: Path) -> None:
    """D11: the SDK documents a ValueError, raises botocore's, and empties the local file."""
    fill(tree, {"old": b"kept"})
    fails(face, lambda: one.get_file("none", str(tree / "old")), ValueError)
    fails(face, lambda: one.get_file("none", str(tree / "new")), ValueError)
    assert found(tree) == ({"old": b"", "new": b""} if face.is_sdk else {"old": b"kept"})


def test_progress(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D12: the SDK never calls it."""
    body = bytes(PART + 5)
    content["d/x"] = body
    told: list[tuple[int, int, str]] = []
    one.get_file("d/x", str(tree), lambda *step: told.append(step))
    assert (tree / "x").read_bytes() == body
    if face.is_sdk:
        assert told == []
    else:
        assert [total for _, total, _ in told] == [len(body)] * len(told)
        assert {name for _, _, name in told} == {"d/x"}
        read = [read for read, _, _ in told]
        assert read == sorted(read)
        assert read[-1] == len(body)


def test_progress_may_be_a_bar(one: Any, content: Content, tree: Path) -> None:
    content["x"] = b"1"
    one.get_file("x", str(tree), progress=True)
    assert found(tree) == {"x": b"1"}


# --- copy, delete ---------------------------------------------------------------------------


def test_a_copy_keeps_content_and_etag(one: Any, content: Content) -> None:
    one.add_file(io.BytesIO(bytes(PART - 1)), "a")
    one.copy_file("a", "d/é")
    assert content["d/é"] == content["a"]
    assert len(set(content.etags().values())) == 1


def test_a_copy_of_nothing(face: Face, one: Any) -> None:
    """D9: as above."""
    fails(face, lambda: one.copy_file("none", "x"), ValueError)


def test_deleting_twice_is_no_failure(one: Any, content: Content) -> None:
    content["a"] = b"1"
    one.delete_file("a")
    one.delete_file("a")
    assert content.all() == {}


# --- as a mapping ---------------------------------------------------------------------------


def test_as_a_mapping(
    one: Any, content: Content, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree, {"local": b"1", "dir/a": b"2", "dir/b/c": b"3"})
    monkeypatch.chdir(tree)
    one["d/remote"] = "local"
    one["r"] = "dir"  # a directory
    assert content.all() == {"d/remote": b"1", "r/a": b"2", "r/b/c": b"3"}
    assert one["d/remote"] == "remote"
    assert (tree / "remote").read_bytes() == b"1"
    assert [file.key for file in one] == ["d/remote", "r/a", "r/b/c"]
    assert all(file in one for file in one)
    del one["d/remote"]
    del one["d/remote"]
    assert list(content.all()) == ["r/a", "r/b/c"]


def test_a_missing_item(face: Face, one: Any, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11: a KeyError, as documented; the SDK's own exception passes it by."""
    monkeypatch.chdir(tree)
    with pytest.raises(ClientError if face.is_sdk else KeyError):
        one["none"]


def test_which_items_are_in(face: Face, one: Any, content: Content) -> None:
    """D13: the SDK's knows objects of listings only, by name, and lists the bucket for it."""
    content["a"] = b"1"
    [file] = one.list_files()
    assert ("a" in one) is not face.is_sdk
    assert file in one
    content["a"] = b"changed"
    assert (file in one) is face.is_sdk
    one.delete_file("a")
    assert file not in one


# --- the rest -------------------------------------------------------------------------------


def test_legacy_methods_warn(one: Any) -> None:
    for call in (one.flush, one.update, lambda: one.update(flush=True)):
        with pytest.warns(DeprecationWarning, match="flush|update"):
            assert call() is None


def test_a_missing_bucket(face: Face, tree: Path) -> None:
    missing, gone = face.bucket("no-such-bucket"), face.api.MissingBucketException
    fill(tree, {"file": b"1"})
    uses: list[Callable[[], object]] = [
        missing.list_files,
        lambda: missing.add_string("x", "y"),
        lambda: missing.add_file(str(tree / "file")),
        lambda: missing.add_directory(str(tree)),
        lambda: missing.copy_file("x", "y"),
        lambda: missing.delete_file("y"),
        lambda: missing.sync_directory(str(tree)),
        lambda: missing.sync_files({}),
        lambda: missing.sync_remote_to_local(str(tree)),
        lambda: missing.get_all_files(str(tree)),
        lambda: list(missing),
    ]
    for use in uses:
        with pytest.raises(gone):
            use()
    assert found(tree) == {"file": b"1"}


def test_a_missing_bucket_where_the_sdk_is_silent(face: Face, tree: Path) -> None:
    """D9: as above."""
    missing = face.bucket("no-such-bucket")
    fails(face, lambda: missing.get_file("y", os.devnull), face.api.MissingBucketException)
    fails(face, lambda: list(missing.directory()), face.api.MissingBucketException)
