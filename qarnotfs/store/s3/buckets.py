"""Which buckets there are, how a server does, and deleting all that one holds, old versions too.

Used by `Connection` and `S3Store`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from qarnotfs.store.s3.access import Access
from qarnotfs.store.s3.failures import Subject, translated
from qarnotfs.store.s3.wire import fits_xml

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def list_buckets(access: Access) -> list[str]:
    """The names of all buckets of this identity, in their order."""
    with translated(Subject(access.endpoint, "")):
        return [entry["Name"] for entry in access.client.list_buckets()["Buckets"]]


class Greeting(NamedTuple):
    """One answer of a server: how long it took, and how far our clock is ahead of its own.

    ``clock_ahead_sec``: within a second, as servers say no more; ``None``: it does not say.
    """

    latency_sec: float
    clock_ahead_sec: float | None


def greet(access: Access, bucket: str) -> Greeting:
    """Ask once to list ``bucket``, or the buckets if it is ``""``; any `StoreError`.

    No name of it: boto3 fails at some that Ceph answers with.
    """
    client = access.client
    with translated(Subject(access.endpoint, bucket)):
        began_sec = time.monotonic()
        answer: Any = (
            client.list_objects_v2(Bucket=bucket, MaxKeys=0) if bucket else client.list_buckets()
        )
    latency_sec = time.monotonic() - began_sec
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return Greeting(latency_sec, None)
    said_sec = parsedate_to_datetime(date).timestamp() + 0.5  # of a second that it does not tell
    return Greeting(latency_sec, time.time() - latency_sec / 2 - said_sec)


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
