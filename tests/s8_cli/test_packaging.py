"""What is built: the same bytes each time, and all that a person needs in a clean environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from docs import man
from qarnotfs import __version__
from qarnotfs.cli.entry import commands
from tests.s5_mount.mounting import Cli, bucket_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
NEEDED = ("qarnotfs", "docs", "README.md", "pyproject.toml", "hatch_build.py", ".gitignore")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(place: Path) -> Path:
    """A directory with an sdist and a wheel, built from a copy of the tree at ``place``."""
    place.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    command = [sys.executable, "-m", "build", "--no-isolation"]
    run(*command, cwd=place, SOURCE_DATE_EPOCH="1700000000")
    return place / "dist"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("first") / "tree")


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [found] = dist.glob("*.whl")
    return found


def test_the_same_tree_makes_the_same_bytes(
    dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, at another time, with other modes, and by someone with another home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "40")
    old = os.umask(0o077)
    try:
        again = built(tmp_path / "another tree")
    finally:
        os.umask(old)
    assert _sums(again) == _sums(dist)


def _sums(dist: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in dist.iterdir()}


def test_the_version_is_said_once(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()


def test_a_wheel_has_manual_pages_and_completion(wheel: Path) -> None:
    shared = [name.partition("/data/share/")[2] for name in ZipFile(wheel).namelist()]
    pages = {f"man/man1/qarnotfs-{name}.1" for name in commands.commands}
    assert pages <= set(shared)
    assert {"man/man1/qarnotfs.1", "bash-completion/completions/qarnotfs"} <= set(shared)
    assert {"zsh/site-functions/_qarnotfs", "fish/vendor_completions.d/qarnotfs.fish"} <= set(
        shared
    )


def test_manual_pages_say_what_help_says(tmp_path: Path) -> None:
    man.write(tmp_path)
    page = (tmp_path / "qarnotfs-mount.1").read_text()
    assert "\\fB\\-\\-cache\\-size\\fP SIZE" in page
    assert "\n\\&'full' asks for" in page  # at the beginning of a line, ' is a command of troff
    assert "qarnotfs mount data /mnt/data --prefix projects/" in page
    assert ".SH EXAMPLES" in page
    assert str(Path.home()) not in page.replace("~", "")


@pytest.mark.mount
@pytest.mark.timeout(300)  # pip fetches everything it needs
def test_a_wheel_in_a_clean_environment_mounts(
    wheel: Path, cli: Cli, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    venv, mnt = tmp_path / "venv", tmp_path / "mnt"
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    constraints = ROOT / "constraints.txt"
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--constraint", constraints, wheel, cwd=tmp_path)
    assert run(venv / "bin" / "python", "-c", "from qarnotfs import Bucket", cwd=tmp_path) == ""
    assert (venv / "share" / "man" / "man1" / "qarnotfs-mount.1").exists()

    program, environment = venv / "bin" / "qarnotfs", cli.environment
    assert run(program, "--version", cwd=tmp_path) == f"qarnotfs {__version__}\n"
    mnt.mkdir()
    cache = ["--cache-dir", str(tmp_path / "cache")]
    looked = run(program, "check", bucket, *cache, cwd=tmp_path, **environment)
    assert f"ok     The bucket '{bucket}' answers" in looked
    assert "WRONG" not in looked
    run(program, "mount", bucket, mnt, *cache, cwd=tmp_path, **environment)
    try:
        (mnt / "file").write_bytes(b"12345")
    finally:
        run(program, "umount", mnt, cwd=tmp_path, **environment)
    assert bucket_keys(s3, bucket) == ["file"]
