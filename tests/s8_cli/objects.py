"""A bucket's objects seen with plain boto3, for tests of commands that work on buckets."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def fill(s3: S3Client, bucket: str, objects: Mapping[str, bytes]) -> None:
    """Store objects."""

    def store(key: str) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=objects[key])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, objects))  # raises what one of them raised


def content(s3: S3Client, bucket: str) -> dict[str, bytes]:
    """Every key and its bytes."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
