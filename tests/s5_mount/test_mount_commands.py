"""The commands around a mount, and what they say when it cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Cli, Done, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A directory to mount on and one for the cache; nothing may be mounted at the end."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path, tmp_path / "cache"
    assert not os.path.ismount(path)


def one_clear_sentence(done: Done, *secrets: str) -> str:
    """What a refused command says, when it says it well."""
    said = done.err.strip()
    assert said != ""
    assert len(said.splitlines()) <= 3
    assert "Traceback" not in said
    for secret in secrets:
        assert secret not in said + done.out
    return said


def test_status_names_every_mount(mounts: Mounts, cli: Cli, bucket: str) -> None:
    first = mounts("--upload-delay", "3600")
    second = mounts("--prefix", "x/")
    (first.path / "file").write_bytes(b"12345")
    entries = {entry["mountpoint"]: entry for entry in json.loads(cli("status", "--json").ok().out)}
    entry = entries[str(first.path)]
    assert entry["bucket"] == bucket
    assert entry["pid"] == first.pid
    assert (entry["pending_files"], entry["pending_bytes"]) == (1, 5)
    assert entry["errors"] == []
    assert isinstance(entry["cache_bytes"], int)
    assert entries[str(second.path)]["pending_files"] == 0
    table = cli("status", COLUMNS="300").ok().out
    assert str(first.path) in table
    assert str(second.path) in table


def test_status_of_a_dead_mount(mounts: Mounts, cli: Cli) -> None:
    mount = mounts()
    mount.kill9()
    assert mount.status()["state"] == "dead"
    assert str(mount.path) in cli("status", COLUMNS="300").ok().out


def test_umount_of_a_dead_mount_cleans_up(mounts: Mounts) -> None:
    mount = mounts()
    mount.kill9()
    done = mount.try_unmount()
    assert done.code == 1
    assert "next mount" in one_clear_sentence(done)
    assert not mount.is_mounted()


def test_run(cli: Cli, place: tuple[Path, Path], s3: S3Client, bucket: str) -> None:
    path, cache = place
    s3.put_object(Bucket=bucket, Key="in", Body=b"question\n")
    script = f"tr a-z A-Z < {path}/in > {path}/out; echo done; exit 7"
    done = cli("run", "--cache-dir", cache, f"{bucket}:{path}", "--", "sh", "-c", script)
    assert (done.code, done.out) == (7, "done\n")
    assert s3.get_object(Bucket=bucket, Key="out")["Body"].read() == b"QUESTION\n"
    assert cli("run", "--cache-dir", cache, f"{bucket}:{path}", "--", "true").code == 0


def test_run_on_two_buckets(
    cli: Cli, tmp_path: Path, gateway: Gateway, s3: S3Client, bucket: str
) -> None:
    other = bucket + "-out"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=bucket, Key="x", Body=b"1")
    places = [f"{bucket}:{tmp_path}/in", f"{other}:{tmp_path}/out"]
    copy = ["cp", f"{tmp_path}/in/x", f"{tmp_path}/out/y"]
    cli("run", "--cache-dir", tmp_path / "cache", *places, "--", *copy).ok()
    assert bucket_keys(s3, other) == ["y"]
    s3.delete_object(Bucket=other, Key="y")
    s3.delete_bucket(Bucket=other)


def test_options_from_the_environment(
    cli: Cli, place: tuple[Path, Path], s3: S3Client, bucket: str
) -> None:
    path, cache = place
    s3.put_object(Bucket=bucket, Key="a/x", Body=b"")
    twins = {
        "QARNOTFS_CACHE_DIR": str(cache),
        "QARNOTFS_PREFIX": "a/",
        "QARNOTFS_STRIP_PREFIX": "a/",
    }
    assert cli("run", f"{bucket}:{path}", "--", "ls", path, **twins).ok().out == "x\n"
    assert any(cache.iterdir())


def test_foreground_ends_with_the_mount(mounts: Mounts, cli: Cli, bucket: str) -> None:
    mount = mounts()
    busy = cli("mount", "--foreground", bucket, mount.path, "--cache-dir", mount.cache_dir)
    assert busy.code == 2
    assert "already mounted" in one_clear_sentence(busy)


def test_unknown_bucket(cli: Cli, place: tuple[Path, Path]) -> None:
    path, cache = place
    done = cli("mount", "no-such-bucket", path, "--cache-dir", cache)
    assert done.code in {1, 2}
    assert "no-such-bucket" in one_clear_sentence(done)


def test_wrong_secret(cli: Cli, place: tuple[Path, Path], bucket: str) -> None:
    path, cache = place
    secret = "wrong-and-never-to-be-shown"
    done = cli("mount", bucket, path, "--cache-dir", cache, AWS_SECRET_ACCESS_KEY=secret)
    assert done.code in {1, 2}
    one_clear_sentence(done, secret)
    logs = [log.read_text() for log in cache.rglob("*.log")]
    assert not any(secret in log for log in logs)


def test_unreachable_endpoint(cli: Cli, place: tuple[Path, Path], bucket: str) -> None:
    path, cache = place
    endpoint = "http://127.0.0.1:9"  # the discard port: nobody listens
    done = cli("mount", bucket, path, "--cache-dir", cache, AWS_ENDPOINT_URL=endpoint)
    assert done.code in {1, 2}
    assert "127.0.0.1:9" in one_clear_sentence(done)


def test_no_directory(cli: Cli, tmp_path: Path, bucket: str) -> None:
    done = cli("mount", bucket, tmp_path / "none", "--cache-dir", tmp_path / "cache")
    assert done.code == 2
    assert "none" in one_clear_sentence(done)


def test_secrets_are_not_in_argv_or_log(mounts: Mounts, gateway: Gateway) -> None:
    mount = mounts("--log-level", "debug")
    (mount.path / "file").write_bytes(b"1")
    mount.flush()
    argv = Path(f"/proc/{mount.pid}/cmdline").read_bytes().decode()
    assert gateway.secret_key not in argv
    assert gateway.secret_key not in mount.log_path.read_text()


def test_nothing_is_left_after_unmount(mounts: Mounts, cli: Cli) -> None:
    mount = mounts()
    mount.unmount()
    eventually(mount.has_ended)
    assert not mount.is_mounted()
    listed = json.loads(cli("status", "--json").ok().out)
    assert str(mount.path) not in [entry["mountpoint"] for entry in listed]
