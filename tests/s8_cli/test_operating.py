"""What docs/OPERATING.md says is so: its commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s5_mount.mounting import PROGRAM, Cli, bucket_keys
from tests.s8_cli.containers import (
    NOBODY,
    Container,
    why_no_container,
    why_no_user_namespace,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/OPERATING.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ENTRY = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
# A process whose parent is gone, and which is gone itself, from the table of processes, too.
ORPHAN = "pid=$(sh -c 'true >&2 & echo $!'); until [ ! -e /proc/$pid ]; do :; done"
RESULTS = {
    "sorted": b"1\n2\n",
    "count": b"2\n",
    **dict.fromkeys(("copy", "again", "once-more"), b"2\n1\n"),
}

needs_container = pytest.mark.skipif(
    bool(why_no_container()), reason=f"no container: {why_no_container()}"
)


@pytest.mark.skipif(
    bool(why_no_user_namespace()), reason=f"no user namespace: {why_no_user_namespace()}"
)
def test_the_commands_of_the_page(cli: Cli, buckets: S3Client, tmp_path: Path) -> None:
    """One after the other, in one directory."""
    assert len(BLOCKS) == len(RESULTS)
    settings = {
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
        "QARNOTFS_CACHE_DIR": str(tmp_path / "cache"),
    }
    for block in BLOCKS:
        done = subprocess.run(
            ["bash", "-euc", block],
            cwd=tmp_path,
            env=cli.environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    found = {
        key: buckets.get_object(Bucket="results", Key=key)["Body"].read()
        for key in bucket_keys(buckets, "results")
    }
    assert found == RESULTS


@needs_container
def test_a_container_without_fuse_says_what_to_do(
    cli: Cli, buckets: S3Client, tmp_path: Path
) -> None:
    words = ["run", "--cache-dir", "/tmp/cache", "results:/tmp/out", "--", "true"]
    environment = cli.environment | {"HOME": "/tmp", "QARNOTFS_RUNTIME_DIR": "/tmp/run"}
    container = Container(tmp_path / "oci", [str(PROGRAM), *words], environment, fuse=False)
    with container.running() as process:
        _, err = process.communicate()
    assert (process.returncode, "Is /dev/fuse there" in err) == (125, True)
    assert "'qarnotfs run --no-fuse' needs none" in err


@needs_container
def test_the_entry_point_of_the_image(cli: Cli, buckets: S3Client, tmp_path: Path) -> None:
    """As anybody, it buries orphans as process 1 and takes all it needs from the environment."""
    program, *words = json.loads(ENTRY[0])
    script = f"id -u; echo $PPID > /tmp/out/parent; {ORPHAN}; exit 5"
    container = Container(
        tmp_path / "oci",
        [str(PROGRAM.with_name(program)), *words, "results:/tmp/out", "--", "sh", "-c", script],
        cli.environment | {"QARNOTFS_NO_FUSE": "1", "HOME": "/nowhere"},
        fuse=False,
        uid=NOBODY,
    )
    with container.running() as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (5, f"{NOBODY}\n"), err
    assert buckets.get_object(Bucket="results", Key="parent")["Body"].read() == b"1\n"
