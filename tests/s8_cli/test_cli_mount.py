"""``mount``, ``umount``, ``flush`` and ``status`` where something stands in their way."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.mounting import PROGRAM, Cli, Mount, bucket_keys, run
from tests.s8_cli.running import background
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
Words = list[str | Path]


def child_of(process: subprocess.Popen[str]) -> int:
    """The mount process that a command has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(eventually(lambda: path.read_text().split())[0])


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# --- starting -----------------------------------------------------------------------------


def test_a_mount_process_that_dies_early_is_reported(
    place: Mount, cli: Cli, silent_endpoint: str
) -> None:
    given: Words = ["mount", place.bucket, place.path, "--cache-dir", place.cache_dir]
    with background(cli, *given, AWS_ENDPOINT_URL=silent_endpoint) as process:
        os.kill(child_of(process), signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith("qarnotfs: The mount process died before it mounted; see ")
    assert str(place.log_path) in said
    assert not place.is_mounted()


def test_an_interrupted_mount_leaves_no_process(
    place: Mount, cli: Cli, silent_endpoint: str
) -> None:
    given: Words = ["mount", place.bucket, place.path, "--cache-dir", place.cache_dir]
    with background(cli, *given, AWS_ENDPOINT_URL=silent_endpoint) as process:
        daemon = child_of(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert (process.returncode, said.strip()) == (130, "qarnotfs: interrupted")
    assert not runs(daemon)


def test_the_process_is_in_nobodys_way(mounted: Mount) -> None:
    process = Path(f"/proc/{mounted.pid}")
    assert os.readlink(process / "cwd") == "/"
    assert os.getsid(mounted.pid) == mounted.pid
    assert os.readlink(process / "fd" / "0") == "/dev/null"
    assert {os.readlink(process / "fd" / n) for n in "12"} == {str(mounted.log_path)}


def test_only_the_owner_reads_the_log(mounted: Mount) -> None:
    assert stat.S_IMODE(mounted.log_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(mounted.log_path.parent.stat().st_mode) == 0o700


def test_a_log_file_elsewhere(place: Mount, tmp_path: Path) -> None:
    place.start(["--log-file", tmp_path / "my.log"], {})
    assert "is mounted on" in (tmp_path / "my.log").read_text()
    assert not place.log_path.exists()


def test_a_dead_mount_is_replaced(mounted: Mount) -> None:
    mounted.kill9()
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.statvfs(mounted.path)
    mounted.start([], {})
    assert list(mounted.path.iterdir()) == []


def test_nothing_is_left_of_mounts_that_died_in_a_row(mounted: Mount) -> None:
    for _ in range(3):
        mounted.kill9()
        mounted.start([], {})
    table = Path("/proc/self/mounts").read_text()
    assert table.count(f" {mounted.path} ") <= 2
    mounted.unmount()
    assert not mounted.is_mounted()


def is_dead(path: Path) -> bool:
    """Whether who looks into it is told so, instead of being shown an empty directory."""
    try:
        os.listdir(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def test_a_dead_mount_stays_until_the_new_one_is_there(
    mounted: Mount, cli: Cli, gateway: Gateway
) -> None:
    """An empty directory in between would be mirrored as deletions."""
    (mounted.path / "file").write_bytes(b"1")
    mounted.kill9()
    gateway.pause()
    given: Words = ["mount", mounted.bucket, mounted.path, "--cache-dir", mounted.cache_dir]
    with background(cli, *given) as process:
        started = child_of(process)
        eventually(lambda: "python" in Path(f"/proc/{started}/comm").read_text())
        assert is_dead(mounted.path)
        gateway.resume()
        while process.poll() is None:
            assert is_dead(mounted.path) or os.listdir(mounted.path) == ["file"]
        assert process.returncode == 0
    mounted.pid = mounted.status()["pid"]
    assert os.listdir(mounted.path) == ["file"]


def test_a_dead_mount_stays_when_the_next_cannot_be_made(mounted: Mount, cli: Cli) -> None:
    mounted.kill9()
    done = cli("mount", "no-such-bucket", mounted.path, "--cache-dir", mounted.cache_dir)
    assert (done.code, "There is no bucket 'no-such-bucket'" in done.err) == (1, True)
    assert is_dead(mounted.path)


def test_a_file_is_no_mountpoint(place: Mount, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli("mount", place.bucket, tmp_path / "file", "--cache-dir", place.cache_dir)
    assert (done.code, "is not a directory: name one" in done.err) == (2, True)


def test_a_mountpoint_that_is_missing_is_to_be_made(place: Mount, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a b"
    done = cli("mount", place.bucket, path, "--cache-dir", place.cache_dir)
    assert done.code == 2
    run("sh", "-c", done.err.partition("make the directory first, ")[2])
    assert path.is_dir()


def test_a_spec_gives_view_and_time(place: Mount, cli: Cli, s3: S3Client, tmp_path: Path) -> None:
    s3.put_object(Bucket=place.bucket, Key="a/b/x", Body=b"")
    s3.put_object(Bucket=place.bucket, Key="a/y", Body=b"")
    spec = {
        "bucketName": place.bucket,
        "filtering": {"prefixFiltering": {"prefix": "a/b/"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "a/"}},
        "cacheTTLSec": 2592000,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    given: Words = ["--spec", tmp_path / "spec.json", place.path, "--cache-dir", place.cache_dir]
    cli("mount", *given).ok()
    status = place.status()
    place.pid = status["pid"]
    assert status["view"] == spec
    assert [str(p.relative_to(place.path)) for p in place.path.rglob("*")] == ["b", "b/x"]


# --- ending -------------------------------------------------------------------------------


def test_a_mount_in_use_stays(mounted: Mount, s3: S3Client) -> None:
    with (mounted.path / "held").open("w") as held:
        done = mounted.try_unmount()
        assert done.code != 0
        assert "use" in done.err
        assert mounted.is_mounted()
        held.write("still works")
    mounted.unmount()
    assert bucket_keys(s3, mounted.bucket) == ["held"]


def test_by_force_what_is_open_can_be_finished(mounted: Mount, cli: Cli, s3: S3Client) -> None:
    held = (mounted.path / "held").open("w")
    with held, background(cli, "umount", "--force", mounted.path) as process:
        eventually(lambda: not mounted.is_mounted())
        held.write("to the end")
        held.close()
        out, _ = process.communicate()
    assert (process.returncode, "everything is in" in out) == (0, True)
    assert s3.get_object(Bucket=mounted.bucket, Key="held")["Body"].read() == b"to the end"


# --- asking -------------------------------------------------------------------------------


def test_what_is_not_mounted(cli: Cli, tmp_path: Path) -> None:
    for command in ("umount", "flush", "status"):
        done = cli(command, tmp_path)
        assert (done.code, done.err) == (2, f"qarnotfs: {tmp_path} is not a qarnotfs mount.\n")


def test_a_path_into_the_mount_is_not_the_mount(mounted: Mount, cli: Cli) -> None:
    (mounted.path / "dir").mkdir()
    assert cli("umount", mounted.path / "dir").code == 2
    assert mounted.is_mounted()


def test_another_spelling_of_the_path_will_do(mounted: Mount, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("mnt")
    [entry] = json.loads(cli("status", "--json", tmp_path / "link").ok().out)
    assert entry["mountpoint"] == str(mounted.path)
    cli("umount", tmp_path / "link").ok()
    assert not mounted.is_mounted()


def test_a_process_that_hangs_is_out_of_reach(mounted: Mount, cli: Cli) -> None:
    """And asking does not hang."""
    mounted.signal(signal.SIGSTOP)
    try:
        assert mounted.status()["state"] == "unreachable"
    finally:
        mounted.signal(signal.SIGCONT)
    assert mounted.status()["state"] == "serving"


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["mount", "--help"]])
def test_a_reader_that_leaves_needs_no_traceback(
    mounted: Mount, cli: Cli, words: list[str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [PROGRAM, *words],
        env=cli.environment,
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_large_buffers_are_in_huge_pages_unless_the_user_has_other_wishes(
    place: Mount,
) -> None:
    for given, said in (({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": ""}, "")):
        place.start([], given)
        environ = Path(f"/proc/{place.pid}/environ").read_bytes().split(b"\0")
        assert f"GLIBC_TUNABLES={said}".encode() in environ
        place.unmount()


def test_the_version(cli: Cli) -> None:
    assert cli("--version").ok().out.startswith("qarnotfs 0.")
