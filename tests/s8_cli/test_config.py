"""Files of settings, and which of flag, environment, file and default counts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from docs import settings as page
from qarnotfs.cli import configfile, daemon
from qarnotfs.cli.entry import KINDS, commands
from qarnotfs.cli.options import twins
from qarnotfs.cli.request import MountRequest
from qarnotfs.connection.credentials import with_credentials
from tests.s5_mount.mounting import Cli, Mount

CACHE_SIZE = "QARNOTFS_CACHE_SIZE"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's file, and a home without one; nothing comes from outside."""
    for name in (*twins(), *configfile.ACCOUNT, configfile.VARIABLE):
        monkeypatch.setenv(name, "")  # and what a file exports is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(configfile, "MACHINE", tmp_path / "machine.conf")
    return tmp_path / "machine.conf"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "qarnotfs").mkdir()
    return tmp_path / "qarnotfs" / "qarnotfs.conf"


def invoke(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(commands, [str(a) for a in arguments], env=environment)


def shown(*arguments: str | Path, **environment: str) -> dict[str, tuple[str, str]]:
    """Name -> value and source, as ``qarnotfs config`` has them."""
    found = invoke(*arguments, "--json", **environment)
    assert found.exit_code == 0, found.output
    entries: list[dict[str, Any]] = json.loads(found.output)["settings"]
    return {entry["name"]: (entry["value"], entry["source"]) for entry in entries}


def test_flag_environment_file_default_in_this_order(machine: Path) -> None:
    assert shown("config")["--cache-size"][1] == "default"
    machine.write_text(f"{CACHE_SIZE}=1G\nQARNOTFS_CACHE_TTL=30d\n")
    said = shown("config")
    assert said["--cache-size"] == ("1.0 GiB", f"file: {machine}")
    assert said["--cache-ttl"] == ("30d", f"file: {machine}")
    by_environment = {CACHE_SIZE: "2G"}
    said = shown("config", **by_environment)
    assert said["--cache-size"] == ("2.0 GiB", f"environment: {CACHE_SIZE}")
    said = shown("config", "--cache-size", "3G", **by_environment)
    assert said["--cache-size"] == ("3.0 GiB", "flag")


def test_the_users_file_counts_more_and_a_chosen_one_alone(
    machine: Path, users: Path, tmp_path: Path
) -> None:
    machine.write_text(f"{CACHE_SIZE}=1G\nQARNOTFS_CLOSE=wait\n")
    users.write_text(f"# mine\n{CACHE_SIZE}='2G'\n")
    said = shown("config")
    assert said["--cache-size"] == ("2.0 GiB", f"file: {users}")
    assert said["--close"] == ("wait", f"file: {machine}")
    chosen = tmp_path / "data.conf"
    chosen.write_text(f"BUCKET=data\nDIR=/mnt/data\n{CACHE_SIZE}=4G\n")
    for said in (
        shown("--config", chosen, "config"),
        shown("config", QARNOTFS_CONFIG=str(chosen)),
    ):
        assert said["--cache-size"] == ("4.0 GiB", f"file: {chosen}")
        assert said["--close"] == ("later", "default")


def test_a_mount_is_asked_for_as_the_file_says(
    machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[MountRequest] = []
    monkeypatch.setattr(daemon, "start", asked.append)
    machine.write_text("QARNOTFS_PIN='a/ b/'\nQARNOTFS_READ_ONLY=1\nQARNOTFS_UMASK=077\n")
    assert invoke("mount", "data", tmp_path).exit_code == 0
    assert invoke("mount", "data", tmp_path, QARNOTFS_READ_ONLY="0").exit_code == 0
    said = [request.settings for request in asked]
    assert [one.pin for one in said] == [("a/", "b/")] * 2
    assert [one.umask for one in said] == [0o77] * 2
    assert [one.read_only for one in said] == [True, False]


@pytest.mark.mount
def test_the_mount_process_does_not_read_the_file_again(place: Mount, tmp_path: Path) -> None:
    """Else what the environment denied would come back."""
    chosen = tmp_path / "data.conf"
    chosen.write_text("QARNOTFS_READ_ONLY=1\n")
    place.start([], {"QARNOTFS_CONFIG": str(chosen), "QARNOTFS_READ_ONLY": "0"})
    (place.path / "file").write_bytes(b"")


def test_a_view_of_mounts_is_none_of_ls(machine: Path) -> None:
    machine.write_text("QARNOTFS_PREFIX=a/\n")
    settings = configfile.read(None, [one for kind in KINDS.values() for one in kind])
    said = {one.name: settings.defaults(one) for kind in KINDS.values() for one in kind}
    assert said["mount"] == {"prefix": "a/"}
    assert said["ls"] == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("QARNOTFS_CACHESIZE=1G", "Did you mean QARNOTFS_CACHE_SIZE?"),
        ("cache", "line 1: write NAME=VALUE"),
        ("QARNOTFS_PREFIX='a", "line 1: write NAME=VALUE"),
        (f"{CACHE_SIZE}=much", "'--cache-size'"),
    ],
)
def test_mistakes_are_named(cli: Cli, tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "x.conf").write_text(line)
    done = cli("--config", tmp_path / "x.conf", "config")
    assert done.code == 2
    assert complaint in done.err


def test_secrets_are_neither_shown_nor_read_where_others_can(machine: Path) -> None:
    machine.write_text("QARNOT_CLIENT_TOKEN=very-secret\n")
    machine.chmod(0o644)
    refused = invoke("config")
    assert refused.exception is not None
    assert "chmod 600" in str(refused.exception)
    machine.chmod(0o600)
    assert "very-secret" not in invoke("config").output
    assert os.environ["QARNOT_CLIENT_TOKEN"] == "very-secret"
    assert shown("config")["QARNOT_CLIENT_TOKEN"] == ("(secret)", f"file: {machine}")


def test_a_login_in_the_environment_hides_a_files(machine: Path) -> None:
    machine.write_text("QARNOT_CLIENT_TOKEN=theirs\nAWS_ENDPOINT_URL=https://s3.example.org\n")
    machine.chmod(0o600)
    said = shown("config", AWS_ACCESS_KEY_ID="mine")
    assert "QARNOT_CLIENT_TOKEN" not in said
    assert said["AWS_ENDPOINT_URL"] == ("https://s3.example.org", f"file: {machine}")


def test_systemd_hands_over_what_nobody_else_said(tmp_path: Path) -> None:
    (tmp_path / "qarnot-token").write_text("handed\n")
    (tmp_path / "aws-credentials").write_text("")
    place = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    found = with_credentials(place)
    assert found["QARNOT_CLIENT_TOKEN"] == "handed"
    assert found["AWS_SHARED_CREDENTIALS_FILE"] == str(tmp_path / "aws-credentials")
    assert with_credentials(place | {"AWS_PROFILE": "mine"}) == place | {"AWS_PROFILE": "mine"}


def test_the_page_is_what_the_code_says() -> None:
    assert page.PAGE.read_text() == page.text(), "run `make docs`"
