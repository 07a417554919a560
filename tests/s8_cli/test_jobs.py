"""A job reads 200 files, writes 200 and ends: bare, in a user namespace, in containers, each
with FUSE and without. What it wrote is in the bucket, and its exit code is the container's.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import make_client, remove_bucket
from tests.rgw import Gateway
from tests.s5_mount.mounting import PROGRAM, Cli
from tests.s8_cli.containers import (
    NOBODY,
    Container,
    why_no_container,
    why_no_user_namespace,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount

COUNT, HALF = 200, 100
# Stands still in the middle until something is said on stdin, or it is told to end.
JOB = f"""
n=0
for input in "$1"/*; do
    read -r line < "$input"
    echo "$line, done" > "$2/${{input##*/}}"
    n=$((n + 1))
    if [ $n = {HALF} ]; then echo half; read -r answer; fi
done
exit 3
"""
NAMES = [f"{number:03}" for number in range(COUNT)]
APART = ("user namespace", "container without capabilities")
USER_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


class Started(NamedTuple):
    """A job that is under way, and how one asks it to end."""

    process: subprocess.Popen[str]
    terminate: Callable[[], object]


Start = Callable[[list[str]], AbstractContextManager[Started]]


@pytest.fixture(scope="module")
def inputs(gateway: Gateway) -> Iterator[str]:
    s3 = make_client(gateway)
    s3.create_bucket(Bucket="job-inputs")
    for name in NAMES:
        s3.put_object(Bucket="job-inputs", Key=f"in/{name}", Body=f"line {name}\n".encode())
    yield "job-inputs"
    remove_bucket(s3, "job-inputs")
    s3.close()


@contextmanager
def _bare(cli: Cli, prefix: list[str], arguments: list[str]) -> Iterator[Started]:
    process = subprocess.Popen(
        [*prefix, PROGRAM, *arguments],
        env=cli.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Started(process, process.terminate)
        finally:
            process.kill()


@contextmanager
def _contained(
    folder: Path, cli: Cli, prefix: list[str], arguments: list[str], kind: str
) -> Iterator[Started]:
    environment = cli.environment | {"HOME": "/tmp"}
    del environment["QARNOTFS_RUNTIME_DIR"]  # there is a place for it in every container
    container = Container(
        folder,
        [*prefix, str(PROGRAM), *arguments],
        environment,
        fuse=kind != "container without fuse",
        capabilities=["CAP_SYS_ADMIN"] if kind == "container" else [],
        uid=0 if kind == "container" else NOBODY,
    )
    with container.running() as process:
        yield Started(process, lambda: container.kill("TERM"))


@pytest.fixture(
    params=[
        "bare",
        "bare without fuse",
        "user namespace",
        "container",
        "container without capabilities",
        "container without fuse",
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    """One of the places where jobs run; skipped where this machine has no such place."""
    found: str = request.param
    if "container" in found and (reason := why_no_container()):
        pytest.skip(reason)
    if found in APART and (reason := why_no_user_namespace()):
        pytest.skip(f"no user namespaces here: {reason}")
    return found


@pytest.fixture
def start(kind: str, cli: Cli, tmp_path: Path) -> Start:
    """Start ``qarnotfs run`` with these arguments."""
    prefix = USER_NAMESPACE if kind in APART else []
    way = ["--no-fuse"] if "without fuse" in kind else []

    def started(words: list[str]) -> AbstractContextManager[Started]:
        arguments = ["run", *way, *words]
        if "container" in kind:
            return _contained(tmp_path / "oci", cli, prefix, arguments, kind)
        return _bare(cli, prefix, arguments)

    return started


@pytest.fixture
def words(kind: str, inputs: str, bucket: str, tmp_path: Path) -> list[str]:
    """The arguments of the job; in a container everything is in its own /tmp."""
    here = Path("/tmp") if "container" in kind else tmp_path
    places = [f"{inputs}:in/:{here}/in:ro", f"{bucket}:{here}/out"]
    job = ["sh", "-c", JOB, "job", f"{here}/in", f"{here}/out"]
    return ["--cache-dir", f"{here}/cache", *places, "--", *job]


def results(s3: S3Client, bucket: str) -> dict[str, str]:
    """Key -> MD5 of every object, which is its etag."""
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {entry["Key"]: entry["ETag"].strip('"') for entry in found}


def expected(names: list[str]) -> dict[str, str]:
    return {name: md5(f"line {name}, done\n".encode()).hexdigest() for name in names}


def test_a_job_that_ends(start: Start, words: list[str], bucket: str, s3: S3Client) -> None:
    with start(words) as (process, _):
        out, err = process.communicate("go on\n")
    assert (process.returncode, out) == (3, "half\n"), err
    assert results(s3, bucket) == expected(NAMES)


def test_a_job_that_is_stopped_in_the_middle(
    start: Start, words: list[str], bucket: str, s3: S3Client
) -> None:
    """As by ``docker stop``: what it had closed is in the bucket."""
    with start(words) as (process, terminate):
        assert process.stdout
        assert process.stdout.readline() == "half\n"
        terminate()
        code = process.wait()
        assert process.stderr
        assert code == 128 + signal.SIGTERM, process.stderr.read()
    assert results(s3, bucket) == expected(NAMES[:HALF])
