"""The ``qarnotfs`` command on the real gateway, and mounts that are always taken away."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import make_client, remove_bucket
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def cli(gateway: Gateway, tmp_path: Path) -> Iterator[Cli]:
    runtime_dir = Path(tempfile.mkdtemp(prefix="qfs-"))
    yield Cli(tmp_path, runtime_dir, gateway.environment)
    shutil.rmtree(runtime_dir)


@pytest.fixture
def place(cli: Cli, bucket: str, tmp_path: Path) -> Iterator[Mount]:
    """Where the bucket is to be mounted; nothing is, at first."""
    mount = Mount(cli, bucket, tmp_path / "mnt", tmp_path / "cache")
    mount.path.mkdir()
    yield mount
    mount.remove()


@pytest.fixture
def mounted(place: Mount) -> Mount:
    """The bucket, mounted. What is written waits a little: no test depends on how long."""
    place.start(["--upload-delay", "0.1"], {})
    return place


@pytest.fixture
def buckets(gateway: Gateway) -> Iterator[S3Client]:
    """Those of docs/OPERATING.md: ``inputs`` and ``results``."""
    s3 = make_client(gateway)
    for name in ("inputs", "results"):
        s3.create_bucket(Bucket=name)
    s3.put_object(Bucket="inputs", Key="list", Body=b"2\n1\n")
    yield s3
    for name in ("inputs", "results"):
        remove_bucket(s3, name)
    s3.close()


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
