"""How ``qarnotfs run`` ends: line by line of the table in docs/OPERATING.md, and beyond it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import remove_bucket
from tests.faults import FaultProxy
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount, bucket_keys
from tests.s8_cli.running import background
from tests.s8_cli.test_cli_mount import child_of, runs
from tests.s8_cli.test_operating import PAGE
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

TABLE = PAGE.partition("| exit code | |\n|---|---|\n")[2].partition("\n\n")[0]
ROWS = re.findall(r"^\| (.+?) \|", TABLE, re.MULTILINE)
WRITE = "echo x > DIR/file"
# The row's name, the command, and the exit code. BUCKET and DIR are those of the test.
ENDS: list[tuple[str, str, list[str], int]] = [
    ("CMD's own", "BUCKET:DIR", ["sh", "-c", "exit 7"], 7),
    ("CMD's own", "BUCKET:DIR", ["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
    ("CMD's own", "BUCKET:DIR", ["sh", "-c", f"{WRITE}; exit 7"], 7),
    ("127, 126", "BUCKET:DIR", ["no-such-command"], 127),
    ("127, 126", "BUCKET:DIR", ["/etc/passwd"], 126),
    ("125", "no-such-bucket:DIR", ["true"], 125),
    ("124", "BUCKET:DIR", ["sh", "-c", WRITE], 124),
    ("2", "BUCKET", ["true"], 2),
]


@pytest.fixture
def refusing(gateway: Gateway) -> Iterator[FaultProxy]:
    """The gateway, which takes no file named ``file``."""
    with FaultProxy(gateway) as proxy:
        proxy.fail(lambda method, target: method == "PUT" and target.endswith("/file"), 403)
        yield proxy


def test_no_line_of_the_table_is_forgotten() -> None:
    assert list(dict.fromkeys(row for row, *_ in ENDS)) == ROWS


@pytest.mark.parametrize(("row", "target", "command", "code"), ENDS)
def test_a_line_of_the_table(
    row: str,
    target: str,
    command: list[str],
    code: int,
    cli: Cli,
    place: Mount,
    refusing: FaultProxy,
) -> None:
    def here(word: str) -> str:
        return word.replace("BUCKET", place.bucket).replace("DIR", str(place.path))

    options = ["--cache-dir", str(place.cache_dir), "--endpoint", refusing.endpoint]
    done = cli("run", *options, here(target), "--", *map(here, command))
    assert done.code == code, done.err
    assert ("could not be uploaded" in done.err) == (WRITE in command[-1])
    assert not place.is_mounted()


def test_one_bucket_of_two_refuses(
    cli: Cli, place: Mount, refusing: FaultProxy, s3: S3Client, tmp_path: Path
) -> None:
    """The other has what belongs to it, and stderr says what is where."""
    other = f"{place.bucket}-2"
    s3.create_bucket(Bucket=other)
    try:
        options = ["--cache-dir", str(place.cache_dir), "--endpoint", refusing.endpoint]
        targets = [f"{place.bucket}:{place.path}", f"{other}:{tmp_path}/other"]
        script = f"echo x > {place.path}/file; echo x > {tmp_path}/other/taken"
        done = cli("run", *options, *targets, "--", "sh", "-c", script)
        assert done.code == 124
        assert f"1 file (2 B) could not be uploaded to '{place.bucket}'" in done.err
        assert "\n  file: These credentials have no permission" in done.err
        assert bucket_keys(s3, place.bucket) == []
        assert bucket_keys(s3, other) == ["taken"]
    finally:
        remove_bucket(s3, other)


def test_a_signal_before_the_command_runs(
    cli: Cli, place: Mount, silent_endpoint: str, tmp_path: Path
) -> None:
    """A container that is stopped while its bucket does not answer: nothing runs, nothing stays."""
    words = ["run", "--cache-dir", str(place.cache_dir), f"{place.bucket}:{place.path}"]
    with background(
        cli, *words, "--", "touch", tmp_path / "was-run", AWS_ENDPOINT_URL=silent_endpoint
    ) as process:
        mounting = child_of(process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert (process.returncode, said) == (128 + signal.SIGTERM, "")
    eventually(lambda: not runs(mounting))
    assert not (tmp_path / "was-run").exists()
    assert not place.is_mounted()
