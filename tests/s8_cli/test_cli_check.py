"""``qarnotfs check``, on mounts that live, died, or were damaged."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.s5_mount.mounting import Cli, Mount
from tests.support import eventually

HOLD = ["--upload-delay", "3600"]  # nothing is uploaded unless somebody asks for it


def checked(cli: Cli, mount: Mount, code: int) -> dict[str, Any]:
    """What is said of the mount's cache directory; ``code``: 0 nothing found, 1 something."""
    done = cli("check", "--cache-dir", mount.cache_dir, "--json")
    assert done.code == code, done.out + done.err
    said: dict[str, Any] = json.loads(done.out)
    return said


def test_nothing_was_ever_mounted(cli: Cli, tmp_path: Path) -> None:
    assert "no findings" in cli("check", "--cache-dir", tmp_path / "none").ok().out


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
    text = cli("check", bucket, "--cache-dir", place.cache_dir)
    assert text.code == 1
    assert "1 journals checked, 0 in use; 1 findings." in text.out
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
    done = cli("check", "nobody", "--cache-dir", tmp_path)
    assert done.code == 1
    assert "There is no bucket 'nobody'" in done.err
