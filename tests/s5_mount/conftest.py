"""Fixtures for tests on a real mount of the real gateway, always cleaned up."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.conftest import make_client, remove_bucket
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount, Seen
from tests.s5_mount.pairs import Pair
from tests.s5_mount.peering import Clients, Peer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WATCHDOG_SEC = 15  # before pytest's own time limit, which cannot interrupt a hanging system call

alive: list[Mount | Peer] = []  # every mount that was made and not yet removed


class Mounts(Protocol):
    """Mount a bucket: the test's own, a new directory and a new cache unless told otherwise."""

    def __call__(
        self,
        *options: str | Path,
        bucket: str = "",
        path: Path | None = None,
        cache_dir: Path | None = None,
        endpoint: str = "",
    ) -> Mount: ...


@pytest.fixture(scope="session")
def cli(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    # A socket's path has room for 107 bytes, which pytest's directories may exceed.
    runtime_dir = Path(tempfile.mkdtemp(prefix="qfs-"))
    yield Cli(tmp_path_factory.mktemp("home"), runtime_dir, gateway.environment)
    shutil.rmtree(runtime_dir)


@pytest.fixture
def mounts(cli: Cli, bucket: str, tmp_path: Path) -> Iterator[Mounts]:
    made: list[Mount] = []

    def mount(
        *options: str | Path,
        bucket: str = bucket,
        path: Path | None = None,
        cache_dir: Path | None = None,
        endpoint: str = "",
    ) -> Mount:
        number = len(made)
        one = Mount(
            cli,
            bucket,
            path or tmp_path / f"mnt{number}",
            cache_dir or tmp_path / f"cache{number}",
        )
        made.append(one)
        alive.append(one)
        # Who waits only briefly for a server, of which mounting asks several things, may be told
        # that it is too slow.
        start = one.start_patiently if "--io-timeout" in options else one.start
        start(options, {"AWS_ENDPOINT_URL": endpoint} if endpoint else {})
        return one

    try:
        yield mount
    finally:
        for one in reversed(made):
            alive.remove(one)
            one.remove()


@contextmanager
def _of_a_module(gateway: Gateway, cli: Cli, place: Path, *options: str) -> Iterator[Mount]:
    """A mount of a bucket of its own, for all tests of a file."""
    s3 = make_client(gateway)
    mount = Mount(cli, f"shared-{uuid.uuid4().hex[:12]}", place / "mnt", place / "cache")
    s3.create_bucket(Bucket=mount.bucket)
    alive.append(mount)
    try:
        mount.start(["--upload-delay", "0.1", *options], {})
        yield mount
    finally:
        alive.remove(mount)
        mount.remove()
        remove_bucket(s3, mount.bucket)
        s3.close()


@pytest.fixture(scope="module", params=["asking", "believing"])
def shared(
    request: pytest.FixtureRequest,
    gateway: Gateway,
    cli: Cli,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mount]:
    """One mount for the tests of a file, each of which works in a directory of its own.

    Every such test runs twice: on a mount that always asks the bucket, with what others put
    there, and on one that believes what it knows, which is then what the mount itself wrote.
    """
    ttl = "0" if request.param == "asking" else "3600"
    place = tmp_path_factory.mktemp("shared")
    with _of_a_module(gateway, cli, place, "--cache-ttl", ttl) as mount:
        yield mount


@pytest.fixture(scope="module")
def for_everyone(gateway: Gateway, cli: Cli) -> Iterator[Mount]:
    """One mount for the tests of a file that let every user of the machine in."""
    if os.geteuid():
        pytest.skip("only root can act as other users")
    place = Path(tempfile.mkdtemp(prefix="qfs-open-"))  # others may not enter pytest's own
    place.chmod(0o755)
    options = ("--allow-other", "--umask", "0", "--cache-ttl", "3600")
    try:
        with _of_a_module(gateway, cli, place, *options) as mount:
            yield mount
    finally:
        shutil.rmtree(place)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory of a local disk that every user may enter; there is no umask meanwhile."""
    before = os.umask(0)
    with tempfile.TemporaryDirectory(prefix="qfs-disk-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
    os.umask(before)


@pytest.fixture(scope="module")
def pair(gateway: Gateway, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two mounts of one bucket for the tests of a file, each of which has names of its own."""
    place = tmp_path_factory.mktemp("pair")
    with _of_a_module(gateway, cli, place) as mount:
        other = Mount(cli, mount.bucket, place / "other", place / "other cache")
        alive.append(other)
        try:
            other.start(["--cache-ttl", "1s"], {})
            yield Pair(mount, other)
        finally:
            alive.remove(other)
            other.remove()


@pytest.fixture(scope="module")
def clients(
    gateway: Gateway, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clients]:
    """Ours, s3fs and rclone on one bucket, for the tests of a file."""
    place, s3 = tmp_path_factory.mktemp("clients"), make_client(gateway)
    with (
        _of_a_module(gateway, cli, place, "--cache-ttl", "0") as ours,
        Clients(gateway, ours, s3, place) as clients,
    ):
        alive.extend(clients.peers)
        yield clients
        for peer in clients.peers:
            alive.remove(peer)
    s3.close()


@pytest.fixture
def here(shared: Mount, request: pytest.FixtureRequest) -> Path:
    """A new directory of the shared mount."""
    path = shared.path / str(request.node.name)
    path.mkdir()
    return path


@pytest.fixture
def seen(shared: Mount, s3: S3Client, request: pytest.FixtureRequest) -> Seen:
    return Seen(shared, s3, by_others=request.node.callspec.params["shared"] == "asking")


@pytest.fixture(autouse=True)
def watchdog(request: pytest.FixtureRequest) -> Iterator[None]:
    """End every daemon when the test takes too long: what waits for one then gets an error."""
    marker = request.node.get_closest_marker("timeout")
    limit = marker.args[0] if marker else float(request.config.getini("timeout"))
    timer = threading.Timer(limit - WATCHDOG_SEC, _end_all)
    timer.start()
    yield
    timer.cancel()
    timer.join()


def _end_all() -> None:
    for mount in alive:
        mount.remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the daemons said when a test failed."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {mount.path}", mount.log_tail()) for mount in alive]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.mount)
