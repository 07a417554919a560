"""``mount.qarnotfs``: what it makes of the words that mount(8) hands on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qarnotfs.cli import daemon
from qarnotfs.cli.mounthelper import main
from qarnotfs.cli.request import MountRequest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[MountRequest]:
    """What a mount process would have been started with."""
    requests: list[MountRequest] = []
    monkeypatch.setattr(daemon, "start", requests.append)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a file's settings end with the test
    return requests


def mount(*words: str | Path) -> int:
    """The exit code of ``mount.qarnotfs``."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_options_mean_what_they_mean_to_qarnotfs_mount(asked: list[MountRequest]) -> None:
    options = "rw,ro,allow_other,uid=7,umask=077,cache-ttl=30d,pin=a,pin=b,offline_reads"
    assert mount("data", "/mnt", "-o", options) == 0
    [request] = asked
    said = request.settings
    assert (request.bucket, request.mountpoint) == ("data", Path("/mnt"))
    assert (said.read_only, said.allow_other, said.uid, said.umask) == (True, True, 7, 0o77)
    assert (said.cache_ttl, said.pin, said.offline_reads) == (2592000, ("a", "b"), True)


def test_a_part_of_a_bucket(asked: list[MountRequest]) -> None:
    assert mount("data:a/b", "/mnt") == 0
    view = asked[0].spec().view
    assert (view.filter_prefix, view.strip_prefix) == ("a/b/", "a/b/")


def test_words_for_others_are_passed_over(asked: list[MountRequest]) -> None:
    options = "defaults,noauto,_netdev,nofail,x-systemd.automount,x-gvfs-show,nosuid,nodev,noatime"
    assert mount("data", "/mnt", "-n", "-v", "-t", "qarnotfs", "-o", options) == 0
    assert len(asked) == 1


def test_a_rehearsal_mounts_nothing(asked: list[MountRequest]) -> None:
    assert mount("data", "/mnt", "-f", "-o", "ro") == 0
    assert asked == []


@pytest.mark.parametrize("option", ["nonsense", "foreground", "ready_fd=3", "token=x"])
def test_what_is_not_known_is_refused(
    option: str, asked: list[MountRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mount("data", "/mnt", "-o", option) == 1
    assert f"'{option.partition('=')[0]}' is not known" in capsys.readouterr().err
    assert mount("data", "/mnt", "-s", "-o", option) == 0  # sloppy, as mount(8) calls it
    assert len(asked) == 1


def test_settings_from_a_file(asked: list[MountRequest], tmp_path: Path) -> None:
    """As systemd reads it for the service; options say it better."""
    path = tmp_path / "data.conf"
    path.write_text(
        "# a comment\n; another\n\nBUCKET=ignored\nQARNOTFS_UMASK=\n"
        "QARNOTFS_CACHE_TTL=12h\nQARNOTFS_UID=5\nQARNOTFS_REGION=\"a 'b'\"\n"
    )
    assert mount("data", "/mnt", "-o", f"uid=7,environment={path}") == 0
    said = asked[0].settings
    assert (said.cache_ttl, said.uid, said.region) == (43200, 7, "a 'b'")
    assert said.umask == 0o22
    assert asked[0].bucket == "data"


@pytest.mark.parametrize("line", ["nonsense", "A='", "A=b c"])
def test_a_line_that_makes_no_sense_is_named(
    line: str, asked: list[MountRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.conf"
    path.write_text(f"QARNOTFS_UID=1\n{line}\n")
    assert mount("data", "/mnt", "-o", f"environment={path}") == 1
    assert f"{path}, line 2: write NAME=VALUE" in capsys.readouterr().err
    assert asked == []
