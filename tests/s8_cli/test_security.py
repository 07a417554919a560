"""The lines of docs/SECURITY.md, each with a test whose name begins with its number."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest
from rich.console import Console

from qarnotfs import control
from qarnotfs.cli import configfile
from qarnotfs.cli.board import board
from qarnotfs.cli.entry import KINDS
from qarnotfs.errors import UsageError
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount

PAGE = Path(__file__).parents[2] / "docs" / "SECURITY.md"
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become someone else")


def test_every_line_has_a_test_and_every_test_a_line() -> None:
    lines = set(re.findall(r"^- \*\*S(\d\d)\*\*", PAGE.read_text(), re.MULTILINE))
    sources = Path(__file__).parents[1].rglob("test_*.py")
    texts = (source.read_text() for source in sources)
    tests = {number for text in texts for number in re.findall(r"^def test_s(\d\d)_", text, re.M)}
    assert lines == tests


# --- secrets ----------------------------------------------------------------------------------


def test_s01_no_option_takes_a_secret() -> None:
    options = {
        name
        for members in KINDS.values()
        for command in members
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    assert "--conf" in options
    assert not [name for name in options if re.search("token|secret|password|credential", name)]


@pytest.mark.mount
def test_s02_secrets_are_nowhere_to_be_found(
    place: Mount, cli: Cli, gateway: Gateway, tmp_path: Path
) -> None:
    secret = gateway.environment["AWS_SECRET_ACCESS_KEY"].encode()
    place.start(["--log-level", "debug"], {})
    (place.path / "file").write_bytes(b"12345")
    place.flush()
    sockets = Path(cli.environment["QARNOTFS_RUNTIME_DIR"])
    files = [
        path for top in (place.cache_dir, sockets) for path in top.rglob("*") if path.is_file()
    ]
    assert place.log_path in files
    said = [path.read_bytes() for path in files]
    said.append(Path(f"/proc/{place.pid}/cmdline").read_bytes())
    said.append(cli("status", "--json").out.encode())
    assert not [text for text in said if secret in text]


@pytest.mark.mount
def test_s03_a_program_that_it_starts_finds_no_secret(
    place: Mount, tmp_path: Path, gateway: Gateway
) -> None:
    """One in place of fusermount3 writes down what it finds, and does what was asked."""
    helper = tmp_path / "bin" / "fusermount3"
    helper.parent.mkdir()
    helper.write_text(
        f'#!/bin/sh\nenv > {tmp_path}/found\nPATH=/bin:/usr/bin exec fusermount3 "$@"\n'
    )
    helper.chmod(0o755)
    place.start([], {"PATH": f"{helper.parent}:{os.environ['PATH']}"})
    place.unmount()
    found = (tmp_path / "found").read_text()
    assert "AWS_ENDPOINT_URL" in found
    assert gateway.environment["AWS_SECRET_ACCESS_KEY"] not in found


@pytest.mark.mount
@pytest.mark.parametrize("no_fuse", [False, True], ids=["mounted", "no-fuse"])
def test_s03_the_command_of_run_finds_no_secret(
    no_fuse: bool, cli: Cli, bucket: str, place: Mount, gateway: Gateway
) -> None:
    secret = gateway.environment["AWS_SECRET_ACCESS_KEY"]
    options = ["--cache-dir", str(place.cache_dir), *["--no-fuse"] * no_fuse]
    for keep in (False, True):
        options += ["--keep-login"] * keep
        done = cli("run", *options, f"{bucket}:{place.path}", "--", "env")
        assert done.code == 0
        assert (secret in done.out, "AWS_ACCESS_KEY_ID" in done.out) == (keep, keep)
        assert "AWS_ENDPOINT_URL" in done.out


@pytest.mark.mount
def test_s04_nobody_looks_into_the_mount_process(mounted: Mount) -> None:
    process = Path(f"/proc/{mounted.pid}")
    assert "Max core file size        0 " in (process / "limits").read_text()
    ask = (
        "import ctypes; from qarnotfs.cli import privacy; privacy.close_to_onlookers();"
        "print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))"
    )
    said = subprocess.run(
        [sys.executable, "-c", f"PR_GET_DUMPABLE = 3; {ask}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "0\n"


def test_s05_a_file_with_a_secret_that_others_read(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_text("QARNOT_CLIENT_TOKEN=secret\n")
    for mode, code in ((0o640, 2), (0o604, 2), (0o600, 0)):
        file.chmod(mode)
        done = cli("--config", file, "config")
        assert (done.code, "secret\n" in done.out + done.err) == (code, False)


# --- what is on this machine ------------------------------------------------------------------


@pytest.mark.mount
def test_s06_all_that_is_kept_is_its_owners_alone(place: Mount, cli: Cli) -> None:
    place.cache_dir.mkdir(mode=0o755)
    (place.cache_dir / "logs").mkdir(mode=0o755)
    place.start(["--upload-delay", "1h"], {})
    (place.path / "file").write_bytes(b"12345")
    [bucket] = place.cache_dir.glob(f"{place.bucket}-*")
    sockets = Path(cli.environment["QARNOTFS_RUNTIME_DIR"])
    assert [stat.S_IMODE(top.stat().st_mode) for top in (bucket, sockets)] == [0o700] * 2
    kept = [place.log_path, *bucket.rglob("*/data*"), *bucket.rglob("*/staged/*")]
    kept += sockets.iterdir()
    assert len(kept) > 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


@pytest.mark.mount
def test_s06_a_new_cache_directory_is_private(place: Mount, tmp_path: Path) -> None:
    place.cache_dir = tmp_path / "new" / "cache"
    place.start([], {})
    assert stat.S_IMODE(place.cache_dir.stat().st_mode) == 0o700


@as_root
@pytest.mark.mount
@pytest.mark.parametrize("whose", ["cache", "bucket"])
def test_s07_a_cache_directory_of_someone_else(place: Mount, cli: Cli, whose: str) -> None:
    place.start([], {})
    place.unmount()
    [bucket] = place.cache_dir.glob(f"{place.bucket}-*")
    os.chown(place.cache_dir if whose == "cache" else bucket, NOBODY, -1)
    done = cli("mount", place.bucket, place.path, "--cache-dir", place.cache_dir)
    assert done.code == 2
    assert "belongs to someone else" in done.err
    assert "--cache-dir" in done.err
    assert not place.is_mounted()


def test_s07_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(UsageError, match="or is no directory"):
        control.make_private(tmp_path / "link", "choose another")


@pytest.mark.mount
def test_s09_nothing_in_a_bucket_gives_privileges(mounted: Mount) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    [options] = [line.split()[5] for line in lines if line.split()[4] == str(mounted.path)]
    assert {"nosuid", "nodev"} <= set(options.split(","))


@pytest.fixture
def everybodys(place: Mount) -> Iterator[Mount]:
    """A place that other users can get to."""
    with tempfile.TemporaryDirectory(prefix="qfs-") as top:
        Path(top).chmod(0o755)
        place.path = Path(top) / "mnt"
        place.path.mkdir()
        yield place
        place.remove()


@as_root
@pytest.mark.mount
@pytest.mark.parametrize(("option", "seen"), [([], False), (["--allow-other"], True)])
def test_s10_others_look_in_when_they_are_let(
    everybodys: Mount, option: list[str], seen: bool
) -> None:
    everybodys.start(option, {})
    (everybodys.path / "file").write_bytes(b"12345")
    command = ["ls", str(everybodys.path)]
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False
    )
    assert (done.returncode == 0, done.stdout == b"file\n") == (seen, seen)


# --- the network, and what comes from it ------------------------------------------------------


@pytest.mark.mount
def test_s11_nothing_listens_unless_asked_and_then_here_only(
    place: Mount, unused_port: int
) -> None:
    place.start([], {})
    assert list(_listening(place.pid)) == []
    place.unmount()
    place.start(["--metrics", str(unused_port)], {})
    assert list(_listening(place.pid)) == [f"0100007F:{unused_port:04X}"]


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _listening(pid: int) -> Iterator[str]:
    """The addresses of a process's listening sockets, in the kernel's hexadecimal."""
    links = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in links:
                yield words[1]


def test_s13_names_do_not_command_a_terminal() -> None:
    evil = "\x1b]0;evil\x07"
    mount = {
        "mountpoint": "/mnt",
        "bucket": None,
        "state": "dead",
        "pid": None,
        "transfers": [{"path": evil, "bytes": 2, "bytes_sent": 1}],
        "errors": [{"path": evil, "message": evil, "staged_file": None}],
    }
    for terminal in (True, False):
        out = StringIO()
        console = Console(file=out, width=200, color_system=None)
        for part in board([mount], terminal=terminal):
            console.print(part)
        assert "\x1b" not in out.getvalue()
        assert "\\x1b]0;evil\\x07" in out.getvalue()


def test_a_file_of_settings_knows_all_secrets() -> None:
    """What `forget_secrets` and `config` hide are the same names."""
    assert set(configfile.SECRETS) <= set(configfile.ACCOUNT)
