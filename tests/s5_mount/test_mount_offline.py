"""``--offline-reads``: a server that goes away takes nothing with it that was seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import patiently
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OPTIONS = ("--offline-reads", "--io-timeout", "2", "--cache-ttl", "0")


@pytest.mark.decision(3)
def test_a_server_that_goes_away_and_comes_back(
    mounts: Mounts, s3: S3Client, gateway: Gateway, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="d/seen", Body=b"first")
    mount = mounts(*OPTIONS)
    path = mount.path / "d" / "seen"

    def look() -> None:
        assert os.listdir(mount.path / "d") == ["seen"]
        assert path.read_bytes() == b"first"

    def is_validated() -> bool:
        return mount.status()["unvalidated_since_sec"] is None

    patiently(look)
    eventually(is_validated)
    gateway.kill()
    try:
        look()
        assert mount.status()["unvalidated_since_sec"] > 0
        assert "not validated since" in mount.text_status()
        path.with_name("new").write_bytes(b"written meanwhile")
        assert path.with_name("new").read_bytes() == b"written meanwhile"
    finally:
        gateway.restart()
    s3.put_object(Bucket=bucket, Key="d/seen", Body=b"second")
    eventually(is_validated)
    eventually(lambda: patiently(path.read_bytes) == b"second")  # it may fall silent once more
    mount.flush()
    assert s3.get_object(Bucket=bucket, Key="d/new")["Body"].read() == b"written meanwhile"
