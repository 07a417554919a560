"""The proxy that makes chosen requests fail leaves all others alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.faults import FaultProxy
from tests.rgw import Gateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


def test_only_chosen_requests_fail(gateway: Gateway, s3: S3Client, bucket: str) -> None:
    with FaultProxy(gateway) as proxy:
        client = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint,
            aws_access_key_id=gateway.access_key,
            aws_secret_access_key=gateway.secret_key,
            region_name=gateway.region,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                retries={"total_max_attempts": 1},
                proxies={},
            ),
        )
        proxy.fail(lambda method, path: method == "HEAD" and path.endswith("/b"))
        client.put_object(Bucket=bucket, Key="a", Body=b"one")
        client.put_object(Bucket=bucket, Key="b", Body=b"two")
        assert client.head_object(Bucket=bucket, Key="a")["ContentLength"] == 3
        assert client.get_object(Bucket=bucket, Key="b")["Body"].read() == b"two"
        assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 2
        assert proxy.failed == 0
        with pytest.raises(ClientError, match="503"):
            client.head_object(Bucket=bucket, Key="b")
        assert proxy.failed == 1
        proxy.calm()
        assert client.head_object(Bucket=bucket, Key="b")["ContentLength"] == 3
        client.delete_object(Bucket=bucket, Key="b")
        client.close()
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="b")
