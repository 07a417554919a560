"""Which buckets there are, and deleting everything that one holds, old versions too.

Used by `Connection` and `S3Store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qarnotfs.store.s3.access import Access
from qarnotfs.store.s3.failures import Subject, translated
from qarnotfs.store.s3.wire import fits_xml

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def list_buckets(access: Access) -> list[str]:
    """The names of all buckets of this identity, in their order."""
    with translated(Subject(access.endpoint, "")):
        return [entry["Name"] for entry in access.client.list_buckets()["Buckets"]]


def delete_everything(client: S3Client, bucket: str) -> dict[str, str]:
    """Delete a page of at most 1000 at a time; return key -> S3's code of what stayed.

    Foreign errors pass through.
    """
    stayed: dict[str, str] = {}
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        together = [_named(entry) for entry in found if fits_xml(entry["Key"])]
        for entry in found:
            if not fits_xml(entry["Key"]):
                client.delete_object(Bucket=bucket, **_named(entry))
        stayed |= dict(_deleted(client, bucket, together)) if together else {}
    return stayed


def _named(entry: Any) -> dict[str, Any]:
    return {"Key": entry["Key"], "VersionId": entry["VersionId"]}


def _deleted(client: S3Client, bucket: str, entries: list[Any]) -> Iterator[tuple[str, str]]:
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": entries, "Quiet": True})
    for error in answer.get("Errors", ()):
        yield error["Key"], error["Code"]
