"""What can be said on the command line, and that the mount process hears the same."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from qarnotfs.cli import daemon, mountpoint
from qarnotfs.cli.entry import KINDS, commands
from qarnotfs.cli.mount import mount
from qarnotfs.cli.options import Settings, bytes_default, default_cache_dir, twins
from qarnotfs.cli.request import MountRequest
from qarnotfs.cli.run import run
from qarnotfs.cli.sections import twin
from qarnotfs.cli.withfuse import Mounts
from qarnotfs.errors import UsageError


def invoke(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(commands, [str(a) for a in arguments], env=environment)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option comes from outside."""
    for name in twins():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[MountRequest]:
    """What a mount process would have been started with."""
    requests: list[MountRequest] = []
    monkeypatch.setattr(daemon, "start", requests.append)
    return requests


def settings_of(*arguments: str) -> Settings:
    context = mount.make_context("mount", [*arguments, "data", "/mnt"])
    names = [field.name for field in dataclasses.fields(Settings)]
    return Settings(**{name: context.params[name] for name in names})


# --- what it means ------------------------------------------------------------------------


def test_defaults(asked: list[MountRequest], tmp_path: Path) -> None:
    assert invoke("mount", "data", tmp_path).exit_code == 0
    [request] = asked
    said = request.settings
    assert (request.bucket, request.mountpoint) == ("data", tmp_path)
    assert (said.uid, said.gid, said.umask) == (os.getuid(), os.getgid(), 0o22)
    assert (said.close, said.upload_delay, said.io_timeout) == ("later", 0.1, 60.0)
    assert said.fsync_timeout == 300.0
    assert (said.attrs, said.on_conflict, said.cache_ttl) == ("full", "keep-both", None)
    assert said.cache_dir == default_cache_dir()
    assert (said.read_only, said.allow_other, said.no_verify_tls) == (False, False, False)


def test_every_option_has_a_twin_in_the_environment_that_help_shows() -> None:
    for command in (mount, run):
        help_text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                flag = max(option.opts, key=len)
                assert flag in help_text
                assert f"env var: {twin(flag)}" in help_text


@pytest.mark.parametrize("name", [None, *commands.commands])
def test_every_help_has_examples(name: str | None) -> None:
    """And they begin as one types them."""
    said = invoke(*filter(None, [name, "--help"])).output
    examples = said.partition("Example")[2].splitlines()[1:]
    assert examples[0].split()[0] in {"qarnotfs", "eval"}


def test_commands_on_stored_keys_have_no_twins_of_a_view() -> None:
    """One exported for mounts would change what a name stands for in some commands only."""
    views = {"spec", "prefix", "strip_prefix"}
    for command in KINDS["Buckets, without mounting them"]:
        found = [option for option in command.params if option.name in views]
        assert len(found) == (3 if command.name in {"ls", "get", "cat"} else 0)
        assert [option.envvar for option in found] == [None] * len(found)


def test_a_twin_says_what_the_option_says(asked: list[MountRequest], tmp_path: Path) -> None:
    invoke("mount", "data", tmp_path, "--cache-size", "3G", "--read-only", "--umask", "077")
    invoke(
        "mount",
        "data",
        tmp_path,
        QARNOTFS_CACHE_SIZE="3G",
        QARNOTFS_READ_ONLY="1",
        QARNOTFS_UMASK="077",
    )
    assert asked[0] == asked[1]
    assert asked[0].settings.cache_size == 3 << 30


def test_no_option_could_carry_a_secret() -> None:
    names = " ".join(option.name or "" for option in mount.params)
    assert not any(word in names for word in ("token", "secret", "password", "key"))


SAID: list[list[str]] = [
    [],
    ["--prefix=", "--strip-prefix=a b/--c"],
    ["--cache-ttl=30d", "--cache-size=1.5G", "--dirty-size=7M", "--upload-delay=250ms"],
    ["--fsync-timeout=90s"],
    ["--offline-reads", "--pin=a b/", "--pin=c"],
    [
        "--umask=0077",
        "--file-mode=0640",
        "--dir-mode=2750",
        "--uid=0",
        "--gid=5",
        "--read-only",
        "--allow-other",
        "--no-verify-tls",
    ],
    ["--close=wait", "--attrs=listing", "--on-conflict=overwrite", "--io-timeout=2m"],
    ["--endpoint=https://x", "--profile=p", "--region=r", "--log-level=debug", "--log-file=l"],
]


@pytest.mark.parametrize("said", SAID)
def test_settings_said_again_are_the_same(said: list[str]) -> None:
    """This is how they reach the mount process."""
    settings = settings_of(*said)
    assert settings_of(*settings.argv()) == settings


def test_what_is_said_again_needs_no_working_directory(
    asked: list[MountRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnt").mkdir()
    invoke("mount", "data", "mnt", "--cache-dir", "cache")
    assert asked[0].argv()[-1] == str(tmp_path / "mnt")
    assert f"--cache-dir={tmp_path / 'cache'}" in asked[0].argv()


def test_a_bucket_that_looks_like_an_option_stays_a_bucket(asked: list[MountRequest]) -> None:
    invoke("mount", "--", "--read-only", "/mnt")
    argv = asked[0].argv()
    assert argv[argv.index("--") :] == ["--", "--read-only", "/mnt"]


def test_a_user_without_roots_consent_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "FUSE_CONF", tmp_path / "fuse.conf")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    cache = tmp_path / "cache"
    settings = settings_of("--allow-other", f"--cache-dir={cache}")
    with pytest.raises(UsageError, match="user_allow_other"):
        MountRequest("data", tmp_path, settings).prepare()
    assert not cache.exists()


def test_a_user_who_could_not_unmount_mounts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a root file system straight from debootstrap."""
    monkeypatch.setattr(mountpoint, "MTAB", tmp_path / "mtab")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UsageError, match="ln -s /proc/self/mounts"):
        MountRequest("data", tmp_path, settings_of(f"--cache-dir={tmp_path}")).prepare()


# --- the bucket and its view --------------------------------------------------------------

SPEC: dict[str, Any] = {
    "bucketName": "data",
    "filtering": {"prefixFiltering": {"prefix": "a/b/"}},
    "resourcesTransformation": {"stripPrefix": {"prefix": "a/"}},
    "cacheTTLSec": 2592000,
}


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "bucket.json"
    path.write_text(json.dumps(SPEC))
    return path


def test_a_spec_names_bucket_view_and_time(asked: list[MountRequest], spec_file: Path) -> None:
    assert invoke("mount", "--spec", spec_file, "/mnt").exit_code == 0
    assert asked[0].spec().to_json() == SPEC


def test_options_win_over_the_spec(asked: list[MountRequest], spec_file: Path) -> None:
    invoke("mount", "--spec", spec_file, "/mnt", "--prefix", "", "--cache-ttl", "0")
    spec = asked[0].spec()
    assert (spec.view.filter_prefix, spec.view.strip_prefix) == ("", "a/")
    assert spec.cache_ttl_sec == 0


def test_a_spec_of_another_bucket_is_refused(asked: list[MountRequest], spec_file: Path) -> None:
    invoke("mount", "other", "/mnt", "--spec", spec_file)
    with pytest.raises(UsageError, match="describes 'data', not 'other'"):
        asked[0].spec()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bucketName": 1}', "\x00", "{}"])
def test_a_spec_that_cannot_be_read_is_named(spec_file: Path, text: str) -> None:
    spec_file.write_text(text)
    request = MountRequest(None, Path("/mnt"), settings_of(f"--spec={spec_file}"))
    with pytest.raises(UsageError, match=str(spec_file)):
        request.spec()


# --- what is not understood ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["mount", "data"], "Give a BUCKET and a DIR"),
        (["mount", "a", "b", "c"], "Give a BUCKET and a DIR"),
        (["mount", "data", "/mnt", "--cache-size", "12q"], "'12q' is not a size"),
        (["mount", "data", "/mnt", "--cache-ttl", "soon"], "'soon' is not a time"),
        (["mount", "data", "/mnt", "--umask", "9"], "'9' is not an octal mode"),
        (["mount", "data", "/mnt", "--close", "never"], "'never' is not one of"),
        (["mount", "data", "/mnt", "--spec", "/nowhere"], "does not exist"),
        (["mount", "data", "/mnt", "--token", "x"], "No such option"),
        (["run", "data:/mnt"], "Write '--' between"),
        (["run", "data:/mnt", "--"], "then '--' and a command"),
        (["run", "--read-only", "--", "true"], "Write '--' between"),
        (["run", "data", "--", "true"], "'data' is not a BUCKET:DIR"),
        (["run", "--prefix", "b/", "data:a/:/mnt", "--", "true"], "'data' has a view of its own"),
        (["run", ":/mnt", "--", "true"], "':/mnt' is not a BUCKET:DIR"),
        (["umount"], "Missing argument 'DIR'"),
        (["umount", "/mnt", "--timeout", "x"], "'x' is not a time"),
        (["unmount", "/mnt"], "No such command 'unmount'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str], complaint: str, asked: list[MountRequest]
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert complaint in result.output
    assert not asked


# --- run ----------------------------------------------------------------------------------


def test_options_of_the_command_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []

    def execute(command: tuple[str, ...], environ: object) -> int:
        seen.append(command)
        return 0

    monkeypatch.setattr(Mounts, "begin", lambda self: None)
    monkeypatch.setattr("qarnotfs.cli.run.execute", execute)
    words = ["--read-only", "a:/x", "b:/y:z", "--", "c", "--help", "--", "-x"]
    assert invoke("run", *words).exit_code == 0
    assert seen == [("c", "--help", "--", "-x")]


# --- the default sizes --------------------------------------------------------------------


def test_a_default_size_leaves_half_of_the_disk_free(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    assert bytes_default(1 << 20, tmp_path) == 1 << 20
    assert bytes_default(1 << 60, tmp_path) == pytest.approx(free / 2, rel=0.2)


def test_what_the_cache_uses_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every mount would get half of what the one before had."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "block").write_bytes(b"x" * (1 << 20))

    class Full:
        f_bavail, f_frsize = 0, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    assert bytes_default(1 << 60, tmp_path) >= 1 << 19
