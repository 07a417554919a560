"""`Bucket` against the real gateway, seen from the other side by plain boto3."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest

import qarnotfs
from qarnotfs import Bucket, BucketPrefixFiltering, Connection, PrefixResourcesTransformation
from qarnotfs.bucket import MissingBucketException
from qarnotfs.errors import QarnotfsError
from qarnotfs.syncplan import PART_BYTES as PART
from tests.rgw import Gateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def connection(gateway: Gateway) -> Connection:
    return Connection.from_environment(environ=gateway.environment)


@pytest.fixture
def ours(connection: Connection, bucket: str) -> Iterator[Bucket]:
    made = Bucket(connection, bucket)
    yield made
    made.store.close()


def body(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


# --- the bucket itself --------------------------------------------------------------------


def test_it_is_created(connection: Connection, s3: S3Client, bucket: str) -> None:
    name = f"{bucket}-made"
    made = Bucket(connection, name)
    assert name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert Bucket(connection, name) == made  # again, and it is still ours
    made.store.delete_bucket()
    made.store.close()


def test_a_missing_bucket_is_found_out_when_it_is_used(
    connection: Connection, tmp_path: Path
) -> None:
    missing = Bucket(connection, "no-such-bucket", create=False)
    uses: list[Callable[[], object]] = [
        missing.list_files,
        lambda: missing.add_string("x", "y"),
        lambda: missing.get_file("y", tmp_path / "y"),
        lambda: missing.delete_file("y"),
        lambda: missing.copy_file("x", "y"),
        lambda: "y" in missing,
    ]
    for use in uses:
        with pytest.raises(MissingBucketException):
            use()
    missing.store.close()
    assert list(tmp_path.iterdir()) == []


def test_any_client_will_do_as_a_connection(s3: S3Client, bucket: str) -> None:
    class Theirs:
        s3client = s3

    theirs = Bucket(Theirs(), bucket, create=False)
    theirs.add_string("x", "key")
    assert body(s3, bucket, "key") == b"x"
    theirs.store.close()


def test_public_names_are_there() -> None:
    assert all(hasattr(qarnotfs, name) for name in qarnotfs.__all__)
    with pytest.raises(AttributeError):
        _ = qarnotfs.nothing


# --- listings -----------------------------------------------------------------------------


def test_a_listing_says_what_boto3_says(ours: Bucket, s3: S3Client) -> None:
    ours.add_string("hello", "a/b")
    [file] = ours.list_files()
    assert (file.bucket_name, file.key, file.size) == (ours.uuid, "a/b", 5)
    assert file.e_tag == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert abs(file.last_modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert file.last_modified == s3.list_objects_v2(Bucket=ours.uuid)["Contents"][0][
        "LastModified"
    ].replace(microsecond=0)


def test_listings_go_beyond_one_page(ours: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"d/{n:02}" for n in range(25)]
    for key in keys:
        ours.add_string("", key)
    page = ours.store.list_page
    monkeypatch.setattr(ours.store, "list_page", lambda *a, **k: page(*a, **k, count_max=10))
    assert [file.key for file in ours] == keys
    assert [file.key for file in ours.directory("d/1")] == keys[10:20]


def test_views_change_what_a_mount_shows_and_not_what_is_stored(ours: Bucket) -> None:
    for key in ("p/a", "p/b/c", "q", "px"):
        ours.add_string(key, key)
    view = ours.with_filtering(BucketPrefixFiltering("p"))
    view = view.with_resource_transformation(PrefixResourcesTransformation("p/"))
    assert [file.key for file in view.list_files()] == ["p/a", "p/b/c", "px", "q"]
    shown = {name: file.key for name, file in view.visible_files().items()}
    assert shown == {"a": "p/a", "b/c": "p/b/c", "px": "px"}
    view.store.close()


def test_of_two_objects_on_one_path_the_stripped_one_is_shown(ours: Bucket) -> None:
    for key in ("a", "s/a"):
        ours.add_string(key, key)
    view = ours.with_resource_transformation(PrefixResourcesTransformation("s/"))
    assert {name: file.key for name, file in view.visible_files().items()} == {"a": "s/a"}
    view.store.close()


# --- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, 2 * PART + 1, 6 * PART])
def test_files_come_back_as_they_went(
    ours: Bucket, s3: S3Client, tmp_path: Path, size: int
) -> None:
    source, target = tmp_path / "file", tmp_path / "new" / "copy"
    source.write_bytes(os.urandom(size))
    ours.add_file(source, "deep/file.txt")
    assert body(s3, ours.uuid, "deep/file.txt") == source.read_bytes()
    assert s3.head_object(Bucket=ours.uuid, Key="deep/file.txt")["ContentType"] == "text/plain"
    assert ours.get_file("deep/file.txt", target) == str(target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode == source.stat().st_mode
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("size", [PART - 1, PART, 2 * PART + 1])
def test_etags_are_those_the_sdk_computes(ours: Bucket, size: int) -> None:
    """Its synchronisation compares them, and would send everything again."""
    data = os.urandom(size)
    ours.add_file(io.BytesIO(data), "x")
    digests = [hashlib.md5(data[at : at + PART]).digest() for at in range(0, size, PART)]
    joined = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    expected = hashlib.md5(data).hexdigest() if size < PART else joined
    assert ours.list_files()[0].e_tag == f'"{expected}"'


def test_what_cannot_be_sought_is_sent_too(ours: Bucket, s3: S3Client) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"a little")
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        ours.add_file(cast("IO[bytes]", pipe), "piped")
    assert body(s3, ours.uuid, "piped") == b"a little"


def test_an_open_file_is_sent_from_where_it_is(ours: Bucket, s3: S3Client, tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"0123456789")
    with (tmp_path / "name").open("rb") as file:
        file.seek(4)
        ours.add_file(file)
    assert body(s3, ours.uuid, "name") == b"456789"


def test_an_upload_that_fails_leaves_nothing(ours: Bucket, s3: S3Client) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > PART:
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises(OSError, match="the disk is gone"):
        ours.add_file(Torn(bytes(3 * PART)), "torn")
    assert ours.list_files() == []
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=ours.uuid)


def test_a_download_reports_its_progress(ours: Bucket, tmp_path: Path) -> None:
    ours.add_file(io.BytesIO(bytes(PART + 5)), "x")
    told: list[tuple[int, int, str]] = []
    ours.get_file("x", tmp_path, lambda *step: told.append(step))
    assert told == [(PART, PART + 5, "x"), (PART + 5, PART + 5, "x")]
    assert (tmp_path / "x").stat().st_size == PART + 5


def test_a_file_that_is_not_there(ours: Bucket, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    with pytest.raises(ValueError, match="no file 'none'") as caught:
        ours.get_file("none", tmp_path / "old")
    assert isinstance(caught.value, QarnotfsError)
    assert (tmp_path / "old").read_text() == "kept"
    with pytest.raises(ValueError, match="no file 'none'"):
        ours.copy_file("none", "x")
    ours.delete_file("none")


def test_an_object_replaced_while_it_is_fetched_is_not_mixed(ours: Bucket, tmp_path: Path) -> None:
    ours.add_file(io.BytesIO(bytes(8 * PART)), "x")

    def replace(*_: object) -> None:
        ours.add_string("another", "x")

    with pytest.raises(QarnotfsError):
        ours.get_file("x", tmp_path / "x", replace)
    assert list(tmp_path.iterdir()) == []


def test_copy_and_delete(ours: Bucket, s3: S3Client) -> None:
    ours.add_string("héllo", "a")
    ours.copy_file("a", "b")
    ours.delete_file("a")
    assert [file.key for file in ours] == ["b"]
    assert body(s3, ours.uuid, "b") == "héllo".encode()


def test_as_a_mapping(ours: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("local").write_bytes(b"1")
    ours["d/remote"] = "local"
    assert "d/remote" in ours
    [listed] = ours
    assert listed in ours
    assert ours["d/remote"] == "remote"
    assert Path("remote").read_bytes() == b"1"
    ours.add_string("other", "d/remote")
    assert listed not in ours
    del ours["d/remote"]
    assert "d/remote" not in ours
    with pytest.raises(KeyError):
        _ = ours["d/remote"]
