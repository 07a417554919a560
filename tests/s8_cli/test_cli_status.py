"""``qarnotfs status``, its live picture, metrics, logs, and what is said when debugging."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rgw import Gateway
from tests.s5_mount.mounting import PROGRAM, Cli, Mount
from tests.s8_cli.running import background
from tests.support import eventually

pytestmark = pytest.mark.mount
HOLD = ["--upload-delay", "1h"]


@pytest.fixture
def port() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


# --- for eyes -------------------------------------------------------------------------------


def test_a_table_for_people(place: Mount, cli: Cli, gateway: Gateway) -> None:
    place.start([*HOLD, "--cache-size", "2G"], {})
    (place.path / "file").write_bytes(b"12345")
    heading, row, *sentences = place.text_status().splitlines()
    assert heading.split("  ")[0] == "Mountpoint"
    for cell in (str(place.path), place.bucket, "serving", "of 2.0 GiB", "1 (5 B)"):
        assert cell in row
    said = " ".join(sentences)
    assert f"{gateway.endpoint} honours If-None-Match and If-Match" in said
    assert "1 file left (5 B)" in said


def test_the_live_picture_changes_and_ends_in_peace(place: Mount, cli: Cli) -> None:
    place.start(HOLD, {})
    main, terminal = os.openpty()
    with subprocess.Popen(
        [PROGRAM, "status", "--watch", place.path],
        env=cli.environment | {"TERM": "xterm", "COLUMNS": "200", "LINES": "20"},
        stdout=terminal,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(terminal)
        drawn = b""
        while b"serving" not in drawn:
            drawn += os.read(main, 4096)
        (place.path / "file").write_bytes(b"12345")
        while b"1 file left (5 B)" not in drawn:
            drawn += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    os.close(main)
    assert (process.returncode, err) == (0, b"")


def test_the_live_picture_needs_a_terminal(cli: Cli) -> None:
    done = cli("status", "--watch")
    assert done.code == 2
    assert "--json" in done.err


def test_programs_watch_lists(mounted: Mount, cli: Cli) -> None:
    with background(cli, "status", "--watch", "--json", mounted.path) as process:
        assert process.stdout is not None
        lists = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [[mount["bucket"] for mount in one] for one in lists] == [[mounted.bucket]] * 2


# --- for Prometheus ---------------------------------------------------------------------------


def test_prometheus_is_told(place: Mount, port: str) -> None:
    place.start([*HOLD, "--metrics", port], {})
    (place.path / "file").write_bytes(b"12345")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert samples["qarnotfs_pending_bytes"].value == 5
    assert samples["qarnotfs_uploaded_files_total"].value == 0
    assert samples["qarnotfs_mount_info"].labels["bucket"] == place.bucket
    assert samples["qarnotfs_mount_info"].labels["mountpoint"] == str(place.path)
    assert samples["qarnotfs_server_answers"].value == 1


def test_an_address_that_is_taken_is_said_and_nothing_is_mounted(place: Mount, cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = str(server.getsockname()[1])
        done = cli(
            *("mount", place.bucket, place.path),
            *("--cache-dir", place.cache_dir, "--metrics", taken),
        )
    assert done.code == 2
    assert "--metrics" in done.err
    assert not place.is_mounted()


# --- logs -------------------------------------------------------------------------------------


def test_debugging_one_mount_while_it_runs(mounted: Mount, cli: Cli) -> None:
    (mounted.path / "before").write_bytes(b"")
    assert "write(" not in mounted.log_path.read_text()
    cli("debug", mounted.path, "on").ok()
    assert mounted.status()["debug"]
    assert "qarnotfs debug DIR off" in mounted.text_status()
    (mounted.path / "hidden").write_bytes(b"not for the log")
    assert not (mounted.path / "nothing").exists()
    logged = mounted.log_path.read_text()
    assert "name=b'hidden'" in logged
    assert "write(" in logged
    assert "not for the log" not in logged
    cli("debug", mounted.path, "off").ok()
    (mounted.path / "after").write_bytes(b"")
    assert "b'after'" not in mounted.log_path.read_text()


def test_what_was_debugged_from_the_beginning_can_be_ended(place: Mount, cli: Cli) -> None:
    place.start(["--log-level", "debug"], {})
    assert place.status()["debug"]
    cli("debug", place.path, "off").ok()
    assert not place.status()["debug"]


def test_debugging_what_is_not_mounted(cli: Cli, tmp_path: Path) -> None:
    done = cli("debug", tmp_path, "on")
    assert done.code == 2
    assert f"{tmp_path} is no qarnotfs mount" in done.err


def test_a_log_for_who_looks_on(place: Mount, cli: Cli) -> None:
    """On a terminal the day and the module are left out."""
    main, terminal = os.openpty()
    words: list[str | Path] = [PROGRAM, "mount", "--foreground", "--cache-dir", place.cache_dir]
    words += [place.bucket, place.path]
    with subprocess.Popen(words, env=cli.environment, stderr=terminal) as process:
        os.close(terminal)
        line = os.read(main, 4096).decode()
        process.terminate()
        assert process.wait(60) == 0
    os.close(main)
    said = f"INFO {place.bucket} is mounted on {place.path}"
    assert re.match(rf"\d\d:\d\d:\d\d {re.escape(said)}", line), line


def test_a_log_for_programs(place: Mount) -> None:
    place.start(["--log-format", "json"], {})
    place.unmount()
    lines = [json.loads(line) for line in place.log_path.read_text().splitlines()]
    [last] = [line for line in lines if line["message"] == "Everything is in the bucket"]
    assert (last["level"], last["bucket"]) == ("info", place.bucket)
    assert last["mountpoint"] == str(place.path)


def test_under_systemd_the_journal_gets_fields(place: Mount, cli: Cli, tmp_path: Path) -> None:
    """The journal is a socket here; where stderr ends is what systemd would say of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(60)
        script = (
            "import os; from qarnotfs.cli import logs, main; s = os.fstat(2);"
            "os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}';"
            f"logs.JOURNAL_SOCKET = {str(tmp_path / 'journal')!r}; main()"
        )
        cache = ["--cache-dir", str(place.cache_dir)]
        command = ["mount", "--foreground", *cache, place.bucket, str(place.path)]
        python = PROGRAM.with_name("python")
        with subprocess.Popen(
            [str(python), "-c", script, *command], env=cli.environment, stderr=subprocess.PIPE
        ) as process:
            eventually(place.is_mounted)
            fields = journal.recv(1 << 16).decode().splitlines()
            place.unmount()
            _, err = process.communicate()
    assert err == b""
    assert f"MESSAGE={place.bucket} is mounted on {place.path}" in fields
    assert {"PRIORITY=6", "SYSLOG_IDENTIFIER=qarnotfs"} <= set(fields)
    assert f"QARNOTFS_MOUNTPOINT={place.path}" in fields


# --- completion -------------------------------------------------------------------------------


def test_a_shell_completes_mountpoints(mounted: Mount, cli: Cli) -> None:
    asked = {
        "_QARNOTFS_COMPLETE": "bash_complete",
        "COMP_WORDS": "qarnotfs umount ",
        "COMP_CWORD": "2",
    }
    assert f"plain,{mounted.path}" in cli(**asked).ok().out.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).ok().out
    assert f"_QARNOTFS_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
