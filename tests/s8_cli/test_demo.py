"""``make demo``, and what README.md shows of it, in a checkout of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recordings import README, alike
from tests.s5_mount.mounting import Done
from tests.s8_cli.containers import ROOT

pytestmark = pytest.mark.mount

SHOWN = README.read_text().partition("```\n")[2].partition("```")[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """What the demo is made of. `make setup` is what this environment came from."""
    ignored = shutil.ignore_patterns("__pycache__", "s[0-9]_*")
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignored)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    yield tmp_path
    demo(tmp_path, "stop")


def demo(checkout: Path, word: str) -> Done:
    done = subprocess.run(
        [checkout / "tests/demo.sh", word],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_demo_is_as_the_readme_shows(checkout: Path) -> None:
    said = iter(alike(demo(checkout, "start").ok().out, checkout))
    for line in alike(SHOWN, Path("/root/qarnotfs")):
        assert line in said  # behind the line before it
    assert (checkout / ".demo/mnt/reports/how.txt").read_text() == (
        checkout / "Makefile"
    ).read_text()
    assert "x-amz-meta" in "\n".join(said)
    assert demo(checkout, "stop").ok().out.endswith("demo: stopped, nothing is left\n")
    assert not (checkout / ".demo").exists()
