"""One bucket, three faces: the Qarnot SDK, our `Bucket` and a mount see the same files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import qarnot.bucket

from qarnotfs import Bucket, Connection
from tests.qarnot_api import QarnotApi, sdk_connection
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import Mount
from tests.support import eventually

MIB = 1 << 20
dice = random.Random(7)
FILES = {
    "small": b"hello",
    "empty": b"",
    "é ü": b"unicode",
    "below": dice.randbytes(8 * MIB - 1),
    "exact": dice.randbytes(8 * MIB),
    "large": dice.randbytes(20 * MIB + 3),
}


@pytest.fixture
def sdk(gateway: Gateway, bucket: str) -> Iterator[Any]:
    """The SDK's `Bucket`."""
    with (
        QarnotApi(gateway.secret_key, gateway.access_key, gateway.endpoint) as api,
        sdk_connection(api) as connection,
    ):
        yield qarnot.bucket.Bucket(connection, bucket, create=False)


@pytest.fixture
def ours(gateway: Gateway, bucket: str) -> Iterator[Bucket]:
    connection = Connection.from_environment(environ=gateway.environment)
    made = Bucket(connection, bucket, create=False)
    yield made
    made.store.close()
    connection.close()


@pytest.fixture
def mount(mounts: Mounts) -> Mount:
    return mounts("--cache-ttl", "1", "--upload-delay", "0.1")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files, on a local disk."""
    path = tmp_path / "tree"
    path.mkdir()
    for name, body in FILES.items():
        (path / name).write_bytes(body)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def changes(gateway: Gateway, mark: int) -> list[tuple[str, str]]:
    """What was asked that was not a question."""
    return [
        (request.method, request.path)
        for request in gateway.requests(mark)
        if request.method not in {"GET", "HEAD"}
    ]


@pytest.mark.parametrize("who", ["sdk", "ours"])
def test_written_from_elsewhere_read_on_the_mount(
    request: pytest.FixtureRequest, who: str, mounts: Mounts, tree: Path
) -> None:
    one = request.getfixturevalue(who)
    one.sync_directory(str(tree))
    one.add_directory(str(tree), "deep/er")
    path = mounts().path
    below = {f"deep/er/{name}": body for name, body in FILES.items()}
    assert contents(path) == FILES | below


@pytest.mark.parametrize("who", ["sdk", "ours"])
def test_written_on_the_mount_synchronised_from_elsewhere(
    request: pytest.FixtureRequest, who: str, gateway: Gateway, mount: Mount, tree: Path
) -> None:
    """There is nothing to do: the mount's etags are those the SDK computes."""
    one = request.getfixturevalue(who)
    for name in FILES:
        shutil.copyfile(tree / name, mount.path / name)
    mount.flush()
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert changes(gateway, mark) == []


def test_changed_on_the_mount_synchronised_by_the_sdk(
    sdk: Any, gateway: Gateway, mount: Mount, tree: Path
) -> None:
    """A large file of which only some parts were sent anew; and one that grew, one that shrank."""
    sdk.sync_directory(str(tree))
    for place in (tree, mount.path):
        with (place / "large").open("r+b") as file:
            file.seek(10 * MIB)
            file.write(b"changed in the middle")
        with (place / "exact").open("ab") as file:
            file.write(b"and more")
        with (place / "below").open("r+b") as file:
            file.truncate(5)
    mount.flush()
    mark = gateway.mark()
    sdk.sync_directory(str(tree))
    assert changes(gateway, mark) == []
    assert contents(mount.path) == contents(tree)


def test_the_mount_itself_is_synchronised(
    sdk: Any, gateway: Gateway, mount: Mount, tree: Path
) -> None:
    """The SDK may read the tree through the mount."""
    shutil.copytree(tree, mount.path, dirs_exist_ok=True)
    mount.flush()
    mark = gateway.mark()
    sdk.sync_directory(str(mount.path))
    assert changes(gateway, mark) == []


def test_a_directory_made_on_the_mount(
    sdk: Any, ours: Bucket, gateway: Gateway, mount: Mount, tree: Path
) -> None:
    """Its marker is a file to the SDK, which deletes it; ours knows what it is."""
    (tree / "d").mkdir()
    (tree / "d" / "file").write_bytes(b"1")
    shutil.copytree(tree, mount.path, dirs_exist_ok=True)
    mount.flush()
    mark = gateway.mark()
    ours.sync_directory(str(tree))
    assert changes(gateway, mark) == []
    sdk.sync_directory(str(tree))
    assert changes(gateway, mark) == [("DELETE", f"/{ours.uuid}/d/")]
    assert (mount.path / "d" / "file").read_bytes() == b"1"


def test_written_by_our_bucket_seen_on_a_running_mount(ours: Bucket, mount: Mount) -> None:
    ours.add_string("old", "d/file")
    path = mount.path / "d" / "file"
    assert eventually(path.exists)
    assert path.read_text() == "old"
    ours.add_string("newer", "d/file")
    ours.add_string("second", "d/second")
    eventually(lambda: path.read_text() == "newer")
    eventually(lambda: sorted(entry.name for entry in path.parent.iterdir()) == ["file", "second"])
    ours.delete_file("d/file")
    eventually(lambda: not path.exists())
