"""``qarnotfs rm``, ``cp``, ``mb`` and ``rb`` on the real gateway."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from qarnotfs.bucket import Bucket, transfer
from qarnotfs.bucket.report import Tally
from qarnotfs.cli.rm import _delete
from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import MemoryStore
from tests.conftest import remove_bucket
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli
from tests.s8_cli.objects import content, fill

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


@pytest.fixture
def other(s3: S3Client) -> Iterator[str]:
    """The name of a bucket that is not there yet, and may be."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    if name in buckets(s3):
        remove_bucket(s3, name)


def buckets(s3: S3Client) -> list[str]:
    return [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


# --- rm -----------------------------------------------------------------------------------


def test_files_are_deleted(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a": b"", "b": b"", "c": b""})
    done = cli("rm", f"{bucket}:a", f"{bucket}:b").ok()
    assert done.out == "2 files deleted.\n"
    assert list(content(s3, bucket)) == ["c"]


@pytest.mark.parametrize("key", ["/x", "a//x", "a/", "new\nline", "ü *", "\x01", "a\\b", " x "])
def test_exactly_this_key_goes(cli: Cli, s3: S3Client, bucket: str, key: str) -> None:
    kept = {"x": b"", "a/x": b"", "a": b""}
    fill(s3, bucket, {**kept, key: b""})
    cli("rm", f"{bucket}:{key}").ok()
    assert content(s3, bucket) == kept


def test_what_is_not_there_is_named_and_the_rest_deleted(
    cli: Cli, s3: S3Client, bucket: str
) -> None:
    fill(s3, bucket, {"a": b"", "dir/x": b""})
    done = cli("rm", f"{bucket}:missing", f"{bucket}:dir", f"{bucket}:a")
    assert (done.code, done.out) == (1, "1 file deleted.\n")
    assert done.err.splitlines() == [
        f"qarnotfs: {bucket}:{key}: There is no such file; to delete a directory, use -r."
        for key in ("dir", "missing")
    ]
    assert list(content(s3, bucket)) == ["dir/x"]


def test_a_directory_with_all_that_is_in_it(cli: Cli, s3: S3Client, bucket: str) -> None:
    kept = {"ab": b"", "ab/x": b"", "b/a/x": b""}
    fill(s3, bucket, {**kept, "a": b"", "a/": b"", "a/x": b"", "a//y": b"", "a/b/c": b""})
    cli("rm", "-r", f"{bucket}:a").ok()
    assert content(s3, bucket) == kept
    done = cli("rm", "-r", f"{bucket}:a")
    assert (done.code, done.err) == (1, f"qarnotfs: {bucket}:a: There is nothing of this name.\n")


def test_more_than_a_thousand_take_a_request_for_each_thousand(
    cli: Cli, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    fill(s3, bucket, dict.fromkeys([f"d/{n}" for n in range(1001)], b""))
    mark = gateway.mark()
    assert cli("rm", "-r", f"{bucket}:d/").ok().out == "1001 files deleted.\n"
    asked = [request.method for request in gateway.requests(mark)]
    assert (asked.count("POST"), len(asked)) == (2, 4)
    assert content(s3, bucket) == {}


def test_a_whole_bucket_is_spelled_out(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a": b"", "/b": b""})
    for words in ([bucket], [f"{bucket}:"], ["-r", bucket], ["-r", f"{bucket}:"]):
        done = cli("rm", *words)
        assert (done.code, "--all" in done.err) == (2, True)
    for words in (["--all", bucket], ["-r", "--all", f"{bucket}:a"]):
        assert cli("rm", *words).code == 2
    assert len(content(s3, bucket)) == 2
    cli("rm", "-r", "--all", bucket).ok()
    assert content(s3, bucket) == {}
    assert cli("rm", "-r", "--all", bucket).ok().out == "Nothing to do.\n"


def test_rehearsing_asks_and_changes_nothing(
    cli: Cli, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    fill(s3, bucket, {"d/a": b"", "d/b\n": b""})
    mark = gateway.mark()
    done = cli("rm", "-r", "--dry-run", f"{bucket}:d/").ok()
    assert done.out.splitlines() == [
        f"deleted: {bucket}:d/a",
        f"deleted: {bucket}:d/b\\n",
        "2 files deleted. It was a dry run: nothing is changed.",
    ]
    assert {request.method for request in gateway.requests(mark)} == {"GET"}
    assert len(content(s3, bucket)) == 2


def test_rm_for_programs(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a\n": b""})
    done = cli("rm", "--json", f"{bucket}:a\n", f"{bucket}:b")
    assert done.code == 1
    said = json.loads(done.out)
    assert said["deleted"] == [f"{bucket}:a\n"]
    assert list(said["failed"]) == [f"{bucket}:b"]
    assert said["dry_run"] is False
    fill(s3, bucket, {"c": b""})
    assert cli("rm", "--quiet", f"{bucket}:c").ok().out == ""


def test_a_view_that_was_exported_for_mounts_is_not_meant(
    cli: Cli, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    """What a name stands for is the same to every command, or ``rm`` deletes another file."""
    fill(s3, bucket, {"a.csv": b"outer", "s/a.csv": b"inner"})
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"bucketName": "another"}))
    exported = {
        "QARNOTFS_SPEC": str(spec),
        "QARNOTFS_PREFIX": "s/",
        "QARNOTFS_STRIP_PREFIX": "s/",
    }
    name = f"{bucket}:a.csv"
    assert cli("ls", "-r", bucket, **exported).ok().out.split() == ["a.csv", "s/a.csv"]
    assert bucket in cli("ls", **exported).ok().out.split()
    assert cli("cat", name, **exported).ok().out == "outer"
    cli("get", name, tmp_path / "got", **exported).ok()
    assert (tmp_path / "got").read_bytes() == b"outer"
    cli("cp", name, f"{bucket}:copy", **exported).ok()
    cli("rm", name, **exported).ok()
    assert content(s3, bucket) == {"s/a.csv": b"inner", "copy": b"outer"}


def test_a_file_that_is_named_twice_is_deleted_once(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a": b"", "d/b": b""})
    assert cli("rm", f"{bucket}:a", f"{bucket}:a").ok().out == "1 file deleted.\n"
    assert cli("rm", "-r", f"{bucket}:d", f"{bucket}:d/b").ok().out == "1 file deleted.\n"


def test_rm_asks_again_while_the_store_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "backoff_sec", lambda attempts, chance: 0.0)
    store, tally, busy = MemoryStore(), Tally(), [Unavailable("busy")]
    store.put("a", b"", Attributes()).result()
    store.faults = lambda method, key: busy.pop() if method == "delete" and busy else None
    _delete(cast(Bucket, SimpleNamespace(store=store, uuid="b")), iter(["a"]), tally, False)
    assert tally.report().deleted == ("b:a",)
    assert store.list_page("").objects == ()


def test_rm_in_several_buckets(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a": b"", "b": b""})
    done = cli("rm", f"{bucket}:a", "no-such-bucket:x", f"{bucket}:b")
    assert done.err.startswith("qarnotfs: no-such-bucket: There is no bucket")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert content(s3, bucket) == {}


# --- cp -----------------------------------------------------------------------------------


def test_a_copy_is_made_by_the_server(
    cli: Cli, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    s3.put_object(Bucket=bucket, Key="a/x", Body=b"1", Metadata={"mtime": "7"})
    mark = gateway.mark()
    done = cli("cp", f"{bucket}:a/x", f"{bucket}:/y//z").ok()
    assert done.out == f"Copied {bucket}:a/x to {bucket}:/y//z.\n"
    assert {request.method for request in gateway.requests(mark)} == {"PUT", "HEAD"}
    copy = s3.get_object(Bucket=bucket, Key="/y//z")
    assert (copy["Body"].read(), copy["Metadata"]) == (b"1", {"mtime": "7"})


def test_a_copy_in_a_directory_keeps_its_name(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"a/x": b"1"})
    cli("cp", "--quiet", f"{bucket}:a/x", f"{bucket}:old/").ok()
    cli("cp", f"{bucket}:a/x", bucket).ok()
    assert list(content(s3, bucket)) == ["a/x", "old/x", "x"]


def test_what_cannot_be_copied(cli: Cli, bucket: str) -> None:
    done = cli("cp", f"{bucket}:missing", f"{bucket}:y")
    assert (done.code, done.err) == (1, f"qarnotfs: There is no file 'missing' in '{bucket}'.\n")
    done = cli("cp", f"{bucket}:x", "elsewhere:x")
    assert done.code == 2
    assert f"qarnotfs cat {bucket}:x | qarnotfs put - elsewhere:x" in done.err


# --- buckets ------------------------------------------------------------------------------


def test_a_bucket_comes_and_goes(cli: Cli, s3: S3Client, other: str) -> None:
    cli("mb", other).ok()
    assert other in buckets(s3)
    cli("mb", "--quiet", other).ok()
    assert cli("rb", other).ok().out == f"Deleted the bucket {other}.\n"
    assert other not in buckets(s3)
    done = cli("rb", other)
    assert (done.code, f"There is no bucket '{other}'" in done.err) == (1, True)


def test_only_by_force_a_bucket_goes_with_what_is_in_it(cli: Cli, s3: S3Client, other: str) -> None:
    cli("mb", other).ok()
    s3.put_bucket_versioning(Bucket=other, VersioningConfiguration={"Status": "Enabled"})
    fill(s3, other, {"a": b"1"})
    fill(s3, other, {"a": b"2"})
    cli("rm", f"{other}:a").ok()
    assert content(s3, other) == {}
    done = cli("rb", other)
    assert (done.code, f"is not empty: 'qarnotfs rb --force {other}'" in done.err) == (1, True)
    cli("rb", "--force", other).ok()
    assert other not in buckets(s3)
    assert cli("rb", "--force", other).code == 1


def test_force_is_said_each_time(cli: Cli, s3: S3Client, bucket: str) -> None:
    """QARNOTFS_FORCE is for umount."""
    fill(s3, bucket, {"a": b""})
    assert cli("rb", bucket, QARNOTFS_FORCE="1").code == 1
    assert list(content(s3, bucket)) == ["a"]


@pytest.mark.parametrize("name", ["a:b", "a/b", "", "b:"])
def test_what_is_no_name_of_a_bucket(cli: Cli, name: str) -> None:
    for command in ("mb", "rb"):
        done = cli(command, name)
        assert (done.code, "is not the name of a bucket" in done.err) == (2, True)


def test_a_name_the_server_refuses(cli: Cli, tmp_path: Path) -> None:
    for name in ("A", "x" * 300):
        done = cli("mb", name)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert name in done.err
