"""``qarnotfs sync``, progress, and what Ctrl-C leaves, on the real gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import Fault, FaultProxy, Rule, reads_object
from tests.rgw import Gateway, Request
from tests.s5_mount.mounting import PROGRAM, Cli
from tests.s8_cli.objects import content, fill
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Words = list[str | Path]
pytestmark = pytest.mark.gateway
BIG = bytes(20 << 20)
WRITING = {"PUT", "POST", "DELETE"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two files and a link; what is relative is beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here/d").mkdir(parents=True)
    (tmp_path / "here/x").write_bytes(b"1")
    (tmp_path / "here/d/y").write_bytes(b"2")
    return tmp_path / "here"


def files(root: Path) -> dict[str, bytes]:
    """Every file below a directory, and its bytes."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def document(cli: Cli, *words: str | Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(cli("sync", "--json", *words).ok().out)
    return {name: value for name, value in said.items() if value}


def writes(gateway: Gateway, mark: int) -> list[str]:
    return [r.method for r in gateway.requests(mark) if r.method in WRITING]


def test_up(cli: Cli, s3: S3Client, bucket: str, here: Path, gateway: Gateway) -> None:
    fill(s3, bucket, {"p/old": b"", "px": b""})
    done = cli("sync", here, f"{bucket}:p").ok()
    assert done.out == "2 files uploaded (2 B).\n"
    assert content(s3, bucket) == {"p/x": b"1", "p/d/y": b"2", "p/old": b"", "px": b""}
    mark = gateway.mark()
    assert cli("sync", here, f"{bucket}:p/").ok().out == "2 files unchanged.\n"
    assert writes(gateway, mark) == []


def test_deleting_is_asked_for_and_stays_below_the_prefix(
    cli: Cli, s3: S3Client, bucket: str, here: Path
) -> None:
    fill(s3, bucket, {"p/old": b"", "px": b"", "x": b""})
    said = document(cli, "--delete", here, f"{bucket}:p")
    assert (said["deleted"], said["uploaded"]) == (["p/old"], ["p/d/y", "p/x"])
    assert content(s3, bucket) == {"p/x": b"1", "p/d/y": b"2", "px": b"", "x": b""}


def test_what_was_renamed_is_copied_on_the_server(
    cli: Cli, s3: S3Client, bucket: str, here: Path
) -> None:
    cli("sync", here, f"{bucket}:").ok()
    (here / "x").rename(here / "z")
    said = document(cli, "--delete", here, f"{bucket}:")
    assert said == {"copied": ["z"], "deleted": ["x"], "unchanged": ["d/y"]}
    assert content(s3, bucket) == {"z": b"1", "d/y": b"2"}


def test_down(cli: Cli, s3: S3Client, bucket: str, here: Path, gateway: Gateway) -> None:
    fill(s3, bucket, {"p/x": b"1", "p/d/y": b"changed", "p/big": BIG, "px": b""})
    (here / "mine").write_bytes(b"")
    assert cli("sync", f"{bucket}:p", here).ok().out == (
        "2 files downloaded, 1 file unchanged (20.0 MiB).\n"
    )
    assert files(here) == {"x": b"1", "d/y": b"changed", "big": BIG, "mine": b""}
    mark = gateway.mark()
    said = document(cli, "--delete", f"{bucket}:p", here)
    assert said == {"deleted": ["mine"], "unchanged": ["big", "d/y", "x"]}
    assert [request.method for request in gateway.requests(mark)] == ["GET"]
    assert files(here) == {"x": b"1", "d/y": b"changed", "big": BIG}


def test_a_rehearsal_says_it_all_and_changes_nothing(
    cli: Cli, s3: S3Client, bucket: str, here: Path, gateway: Gateway
) -> None:
    stored = {"old": b"", "same": b"1", "x": b"2"}
    fill(s3, bucket, stored)
    mark = gateway.mark()
    up = cli("sync", "--delete", "--dry-run", here, f"{bucket}:").ok()
    assert up.out.splitlines()[-1].endswith("It was a dry run: nothing is changed.")
    assert {"deleted: old", "copied: x", "copied: d/y", "deleted: same"} == set(
        up.out.splitlines()[:-1]
    )
    before = files(here)
    down = cli("sync", "--delete", "-n", f"{bucket}:", here).ok()
    assert set(down.out.splitlines()[:-1]) == {
        *("downloaded: old", "downloaded: same", "downloaded: x"),
        "deleted: d/y",
    }
    assert document(cli, "-n", here, f"{bucket}:")["dry_run"] is True
    assert cli("sync", "-n", f"{bucket}:", "new").ok().code == 0
    assert (files(here), content(s3, bucket)) == (before, stored)
    assert not Path("new").exists()
    assert writes(gateway, mark) == []


def test_links_are_not_followed(cli: Cli, s3: S3Client, bucket: str, here: Path) -> None:
    (here / "link").symlink_to("x")
    done = cli("sync", here, f"{bucket}:").ok()
    assert done.err == "qarnotfs: link is skipped: it is a symbolic link\n"
    assert cli("sync", "-q", here, f"{bucket}:").ok().err == ""
    assert sorted(content(s3, bucket)) == ["d/y", "x"]


def test_what_has_no_place_here_is_an_error(
    cli: Cli, s3: S3Client, bucket: str, here: Path
) -> None:
    fill(s3, bucket, {"a//b": b"", "ok": b""})
    done = cli("sync", "-q", f"{bucket}:", here)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("qarnotfs: a//b is skipped: ")
    assert (here / "ok").exists()


def test_a_directory_of_the_bucket_is_exactly_that(
    cli: Cli, s3: S3Client, bucket: str, here: Path
) -> None:
    cli("sync", here, f"{bucket}:/a//b").ok()
    assert sorted(content(s3, bucket)) == ["/a//b/d/y", "/a//b/x"]


@pytest.mark.parametrize("words", [("here", "b"), ("b:", "c:"), ("./a", "./b"), ("x",)])
def test_one_side_is_a_bucket(cli: Cli, here: Path, words: tuple[str, ...]) -> None:
    done = cli("sync", *words)
    assert done.code == 2
    assert "Usage: qarnotfs sync" in done.err


@pytest.mark.parametrize("options", [(), ("--delete",), ("--delete", "--dry-run")])
def test_a_directory_that_is_not_there_is_an_error(
    cli: Cli, s3: S3Client, bucket: str, here: Path, options: tuple[str, ...]
) -> None:
    fill(s3, bucket, {"results/x": b"1"})
    before = files(here)
    done = cli("sync", *options, f"{bucket}:reslts", here)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"qarnotfs: There is no directory 'reslts/' in '{bucket}'.\n"
    assert files(here) == before


def test_what_cannot_begin(cli: Cli, bucket: str, here: Path) -> None:
    done = cli("sync", "missing", f"{bucket}:")
    assert (done.code, done.err) == (1, "qarnotfs: missing: No such file or directory.\n")
    done = cli("sync", here / "x", f"{bucket}:")
    assert (done.code, done.err) == (1, f"qarnotfs: {here}/x: Not a directory.\n")
    ways: list[Words] = [[here, "no-such-bucket:"], ["no-such-bucket:", here]]
    for words in ways:
        done = cli("sync", *words)
        assert (done.code, "qarnotfs mb no-such-bucket" in done.err) == (1, True)


def test_a_file_that_cannot_be_read_leaves_the_rest_done(
    cli: Cli, s3: S3Client, bucket: str, here: Path
) -> None:
    """A file that changes its size between the look and the read is such a one, too."""
    fill(s3, bucket, {"p/d/y/z": b"", "p/x": b"3"})
    done = cli("sync", f"{bucket}:p", here)
    assert done.code == 1
    assert "qarnotfs: d/y" in done.err
    assert (here / "x").read_bytes() == b"3"


# --- progress and interruption -------------------------------------------------------------


def test_a_bar_for_eyes_only(cli: Cli, bucket: str, here: Path) -> None:
    (here / "big").write_bytes(BIG)
    drawn, code = _on_terminal(cli, "sync", here, f"{bucket}:p")
    assert (code, b"20.0" in drawn, b"MiB" in drawn) == (0, True, True)
    assert _on_terminal(cli, "sync", "--quiet", here, f"{bucket}:q") == (b"", 0)
    assert cli("sync", here, f"{bucket}:r").ok().err == ""


def _on_terminal(cli: Cli, *words: str | Path) -> tuple[bytes, int]:
    """What a command writes to stderr when that is a terminal, and its exit code."""
    main, terminal = os.openpty()
    environment = cli.environment | {"TERM": "xterm", "COLUMNS": "120"}
    run = [PROGRAM, *words]
    with subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, stderr=terminal) as done:
        os.close(terminal)
        drawn = b""
        try:
            while data := os.read(main, 4096):
                drawn += data
        except OSError:  # the other side is closed
            pass
        done.communicate()
    os.close(main)
    return drawn, done.returncode


def interrupted(
    cli: Cli,
    gateway: Gateway,
    begun: Callable[[], object],
    *words: str | Path,
    endpoint: str = "",
) -> None:
    """Ctrl-C at a command that has begun, when the gateway says nothing more."""
    pipe = subprocess.PIPE
    environment = cli.environment | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})
    with subprocess.Popen(
        [PROGRAM, *words], env=environment, stdout=pipe, stderr=pipe, text=True
    ) as done:
        eventually(begun)
        gateway.pause()
        done.send_signal(signal.SIGINT)
        try:
            out, err = done.communicate(timeout=15)
        finally:
            done.kill()
            gateway.resume()
    assert err.strip() == "qarnotfs: interrupted"
    assert (done.returncode, out) == (130, "")


def test_an_interrupted_upload_leaves_no_half_file(
    cli: Cli, s3: S3Client, bucket: str, here: Path, gateway: Gateway
) -> None:
    with (here / "huge").open("wb") as huge:
        huge.truncate(1 << 30)
    ways: list[Words] = [["put", here / "huge"], ["sync", here], ["put", here / "huge", here / "x"]]
    mark = gateway.mark()
    for number, words in enumerate(ways):
        key = f"{number}/huge"

        def begun(part: str = f"/{bucket}/{key}?partNumber=") -> list[Request]:
            return [request for request in gateway.requests(mark) if part in request.path]

        interrupted(cli, gateway, begun, *words, f"{bucket}:{number}/")
        assert key not in content(s3, bucket)


def test_an_interrupted_download_leaves_no_half_file(
    cli: Cli, s3: S3Client, bucket: str, here: Path, gateway: Gateway
) -> None:
    fill(s3, bucket, {f"p/{n}": bytes(60 << 20) for n in range(3)})
    before = files(here)

    def begun() -> list[Path]:
        return list(here.rglob(".*.part"))

    for words in (["get", f"{bucket}:p/1"], ["get", "-r", bucket], ["sync", f"{bucket}:"]):
        with FaultProxy(gateway) as proxy:
            proxy.inject(Rule(Fault.SLOW, reads_object))  # it cannot end before it is interrupted
            interrupted(cli, gateway, begun, *words, here, endpoint=proxy.endpoint)
        assert begun() == []
        left = files(here)
        assert {len(left[name]) for name in left.keys() - before.keys()} <= {60 << 20}
