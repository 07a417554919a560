"""The SDK's `Bucket` and ours: where files go and what they keep, copies, and what is said.

A difference on purpose is stated for both and has its number in docs/SEMANTICS.md.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from qarnotfs.errors import Stale, UsageError
from tests.s6_bucket.conftest import Content, Face, fill, found

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


# --- where a file goes ----------------------------------------------------------------------


def test_a_pipe_is_written_into(one: Any, content: Content, tree: Path) -> None:
    content["x"] = b"1"
    os.mkfifo(tree / "x")
    got: list[bytes] = []
    for target in (tree, tree / "x", tree / "link"):
        (tree / "link").unlink(missing_ok=True)
        (tree / "link").symlink_to("x")
        reader = threading.Thread(target=lambda: got.append((tree / "x").read_bytes()), daemon=True)
        reader.start()
        one.get_file("x", str(target))
        reader.join(timeout=10)
    assert got == [b"1"] * 3
    assert ((tree / "x").is_fifo(), (tree / "link").is_symlink()) == (True, True)
    assert one.get_file("x", os.devnull) == os.devnull
    assert Path(os.devnull).is_char_device()


def test_a_link_is_followed_and_permissions_are_kept(
    one: Any, content: Content, tree: Path
) -> None:
    content["x"] = b"new"
    fill(tree, {"real": b"old"})
    (tree / "real").chmod(0o750)
    (tree / "link").symlink_to("real")
    assert one.get_file("x", str(tree / "link")) == str(tree / "link")
    assert (tree / "link").is_symlink()
    assert (tree / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tree / "real").stat().st_mode) == 0o750


def test_a_link_that_a_key_leads_to(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D32: the SDK writes through it, wherever it leads."""
    content["d/x"] = b"new"
    fill(tree, {"precious": b"old"})
    (tree / "into").mkdir()
    (tree / "into" / "x").symlink_to(tree / "precious")
    one.get_file("d/x", str(tree / "into"))
    assert (tree / "into" / "x").read_bytes() == b"new"
    assert (tree / "precious").read_bytes() == (b"new" if face.is_sdk else b"old")


def test_where_no_file_can_be(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D31: the SDK fetches nothing, and does not say so."""
    content["d/x"], content["marker/"] = b"1", b""
    (tree / "x").mkdir()
    if face.is_sdk:
        assert one.get_file("d/x", str(tree)) is None
        assert one.get_file("marker/", str(tree)) is None
    else:
        with pytest.raises(IsADirectoryError, match=f"'{tree / 'x'}'"):
            one.get_file("d/x", str(tree))
        with pytest.raises(UsageError, match="names no file"):
            one.get_file("marker/", str(tree))
    assert found(tree) == {}


def test_down_from_a_directory_as_it_is_spelled(one: Any, content: Content, tree: Path) -> None:
    content["/odd/x"], content["odd/y"] = b"1", b"2"
    one.sync_remote_to_local(str(tree), "/odd")
    assert found(tree) == {"x": b"1"}


def test_down_from_a_directory_that_is_not_there(
    face: Face, one: Any, content: Content, tree: Path
) -> None:
    """D16: only ours can delete local files, and does not for a typing mistake."""
    content["results/x"] = b"1"
    fill(tree, {"precious": b"1"})
    one.sync_remote_to_local(str(tree), "reslts")
    if not face.is_sdk:
        with pytest.raises(ValueError, match="no directory 'reslts/'"):
            one.sync_remote_to_local(str(tree), "reslts", delete=True)
    assert found(tree) == {"precious": b"1"}


# --- sending --------------------------------------------------------------------------------


def test_a_name_of_nothing_but_slashes(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"d/file": b"1"})
    one.add_file(str(tree / "d" / "file"), "/")
    assert content.all() == {"file": b"1"}


def test_a_path_in_bytes(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"name": b"1"})
    one.add_file(os.fsencode(tree / "name"), "x")
    assert content.all() == {"x": b"1"}


def test_a_file_that_grows(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D33: the SDK stores what it has read, of whichever moment."""
    fill(tree, {"log": b"1"})
    with (tree / "log").open("rb") as file, (tree / "log").open("ab", buffering=0) as log:

        class Growing:
            """Somebody writes when it is read for the first time."""

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def read(self, count: int = -1) -> bytes:
                if file.tell() == 0:
                    log.write(b"2")
                return file.read(count)

        if face.is_sdk:
            one.add_file(Growing(), "x")
        else:
            with pytest.raises(Stale):
                one.add_file(Growing(), "x")
    assert list(content.all()) == (["x"] if face.is_sdk else [])


# --- listed files ---------------------------------------------------------------------------


def test_a_listed_file_can_be_deleted_and_its_body_asked_for_an_amount(
    one: Any, content: Content
) -> None:
    content["x"] = b"0123"
    [file] = one.list_files()
    body = file.get()["Body"]
    assert (body.read(amt=3), body.read(amt=None)) == (b"012", b"3")
    file.delete()
    assert content.all() == {}


def test_a_part_of_a_listed_file(face: Face, one: Any, content: Content) -> None:
    """D34: the SDK's are boto3's own, with all that these can do."""
    content["x"] = b"0123"
    [file] = one.list_files()
    if face.is_sdk:
        assert file.get(Range="bytes=1-2")["Body"].read() == b"12"
    else:
        with pytest.raises(TypeError, match="Range"):
            file.get(Range="bytes=1-2")


# --- copies ---------------------------------------------------------------------------------


def test_what_a_copy_returns(one: Any, content: Content) -> None:
    content["a"] = b"1"
    result = one.copy_file("a", "b")["CopyObjectResult"]
    assert result["ETag"].strip('"') == content.etags()["b"].strip('"')  # not the same of all
    [_, copy] = one.list_files()
    assert abs((result["LastModified"] - copy.last_modified).total_seconds()) < 1


def test_a_copy_onto_itself(face: Face, one: Any, content: Content) -> None:
    """D30: the SDK raises what the server says."""
    content["a"] = b"1"
    if face.is_sdk:
        with pytest.raises(ClientError):
            one.copy_file("a", "a")
    else:
        assert one.copy_file("a", "a")["CopyObjectResult"]["ETag"] == content.etags()["a"]
    assert content.all() == {"a": b"1"}


def test_what_a_copy_takes_along(
    face: Face, one: Any, s3: S3Client, bucket: str, tree: Path
) -> None:
    """D35: the SDK's synchronisation copies the source's metadata and type with the bytes."""
    given = {"mode": str(0o120777)}
    s3.put_object(Bucket=bucket, Key="l", Body=b"x", Metadata=given, ContentType="text/plain")
    fill(tree, {"page.html": b"x"})
    one.sync_directory(str(tree))
    stored = s3.head_object(Bucket=bucket, Key="page.html")
    expected = (given, "text/plain") if face.is_sdk else ({}, "text/html")
    assert (stored["Metadata"], stored["ContentType"]) == expected
    one.copy_file("page.html", "copy")  # asked for by name, everything is copied
    stored = s3.head_object(Bucket=bucket, Key="copy")
    assert (stored["Metadata"], stored["ContentType"]) == expected


# --- what is said ---------------------------------------------------------------------------


def test_what_is_skipped_is_logged(
    face: Face, one: Any, content: Content, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """D8, and D22 on the way down: the SDK skips nothing, and its callers read no report."""
    fill(tree, {"file": b"1"})
    (tree / "link").symlink_to("file")
    content["a//b"] = b"2"
    with caplog.at_level(logging.WARNING):
        one.add_directory(str(tree))
        one.sync_directory(str(tree))
        content["a//b"] = b"2"
        one.get_all_files(str(tree.parent / "out"))
    said = [line for line in caplog.messages if "is skipped: " in line]
    link = "'link' is skipped: it is a symbolic link."
    if face.is_sdk:
        assert said == []
    else:
        assert said[:2] == [link, link]
        assert said[2].startswith("'a//b' is skipped: no file system can hold")


def test_who_reports_and_tells_progress(face: Face, one: Any, tree: Path) -> None:
    """D14: the SDK's add_directory and get_all_files return nothing and tell nothing."""
    fill(tree, {"a": b"1"})
    if face.is_sdk:
        assert one.add_directory(str(tree)) is None
        assert one.get_all_files(str(tree)) is None
        return
    told: list[Any] = []

    def tell(*step: Any) -> None:
        told.append(step)

    assert one.add_directory(str(tree), progress=tell).uploaded == ("a",)
    one.add_file(str(tree / "a"), progress=tell)
    assert one.get_all_files(str(tree)).unchanged == ("a",)
    assert told == [(1, 1, "a")] * 2
