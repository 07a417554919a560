"""The SDK's `Bucket` and ours, made in the same way, for tests that hold one against the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import qarnot.advanced_bucket
import qarnot.bucket
import qarnot.exceptions

import qarnotfs
from tests.qarnot_api import QarnotApi, sdk_connection
from tests.rgw import Gateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SDK = SimpleNamespace(
    Bucket=qarnot.bucket.Bucket,
    BucketPrefixFiltering=qarnot.advanced_bucket.BucketPrefixFiltering,
    PrefixResourcesTransformation=qarnot.advanced_bucket.PrefixResourcesTransformation,
    Filtering=qarnot.advanced_bucket.Filtering,
    ResourcesTransformation=qarnot.advanced_bucket.ResourcesTransformation,
    MissingBucketException=qarnot.exceptions.MissingBucketException,
    BucketStorageUnavailableException=qarnot.exceptions.BucketStorageUnavailableException,
)


class Face:
    """One of the two libraries, with a connection.

    ``api`` has the names both offer. `bucket` makes one of its `Bucket`s, closed afterwards.
    """

    def __init__(self, api: ModuleType | SimpleNamespace, connection: Any) -> None:
        self.api: Any = api
        self.connection = connection
        self.is_sdk = api is SDK
        self._made: list[Any] = []

    def bucket(self, name: str, *given: Any, create: bool = False, **more: Any) -> Any:
        return self.closing(self.api.Bucket(self.connection, name, create, *given, **more))

    def closing(self, bucket: Any) -> Any:
        """Also a bucket that was made in another way."""
        self._made.append(bucket)
        return bucket

    def close(self) -> None:
        for bucket in self._made:
            if not self.is_sdk:
                bucket.store.close()
        self._made.clear()


@pytest.fixture(scope="package")
def api(gateway: Gateway) -> Iterator[QarnotApi]:
    """A cluster whose only account is the gateway's."""
    with QarnotApi(gateway.secret_key, gateway.access_key, gateway.endpoint) as served:
        yield served


@pytest.fixture(scope="package")
def their_connection(api: QarnotApi) -> Iterator[Any]:
    with sdk_connection(api) as made:
        yield made


@pytest.fixture(scope="package")
def our_connection(api: QarnotApi) -> Iterator[qarnotfs.Connection]:
    made = qarnotfs.Connection.from_environment(environ=api.environ)
    yield made
    made.close()


@pytest.fixture(params=["sdk", "ours", "ours-with-its-connection"])
def face(
    request: pytest.FixtureRequest, their_connection: Any, our_connection: Any
) -> Iterator[Face]:
    """The test runs with the SDK, with ours, and with ours on the SDK's connection."""
    api = SDK if request.param == "sdk" else qarnotfs
    face = Face(api, our_connection if request.param == "ours" else their_connection)
    yield face
    face.close()


@pytest.fixture
def one(face: Face, bucket: str) -> Any:
    """A new and empty bucket."""
    return face.bucket(bucket)


class Content:
    """What is in the test's bucket, as plain boto3 sees it."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def __getitem__(self, key: str) -> bytes:
        return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def __setitem__(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def all(self) -> dict[str, bytes]:
        return {key: self[key] for key in self.etags()}

    def etags(self) -> dict[str, str]:
        """Key -> etag in double quotes."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}


@pytest.fixture
def content(s3: S3Client, bucket: str) -> Content:
    return Content(s3, bucket)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty directory to send from."""
    path = tmp_path / "tree"
    path.mkdir()
    return path


def fill(directory: Path, files: dict[str, bytes]) -> None:
    """Write files by their relative names."""
    for name, body in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def found(directory: Path) -> dict[str, bytes]:
    """The files below a directory by their relative names."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
