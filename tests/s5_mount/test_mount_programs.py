"""Programs people use, on real input: copied trees, git, sqlite3, sed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Seen, bucket_keys, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_NAME": "Test" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "test@example.org" for who in ("AUTHOR", "COMMITTER")},
}
LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "__pycache__", "config-*", "*.so"
)
COPY = {
    "rsync": ["rsync", "-a", "{source}/", "{target}/"],
    "cp": ["cp", "-r", "{source}/.", "{target}"],
    "tar": [
        "sh",
        "-c",
        'tar --format=posix -cf - -C "$1" . | tar xpf - -C "$2"',
        "sh",
        "{source}",
        "{target}",
    ],
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own standard library, and a few things it has none of."""
    target = tmp_path_factory.mktemp("source") / "library"
    shutil.copytree(sysconfig.get_path("stdlib"), target, symlinks=True, ignore=LEFT_OUT)
    (target / "large.bin").write_bytes(os.urandom(1 << 20) * 24)
    (target / "empty directory").mkdir()
    os.utime(target / "empty directory", (1_000_000_000, 1_000_000_000))  # rsync compares seconds
    (target / "name with ünïcode & blanks").write_bytes(b"")
    (target / "link").symlink_to("os.py")
    (target / "os.py").chmod(0o755)
    (target / "this.py").chmod(0o600)
    os.utime(target / "os.py", ns=(1_111_111_111_111_111_111, 999_999_999_999_999_999))
    return target


@pytest.fixture(scope="module")
def small_library(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without Python's tests, where there are any: a third of it."""
    target = tmp_path_factory.mktemp("source") / "small"
    leave_out = shutil.ignore_patterns("test", "tests", "idle_test")
    return shutil.copytree(library, target, symlinks=True, ignore=leave_out)


def listing(top: Path, *, with_mtime: bool) -> dict[str, tuple[int, ...]]:
    """Mode, size and mtime of everything below, by relative path."""
    found: dict[str, tuple[int, ...]] = {}
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            path = Path(folder, name)
            entry = path.lstat()
            size = -1 if path.is_dir() else entry.st_size
            mtime_ns = entry.st_mtime_ns if with_mtime and not path.is_symlink() else -1
            found[str(path.relative_to(top))] = (entry.st_mode, size, mtime_ns)
    return found


def assert_stored(s3: S3Client, bucket: str, top: Path, prefix: str) -> None:
    """Each file of ``top`` is an object that plain boto3 can read."""
    paths = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    keys = {f"{prefix}{path.relative_to(top)}": path for path in paths}
    assert keys.keys() <= set(bucket_keys(s3, bucket))

    def digest(key: str) -> bytes:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        return hashlib.sha256(body.read()).digest()

    with ThreadPoolExecutor(4) as pool:
        stored = dict(zip(keys, pool.map(digest, keys), strict=True))
    assert stored == {key: hashlib.sha256(path.read_bytes()).digest() for key, path in keys.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", ["rsync", "cp", "tar"])
def test_source_tree(
    tool: str,
    library: Path,
    small_library: Path,
    mounts: Mounts,
    s3: S3Client,
    bucket: str,
) -> None:
    source = library if tool == "rsync" else small_library
    first = mounts()
    (first.path / "tree").mkdir()
    places = {"source": source, "target": first.path / "tree"}
    run(*(word.format(**places) for word in COPY[tool]))
    first.unmount()
    assert_stored(s3, bucket, source, "tree/")
    again = mounts()
    copy = again.path / "tree"
    with_mtime = tool != "cp"
    assert listing(copy, with_mtime=with_mtime) == listing(source, with_mtime=with_mtime)
    assert run("diff", "-r", "--no-dereference", source, copy) == ""


def test_second_rsync_sends_nothing(
    small_library: Path, mounts: Mounts, gateway: Gateway, bucket: str
) -> None:
    def rsync(target: Path) -> str:
        return run("rsync", "-a", "--itemize-changes", f"{small_library}/", f"{target}/")

    first = mounts()
    assert rsync(first.path / "tree") != ""
    assert rsync(first.path / "tree") == ""
    first.unmount()
    again = mounts()
    mark = gateway.mark()
    assert rsync(again.path / "tree") == ""
    again.unmount()
    sent = [request for request in gateway.requests(mark) if request.method in {"PUT", "POST"}]
    assert [request for request in sent if request.path.startswith(f"/{bucket}/tree")] == []


def test_rsync_temporaries_stay_at_home(
    mounts: Mounts, gateway: Gateway, tmp_path: Path, bucket: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"file{number}").write_bytes(b"x" * number)
    mount = mounts()
    mark = gateway.mark()
    run("rsync", "-a", f"{source}/", f"{mount.path}/")
    mount.unmount()
    asked = [request.path for request in gateway.requests(mark) if request.method == "PUT"]
    assert f"/{bucket}/file7" in asked
    assert [path for path in asked if "/.file" in path] == []


def test_git(mounts: Mounts, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(Path(__file__).parents[2] / "qarnotfs", origin)
    run("git", "init", "-q", "-b", "main", ".", cwd=origin, environment=GIT)
    run("git", "add", ".", cwd=origin, environment=GIT)
    run("git", "commit", "-q", "-m", "first", cwd=origin, environment=GIT)
    first = mounts()
    clone = first.path / "clone"
    run("git", "clone", "-q", "--no-local", origin, clone, environment=GIT)
    assert run("git", "status", "--porcelain", cwd=clone, environment=GIT) == ""
    (clone / "new file").write_text("content\n")
    run("git", "add", ".", cwd=clone, environment=GIT)
    run("git", "commit", "-q", "-m", "second", cwd=clone, environment=GIT)
    run("git", "gc", "-q", cwd=clone, environment=GIT)
    run("git", "fsck", "--strict", cwd=clone, environment=GIT)
    head = run("git", "rev-parse", "HEAD", cwd=clone, environment=GIT)
    first.unmount()
    clone = mounts().path / "clone"
    run("git", "fsck", "--strict", cwd=clone, environment=GIT)
    assert run("git", "status", "--porcelain", cwd=clone, environment=GIT) == ""
    assert run("git", "rev-parse", "HEAD", cwd=clone, environment=GIT) == head
    run("git", "push", "-q", origin, "HEAD:refs/heads/pushed", cwd=clone, environment=GIT)


def test_sqlite3(mounts: Mounts) -> None:
    create = """
        create table measure (id integer primary key, value text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
        insert into measure select i, printf('%0100d', i) from n;
        update measure set value = 'changed' where id % 100 = 0;
        delete from measure where id % 7 = 0;
    """
    query = "select count(*), sum(id), sum(value = 'changed') from measure; pragma integrity_check"
    first = mounts()
    run("sqlite3", first.path / "data.db", create)
    answer = run("sqlite3", first.path / "data.db", query)
    assert answer == "1715|1715715|18\nok\n"
    assert os.listdir(first.path) == ["data.db"]  # and no journal
    first.unmount()
    assert run("sqlite3", mounts().path / "data.db", query) == answer


def test_sed_replaces_by_rename(here: Path, seen: Seen) -> None:
    path = here / "config"
    path.write_text("colour = red\nsize = 1\n")
    path.chmod(0o640)
    run("sed", "-i", "s/red/blue/", path)
    assert path.read_text() == "colour = blue\nsize = 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert seen.content(path) == b"colour = blue\nsize = 1\n"
    assert os.listdir(here) == ["config"]
    assert [key for key in seen.keys(here) if not key.endswith("/")] == [seen.key(path)]


def test_editor_keeps_a_backup(here: Path, seen: Seen) -> None:
    """What vim does with backupcopy=no: move the old file away, write anew, delete the old."""
    path, backup = here / "text", here / "text~"
    path.write_text("old")
    seen.mount.flush()
    path.rename(backup)
    with path.open("x") as file:
        file.write("new")
        file.flush()
        os.fsync(file.fileno())
    path.chmod(stat.S_IMODE(backup.stat().st_mode))
    backup.unlink()
    assert path.read_text() == "new"
    assert seen.content(path) == b"new"
    assert seen.key(backup) not in seen.keys(here)


def test_tar_of_the_mount(here: Path, seen: Seen, tmp_path: Path) -> None:
    """Reading a tree that others stored, in one go."""
    for number in range(40):
        seen.put(here / "data" / f"{number % 4}" / f"{number}.bin", b"%d" % number * 5000)
    run("tar", "cf", tmp_path / "archive", "-C", here, "data")
    run("tar", "xf", tmp_path / "archive", "-C", tmp_path)
    assert run("diff", "-r", here / "data", tmp_path / "data") == ""
    assert (tmp_path / "data" / "3" / "39.bin").read_bytes() == b"39" * 5000


def test_du_and_find(here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "file").write_bytes(b"x" * 123_456)
    assert run("du", "-sb", "--apparent-size", here / "a" / "file").split()[0] == "123456"
    assert int(run("du", "-sk", here / "a" / "file").split()[0]) >= 120
    assert run("find", here, "-type", "f", "-size", "+100k").strip() == f"{here}/a/file"
