"""Fixtures for tests on a real gateway. Each test process has a gateway of its own."""

from __future__ import annotations

import ctypes
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings

from tests.rgw import Gateway
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Files go back to the system when they are freed. Else a process that has run a thousand tests has
# a gigabyte, mostly those, and takes three times as long to fork.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2 << 20)
ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 8 << 20)

CONTROL = re.compile(r"[\x00-\x1f]")  # what XML has no place for, and some others

# Hypothesis counts examples here, never milliseconds: a busy machine is no fault.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


# First, as one of them at the end has the machine for itself; and a life is forked sooner from a
# process that has not run much else.
LONGEST = ("test_mount_kill.py", "test_image.py", "test_crash_dying.py", "test_crash_failing.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def make_client(gateway: Gateway) -> S3Client:
    """A plain boto3 client: what everybody else in the world sees of the bucket."""
    return boto3.client(
        "s3",
        endpoint_url=gateway.endpoint,
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
        region_name=gateway.region,
        verify=str(gateway.ca_bundle) if gateway.ca_bundle else None,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",  # RGW 16 answers 411 to the default
            response_checksum_validation="when_required",
            proxies={},
        ),
    )


def empty_bucket(s3: S3Client, bucket: str) -> None:
    """Delete every object of a bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        found = [entry["Key"] for entry in page.get("Contents", [])]
        for key in filter(CONTROL.search, found):  # no batch can name them
            s3.delete_object(Bucket=bucket, Key=key)
        if keys := [{"Key": key} for key in found if not CONTROL.search(key)]:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item] # the stub wants its own dict class


def remove_bucket(s3: S3Client, bucket: str) -> None:
    """Empty and delete a bucket, also while a request of a client that was killed arrives."""

    def is_gone() -> bool:
        empty_bucket(s3, bucket)
        try:
            s3.delete_bucket(Bucket=bucket)
        except s3.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != "BucketNotEmpty":
                raise
            return False
        return True

    eventually(is_gone)


def _running(gateway: Gateway) -> Iterator[Gateway]:
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    yield from _running(Gateway(tmp_path_factory.mktemp("gateway")))


@pytest.fixture(scope="session")
def gateway_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    yield from _running(Gateway(tmp_path_factory.mktemp("gateway-tls"), tls=True))


@pytest.fixture
def s3(gateway: Gateway) -> Iterator[S3Client]:
    client = make_client(gateway)
    yield client
    client.close()


@pytest.fixture
def bucket(gateway: Gateway, s3: S3Client) -> Iterator[str]:
    """The name of a new bucket, which is removed afterwards with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    gateway.recover()  # a test that failed may have left it paused or dead
    remove_bucket(s3, name)
