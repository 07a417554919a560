"""``qarnotfs check``, on mounts that live, died, or were damaged."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from qarnotfs.cli import doctor, mountpoint
from tests.faulty_server import Answer, FaultyServer, Request
from tests.s5_mount.mounting import Cli, Mount, bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOLD = ["--upload-delay", "3600"]  # nothing is uploaded unless somebody asks for it


def checked(cli: Cli, mount: Mount, code: int) -> dict[str, Any]:
    """What is said of the mount's cache directory; ``code``: 0 nothing found, 1 something."""
    done = cli("check", "--offline", "--cache-dir", mount.cache_dir, "--json")
    assert done.code == code, done.out + done.err
    said: dict[str, Any] = json.loads(done.out)
    return said


def test_nothing_was_ever_mounted(cli: Cli, tmp_path: Path) -> None:
    said = cli("check", "--cache-dir", tmp_path / "none").ok().out
    assert "no findings" in said
    assert "WRONG" not in said


def test_a_living_mount_is_in_order_and_not_disturbed(cli: Cli, place: Mount) -> None:
    place.start(HOLD, {})
    (place.path / "closed").write_bytes(b"closed")
    with (place.path / "open").open("wb", buffering=0) as file:
        file.write(b"half")
        [journal] = checked(cli, place, 0)["journals"]
        assert journal["in_use"]
        file.write(b" and half")
    place.unmount()
    assert checked(cli, place, 0)["findings"] == []


def test_a_dead_mount_is_explained_and_the_next_one_puts_it_in_order(
    cli: Cli, place: Mount, bucket: str
) -> None:
    place.start(HOLD, {})
    (place.path / "waiting").write_bytes(b"waiting")
    place.kill9()
    [finding] = checked(cli, place, 1)["findings"]
    assert "Mount the bucket" in finding["next"]
    [debt] = finding["details"]["debts"]
    assert Path(debt["staged_file"]).read_bytes() == b"waiting"
    text = cli("check", bucket, "--offline", "--cache-dir", place.cache_dir)
    assert text.code == 1
    assert "1 journal checked, 0 in use; 1 finding." in text.out
    place.start([], {})
    place.unmount()
    assert checked(cli, place, 0)["findings"] == []


def test_what_the_next_mount_set_aside_is_named_until_it_is_deleted(cli: Cli, place: Mount) -> None:
    place.start(HOLD, {})
    descriptor = os.open(place.path / "half", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"half")
    place.kill9()
    with suppress(OSError):  # its mount is dead
        os.close(descriptor)
    place.start([], {})
    [finding] = eventually(lambda: checked(cli, place, 1)["findings"])
    assert Path(finding["where"]).read_bytes() == b"half"
    Path(finding["where"]).unlink()
    assert checked(cli, place, 0)["findings"] == []


def test_a_damaged_file_is_an_error_with_its_name(cli: Cli, place: Mount) -> None:
    place.start(HOLD, {})
    (place.path / "precious").write_bytes(b"precious")
    place.kill9()
    [staged] = place.cache_dir.glob("*/journals/*/staged/*")
    staged.write_bytes(b"PRECIOUS")
    errors = [f for f in checked(cli, place, 1)["findings"] if f["severity"] == "error"]
    assert ["'precious'" in error["what"] for error in errors] == [True]


def test_an_unknown_bucket_is_said(cli: Cli, tmp_path: Path) -> None:
    done = cli("check", "nobody", "--cache-dir", tmp_path, "--offline")
    assert done.code == 2
    assert "'nobody'" in done.err


# --- the doctor -------------------------------------------------------------------------------


def wrongs(cli: Cli, *arguments: str | Path, **environment: str) -> list[dict[str, Any]]:
    """What is not well, of which there must be something."""
    done = cli("check", "--json", *arguments, **environment)
    assert done.code == 1, done.out + done.err
    found = [one for one in json.loads(done.out)["checks"] if not one["well"]]
    assert all(one["next"] for one in found)
    return found


def test_a_bucket_answers_and_its_speed_is_measured(
    cli: Cli, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    said = cli("check", bucket, "--speed", "--cache-dir", tmp_path / "cache").ok().out
    assert f"The bucket '{bucket}' answers in" in said
    assert "clock is the server's" in said
    assert f"The bucket '{bucket}' takes" in said
    assert bucket_keys(s3, bucket) == []


def test_without_credentials_it_says_what_to_set(tmp_path: Path) -> None:
    nobody = Cli(tmp_path, tmp_path, {})
    [found] = wrongs(nobody, "--cache-dir", tmp_path)
    assert "QARNOT_CLIENT_TOKEN" in found["next"]
    nobody("check", "--offline", "--cache-dir", tmp_path).ok()


def test_a_wrong_secret_an_unknown_bucket_and_a_dead_server(cli: Cli, tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path)
    [found] = wrongs(cli, *cache, AWS_SECRET_ACCESS_KEY="wrong")
    assert "does not accept the credentials" in found["what"]
    [found] = wrongs(cli, *cache, "nobody")
    assert "qarnotfs mb nobody" in found["next"]
    [found] = wrongs(cli, *cache, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert "cannot be reached" in found["what"]


def test_what_others_on_the_way_could_read(cli: Cli, tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path)
    [found] = wrongs(cli, *cache, "--no-verify-tls")
    assert "Nobody verifies" in found["what"]
    assert "--ca-bundle" in found["next"]
    elsewhere = cli.environment["AWS_ENDPOINT_URL"].replace("127.0.0.1", "0.0.0.0")
    [found] = wrongs(cli, *cache, AWS_ENDPOINT_URL=elsewhere)
    assert "can be read and changed on its way" in found["what"]
    assert "AWS_ENDPOINT_URL" in found["next"]


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    """A server whose clock is ten minutes behind ours."""

    def answer(_: Request) -> Answer:
        return Answer(200, {"Date": formatdate(time() - 600)}, b"<ListAllMyBucketsResult/>")

    with FaultyServer(answer) as server:
        account = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }
        [found] = wrongs(Cli(tmp_path, tmp_path, account), "--cache-dir", tmp_path)
    assert "10 min 0" in found["what"]  # and a few seconds, on a busy machine
    assert "timedatectl" in found["next"]


def test_a_dead_mount_is_named_with_what_to_do(cli: Cli, place: Mount) -> None:
    place.start([], {})
    place.kill9()
    [found] = wrongs(cli, "--cache-dir", place.cache_dir, "--offline")
    assert f"qarnotfs umount {place.path}" in found["next"]


def test_a_cache_directory_of_someone_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, -1)
    [found] = wrongs(cli, "--cache-dir", tmp_path / "theirs", "--offline")
    assert "belongs to user 12345" in found["what"]


@pytest.mark.parametrize(
    ("path", "allowed"), [("user_allow_other", True), ("#user_allow_other", False), ("", False)]
)
def test_fuse_conf_is_read(
    path: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "FUSE_CONF", tmp_path / "fuse.conf")
    assert not mountpoint.others_allowed()
    (tmp_path / "fuse.conf").write_text(f"# mount_max = 1000\n{path}\n")
    assert mountpoint.others_allowed() is allowed


def test_what_this_user_may_not_do_says_who_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open the device, mount through fusermount3, write the cache."""
    (tmp_path / "fuse").symlink_to("fuse")  # cannot be opened, whoever tries
    (tmp_path / "fusermount3").touch(0o755)
    monkeypatch.setattr(doctor, "FUSE", tmp_path / "fuse")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name == "fusermount3")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = [one.next for one in doctor.machine(tmp_path / "cache") if not one.well]
    for deed in ("in a container give --device", "chmod u+s", "another place with --cache-dir"):
        assert any(deed in one for one in found)


def test_a_user_without_mtab_could_not_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a root file system as debootstrap leaves it."""
    monkeypatch.setattr(mountpoint, "MTAB", tmp_path / "mtab")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    found = [one.next for one in doctor.machine(tmp_path) if not one.well]
    assert any("ln -s /proc/self/mounts" in one for one in found)


def test_a_missing_device_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "FUSE", tmp_path / "fuse")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("QARNOTFS_RUNTIME_DIR", str(tmp_path))
    found = [one.next for one in doctor.machine(tmp_path) if not one.well]
    assert any("modprobe fuse" in one for one in found)
    assert any("apt-get install fuse3" in one for one in found)
