"""The ``qarnotfs`` command on the real gateway, and mounts that are always taken away."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount


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
def silent_endpoint() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
