"""`Bucket` on the real gateway: streams, directories, synchronisation, deletion, manners."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qarnotfs import (
    Bucket,
    BucketPrefixFiltering,
    BucketStorageUnavailableException,
    Connection,
    MissingBucketException,
    PrefixResourcesTransformation,
    SyncFailed,
)
from qarnotfs.errors import MissingFile, PreconditionFailed, UsageError
from qarnotfs.store.base import Attributes
from qarnotfs.syncplan import PART_BYTES
from tests.rgw import Gateway
from tests.s6_bucket.stores import tree, write

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def connection(gateway: Gateway) -> Connection:
    return Connection.from_environment(environ=gateway.environment)


@pytest.fixture
def ours(connection: Connection, bucket: str) -> Iterator[Bucket]:
    with Bucket(connection, bucket) as made:
        yield made


# --- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, PART_BYTES, 5 * PART_BYTES + 3])
def test_a_listed_file_is_read_as_boto3_reads_it(ours: Bucket, s3: S3Client, size: int) -> None:
    data = os.urandom(size)
    s3.put_object(
        Bucket=ours.uuid, Key="x.txt", Body=data, ContentType="text/x-y", Metadata={"a": "b"}
    )
    [file] = ours
    got = file.get()
    theirs: dict[str, Any] = dict(s3.get_object(Bucket=ours.uuid, Key="x.txt"))
    for name in ("ContentLength", "ETag", "LastModified", "Metadata", "ContentType"):
        assert got[name] == theirs[name]
    with got["Body"] as body:
        assert body.read(7) + body.read(5) + body.read() == data
        assert body.read() == body.read(1) == b""
    assert b"".join(file.get()["Body"].iter_chunks(1 << 20)) == data


def test_a_file_of_a_listing_is_a_value(ours: Bucket, connection: Connection) -> None:
    ours.add_string("x", "a")
    with Bucket(connection, ours.uuid) as same:
        [one], [other] = list(ours), list(same)
    assert one == other
    assert hash(one) == hash(other)
    assert "Store" not in repr(one)


def test_a_stream_that_is_dropped_gives_up_what_it_asked_for(ours: Bucket) -> None:
    ours.add_string("line 1\nline 2\n" * 3_000_000, "big")
    with ours.open_file("big") as body:
        assert body.readline() == b"line 1\n"
    with pytest.raises(ValueError, match="closed"):
        body.read()
    with pytest.raises(MissingFile):
        ours.open_file("none")


def test_a_stream_never_mixes_versions(ours: Bucket) -> None:
    ours.add_string("a" * (20 * PART_BYTES), "x")
    body = ours.open_file("x")
    body.read(1)
    ours.add_string("b" * (20 * PART_BYTES), "x")
    with pytest.raises(PreconditionFailed):
        body.read()


def test_what_is_gone_when_it_is_read(ours: Bucket) -> None:
    ours.add_string("1", "x")
    [file] = ours
    ours.delete_file("x")
    with pytest.raises(ValueError, match="no file 'x'"):
        file.get()


# --- directories ------------------------------------------------------------------------------


def test_a_directory_and_back(ours: Bucket, tmp_path: Path) -> None:
    root = write(tmp_path / "in", a=b"1", d__b=b"2", d__e__c=os.urandom(PART_BYTES + 1), empty=b"")
    (root / "link").symlink_to("/etc/passwd")
    (root / "dirlink").symlink_to("/etc")
    (root / "nothing").mkdir()
    report = ours.add_directory(root, "to/here")
    assert set(report.skipped) == {"to/here/link", "to/here/dirlink"}
    assert [file.key for file in ours] == [f"to/here/{name}" for name in sorted(tree(root))]
    ours.sync_remote_to_local(tmp_path / "out", "to/here")
    assert tree(tmp_path / "out") == tree(root)
    ours.get_all_files(str(tmp_path / "all"))
    assert tree(tmp_path / "all" / "to" / "here") == tree(root)


def test_what_is_no_directory(ours: Bucket, tmp_path: Path) -> None:
    ours.add_string("1", "kept")
    file = tmp_path / "file"
    file.write_bytes(b"")
    for wrong in (file, tmp_path / "none"):
        with pytest.raises(OSError, match="directory"):
            ours.add_directory(wrong)
        with pytest.raises(OSError, match="directory"):
            ours.sync_directory(wrong)
    with pytest.raises(OSError, match="exists"):
        ours.sync_remote_to_local(file)
    assert [file.key for file in ours] == ["kept"]


def test_a_directory_as_an_item(ours: Bucket, tmp_path: Path) -> None:
    ours["x"] = write(tmp_path, a=b"1", b=b"2")
    assert [file.key for file in ours] == ["x/a", "x/b"]


def test_get_file_writes_where_it_is_told(
    ours: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours.add_string("1", "d/x")
    (tmp_path / "link").symlink_to("elsewhere")
    assert ours.get_file("d/x") == "x"
    assert ours.get_file("d/x", "new/dir/y") == "new/dir/y"
    assert ours.get_file("d/x", "new") == "new/x"
    ours.get_file("d/x", "link")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "new" / "x").unlink()
    (tmp_path / "new" / "x").symlink_to("/dev/full")
    ours.get_file("d/x", "new")  # here the key gives the name
    assert tree(tmp_path) == dict.fromkeys(["elsewhere", "new/dir/y", "new/x", "x"], b"1")
    for key in ("d/..", "d/", "..", "."):
        with pytest.raises(UsageError, match="names no file"):
            ours.get_file(key)


# --- synchronisation ----------------------------------------------------------------------------


def test_up_and_down_with_a_report(ours: Bucket, tmp_path: Path) -> None:
    root = write(tmp_path / "in", a=b"1", b__c=b"2", twin=b"1", large=os.urandom(20 << 20))
    report = ours.sync_directory(root, remote="/r//s/")
    assert (report.uploaded, report.copied) == (("r/s/a", "r/s/b/c", "r/s/large"), ("r/s/twin",))
    assert report.bytes_moved == 2 + (20 << 20)
    assert json.loads(json.dumps(report.to_json()))["copied"] == ["r/s/twin"]
    (root / "a").unlink()
    (root / "large").rename(root / "renamed")
    assert ours.sync_directory(root, remote="r/s", dry_run=True).copied == ("r/s/renamed",)
    report = ours.sync_directory(str(root), remote="r/s")
    assert (report.copied, report.deleted) == (("r/s/renamed",), ("r/s/a", "r/s/large"))
    assert report.unchanged == ("r/s/b/c", "r/s/twin")
    out = tmp_path / "out"
    assert len(ours.sync_remote_to_local(out, "r/s").downloaded) == 3
    assert tree(out) == tree(root)
    assert len(ours.sync_remote_to_local(out, "r/s", delete=True).unchanged) == 3


def test_files_by_name(ours: Bucket, tmp_path: Path) -> None:
    write(tmp_path, a=b"1", b=b"2")
    named: dict[str, str | Path] = {"x/y": tmp_path / "a", "/z": str(tmp_path / "b")}
    ours.sync_files(named)
    assert [file.key for file in ours] == ["x/y", "z"]
    ours.sync_files(named, remote="d")
    assert [file.key for file in ours] == ["d/x/y", "d/z", "x/y", "z"]
    with pytest.raises(UsageError, match="same name"):
        ours.sync_files({"a": tmp_path / "a", "/a": tmp_path / "b"})


def test_odd_names_of_files_are_kept_as_they_are(ours: Bucket, tmp_path: Path) -> None:
    names = [" a ", "b\\\\c", "\\d", "e\nf", "%41", "é", "+ ?#&=", "x" * 255, "\x01"]
    for name in names:
        (tmp_path / name).write_text(name)
    ours.sync_directory(tmp_path)
    assert sorted(file.key for file in ours) == sorted(names)
    assert len(ours.sync_directory(tmp_path).unchanged) == len(names)
    write(tmp_path / "moved", x=b"1")
    for name in names:
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert len(ours.sync_directory(tmp_path).copied) == len(names)
    ours.sync_remote_to_local(tmp_path / "out")
    assert tree(tmp_path / "out") == {f"moved/{n}": d for n, d in tree(tmp_path / "moved").items()}
    ours.store.empty_bucket()  # boto3, which would do it, cannot name all of these


def test_a_missing_bucket(connection: Connection, tmp_path: Path) -> None:
    root = write(tmp_path, a=b"1")
    with Bucket(connection, "no-such-bucket", create=False) as missing:
        for use in (
            lambda: missing.sync_directory(root),
            lambda: missing.add_directory(root),
            lambda: missing.sync_remote_to_local(tmp_path / "out"),
            lambda: missing.open_file("x"),
            missing.delete,
        ):
            with pytest.raises(MissingBucketException, match="no-such-bucket"):
                use()


# --- the bucket ---------------------------------------------------------------------------------


def test_a_bucket_is_deleted_with_all_that_is_in_it(
    connection: Connection, s3: S3Client, bucket: str
) -> None:
    with Bucket(connection, f"{bucket}-full") as full:
        full.add_string("1", "a")
        full.store.put("odd\x01", b"1", Attributes()).result()
        assert full.uuid in connection.bucket_names()
        full.delete()
    assert f"{bucket}-full" not in connection.bucket_names()


def test_a_versioned_bucket_is_deleted_with_all_its_versions(
    connection: Connection, s3: S3Client, bucket: str
) -> None:
    with Bucket(connection, f"{bucket}-versioned") as versioned:
        s3.put_bucket_versioning(
            Bucket=versioned.uuid, VersioningConfiguration={"Status": "Enabled"}
        )
        for number in range(3):
            versioned.add_string(str(number), "a")
            versioned.store.put("odd\x01", b"1", Attributes()).result()
        versioned.delete_file("a")
        assert [file.key for file in versioned] == ["odd\x01"]
        versioned.delete()
    assert f"{bucket}-versioned" not in connection.bucket_names()


def test_an_account_without_storage() -> None:
    class Theirs:
        s3client = None

    with pytest.raises(BucketStorageUnavailableException, match="no storage"):
        Bucket(Theirs(), "x")


# --- manners --------------------------------------------------------------------------------------


def test_a_bar_goes_to_stderr(
    ours: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "in", **{"[bold]": b"1" * 5000, "b": bytes(PART_BYTES)})
    ours.sync_directory(root, progress=True)
    ours.get_file("b", tmp_path / "b", progress=True)
    ours.get_all_files(tmp_path / "out", progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "8.0/8.0 MiB" in said.err


def test_progress_is_told_for_each_file(ours: Bucket, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []

    def tell(*step: Any) -> None:
        told.append(step)

    root = write(tmp_path / "in", a=b"12", b=bytes(PART_BYTES + 5), c=b"")
    last = {("a", 2), ("b", PART_BYTES + 5), ("c", 0)}
    calls: list[Callable[[], object]] = [
        lambda: ours.sync_directory(root, progress=tell),
        lambda: ours.add_directory(root, progress=tell),
        lambda: ours.get_all_files(tmp_path / "out", progress=tell),
    ]
    for call in calls:
        told.clear()
        call()
        assert {(name, read) for read, total, name in told if read == total} == last
        assert [read for read, _, name in told if name == "b"] == [PART_BYTES, PART_BYTES + 5]


def test_a_pipe_tells_what_it_sent(ours: Bucket) -> None:
    told: list[tuple[int, int, str]] = []
    read_end, write_end = os.pipe()

    def fill() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(bytes(PART_BYTES + 7))

    filler = threading.Thread(target=fill)
    filler.start()
    with os.fdopen(read_end, "rb") as pipe:
        ours.add_file(pipe, "p", progress=lambda *step: told.append(step))
    filler.join()
    assert told == [(PART_BYTES, PART_BYTES, "p"), (PART_BYTES + 7, PART_BYTES + 7, "p")]
    assert ours.list_files()[0].size == PART_BYTES + 7


def test_a_caller_that_raises_ends_it(ours: Bucket, tmp_path: Path) -> None:
    def enough(*_: object) -> None:
        raise ZeroDivisionError

    root = write(tmp_path / "in", a=b"1", b=bytes(3 * PART_BYTES))
    for call in (ours.add_directory, ours.sync_directory):
        with pytest.raises(ZeroDivisionError):
            call(root, progress=enough)


def test_steps_are_logged_when_asked(
    ours: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path, a=b"1", b=b"1")
    ours.add_string("2", "old")
    with caplog.at_level(logging.INFO):
        ours.sync_directory(root)
        assert caplog.messages == []
        ours.sync_directory(root, True, "d")
    assert caplog.messages == [f"Copy a to d/{name}" for name in "ab"]


def test_keys_are_sanitised_unless_the_connection_forbids_it(
    gateway: Gateway, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection.from_environment(environ=gateway.environment)
    with Bucket(connection, bucket) as ours:
        ours.add_string("1", "//a//b")
        assert [file.key for file in ours] == ["a/b"]
        assert "'//a//b' was changed to 'a/b'" in caplog.text
    connection._sanitize_bucket_paths = False
    with Bucket(connection, bucket).with_cache_ttl(5) as exact:
        exact.add_string("2", "//a//b")
        assert [file.key for file in exact] == ["//a//b", "a/b"]
        exact.delete_file("//a//b")
        assert [file.key for file in exact] == ["a/b"]


def test_no_change_forgets_another(connection: Connection) -> None:
    one = Bucket(connection, "x", create=False, cacheTTLSec=7)
    one = one.with_filtering(BucketPrefixFiltering("p"))
    one = one.with_resource_transformation(PrefixResourcesTransformation("p/"))
    assert one.with_cache_ttl(9).to_json() == {
        "bucketName": "x",
        "filtering": {"prefixFiltering": {"prefix": "p"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "p/"}},
        "cacheTTLSec": 9,
    }


def test_legacy_methods_warn(connection: Connection) -> None:
    one = Bucket(connection, "x", create=False)
    with pytest.warns(DeprecationWarning, match="does nothing"):
        one.flush()
    with pytest.warns(DeprecationWarning, match="does nothing"):
        one.update(flush=True)


def test_a_failure_names_the_first_and_counts_the_rest(ours: Bucket, tmp_path: Path) -> None:
    paths = {f"f{n}": tmp_path / "none" for n in range(5)}
    with pytest.raises(SyncFailed, match=r"^5 could not .*'f0': No such .*; and 2 more\.$"):
        ours.sync_files(paths)
