"""Mounts are taken away by fusermount3, and by root without it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qarnotfs import control
from qarnotfs.control.unmounting import unmount
from qarnotfs.errors import QarnotfsError, UsageError

NO_PROGRAMS = "/nonexistent"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Something is mounted there, and there is no fusermount3."""
    if os.geteuid():
        pytest.skip("only root mounts without fusermount3")
    path = tmp_path.resolve() / "mnt"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "test", path], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    with monkeypatch.context() as patched:
        patched.setenv("PATH", NO_PROGRAMS)
        yield path
    if control.mount_entry(path):
        subprocess.run(["umount", "-l", path], check=True)


def test_root_needs_no_fusermount3(mounted: Path) -> None:
    assert unmount(mounted, lazily=False) == ""
    assert control.mount_entry(mounted) is None
    assert unmount(mounted, lazily=False) == os.strerror(errno.EINVAL)


def test_root_is_told_that_it_is_in_use(mounted: Path) -> None:
    with (mounted / "file").open("w"):
        assert unmount(mounted, lazily=False) == os.strerror(errno.EBUSY)
        assert control.mount_entry(mounted)
        assert unmount(mounted, lazily=True) == ""
        assert control.mount_entry(mounted) is None


def test_others_are_told_that_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", NO_PROGRAMS)
    with pytest.raises(UsageError, match="fusermount3 is not installed"):
        unmount(tmp_path, lazily=True)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_others_are_told_why_it_cannot_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", refused)
    assert unmount(tmp_path, lazily=True) == f"fusermount3 cannot be run: {os.strerror(code)}"


def test_what_is_no_mount_is_said_to_be_none(tmp_path: Path) -> None:
    assert str(tmp_path) not in unmount(tmp_path, lazily=False)


def test_a_mount_table_that_cannot_be_read_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.control.mounttable.MOUNTINFO", tmp_path / "none")
    with pytest.raises(QarnotfsError, match="cannot be read"):
        control.mount_entry(tmp_path)
