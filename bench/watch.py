"""The bucket from outside: whether what a client was given is there, all of it and as it was.

A plain S3 client lists the bucket, but only when enough was asked of the gateway since for
anything to have changed; the gateway's log tells, and reading it costs nearly nothing.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import boto3
from botocore.config import Config

from bench.mounted import ClientError
from bench.peers import BUCKET
from bench.rows import NEW, Effect
from tests.rgw import Gateway, Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHANGED = re.compile(rb'^(\S+) [^"\n]* beast: [^"\n]*"(?:PUT|POST|DELETE) ', re.MULTILINE)
DELETED_MAX = 1000  # by one request
PAGE_KEYS = 999  # by which our own listings are known in the gateway's log
PAUSE_SEC = 0.01
ANYWAY_SEC = 10.0  # look again, whatever the log says
COPIES = 8  # at the same time
MD5 = re.compile("[0-9a-f]{32}")


class Stored(NamedTuple):
    size: int
    etag: str


class Outside:
    """The bucket as a plain S3 client sees it, near the gateway wherever the mounts are."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        session = boto3.Session(gateway.access_key, gateway.secret_key, region_name=gateway.region)
        settings = Config(
            proxies={},
            max_pool_connections=COPIES,
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client: S3Client = session.client(
            "s3", endpoint_url=gateway.endpoint, config=settings
        )

    def keys(self, prefix: str) -> dict[str, Stored]:
        pages = self._client.get_paginator("list_objects_v2")
        found = pages.paginate(
            Bucket=BUCKET, Prefix=prefix, PaginationConfig={"PageSize": PAGE_KEYS}
        )
        return {
            entry["Key"]: Stored(entry["Size"], entry["ETag"].strip('"'))
            for page in found
            for entry in page.get("Contents", ())
        }

    def copy(self, source: str, target: str) -> None:
        """Every key that begins with the one gets another name that begins with the other."""

        def one(key: str) -> None:
            self._client.copy_object(
                Bucket=BUCKET,
                Key=target + key.removeprefix(source),
                CopySource={"Bucket": BUCKET, "Key": key},
            )

        with ThreadPoolExecutor(COPIES) as workers:
            list(workers.map(one, self.keys(source)))

    def forget_new(self) -> None:
        """All that was written goes, and its memory is given back now."""
        pending = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        for one in pending:  # of a client that was killed
            self._client.abort_multipart_upload(
                Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]
            )
        keys = list(self.keys(NEW))
        for at in range(0, len(keys), DELETED_MAX):
            page = [{"Key": key} for key in keys[at : at + DELETED_MAX]]
            self._client.delete_objects(Bucket=BUCKET, Delete={"Objects": page, "Quiet": True})  # type: ignore[typeddict-item] # a plain dict is one
        if keys or pending:
            self._collect_garbage()

    def _collect_garbage(self) -> None:
        command = ["radosgw-admin", "-c", "ceph.conf", "gc", "process", "--include-all"]
        subprocess.run(command, cwd=self.gateway.folder, capture_output=True, check=True)

    def md5(self, key: str) -> str:
        body = self._client.get_object(Bucket=BUCKET, Key=key)["Body"]
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in body.iter_chunks(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()


class Watch:
    """One step's effect, from before it begins."""

    def __init__(self, outside: Outside, effect: Effect, data: Path) -> None:
        self._outside, self._effect = outside, effect
        self._wanted = dict(_wanted(effect, data))
        self._before = outside.keys(NEW) if effect.replaces else {}
        self._log = outside.gateway.log_path.open("rb")
        self._log.seek(0, 2)
        self._rest = b""

    def close(self) -> None:
        self._log.close()

    def wait(self, deadline: float) -> float | None:
        """When all was there, by `time.monotonic`; none when it was not until ``deadline``.

        It is when the last request ended that may have changed anything, as the log says.
        """
        need, count, moment, looked = 0, 0, 0.0, 0.0
        while (now := time.monotonic()) < deadline:
            if ended := self._changes():
                count, moment = count + len(ended), monotonic(ended[-1])
            if count >= need or now - looked > ANYWAY_SEC:
                count, looked = 0, now
                need = self._requests_left()
                if not need:
                    return moment
            time.sleep(PAUSE_SEC)  # between two looks, until the deadline
        return None

    def _changes(self) -> list[str]:
        """When requests ended that may have changed the bucket, as the log has it."""
        whole, end, self._rest = (self._rest + self._log.read()).rpartition(b"\n")
        return [stamp.decode() for stamp in CHANGED.findall(whole + end)]

    def _requests_left(self) -> int:
        """That are needed at the least until all is there."""
        there = self._outside.keys(NEW)
        lacking = sum(not self._is_there(key, there) for key in self._wanted)
        left = sum(key.startswith(self._effect.gone) for key in there) if self._effect.gone else 0
        return lacking + -(-left // DELETED_MAX)

    def _is_there(self, key: str, there: dict[str, Stored]) -> bool:
        found = there.get(key)
        if found is None or self._before.get(key) == found:
            return False
        return self._is_loose(key) or found.size == self._wanted[key].stat().st_size

    def _is_loose(self, key: str) -> bool:
        return any(part in key for part in self._effect.loose)

    def verify(self) -> None:
        """Raises ClientError when the bucket has other bytes than the source."""
        there = self._outside.keys(NEW)
        for key, path in self._wanted.items():
            if self._is_loose(key):
                continue
            with path.open("rb") as file:
                right = hashlib.file_digest(file, "md5").hexdigest()
            etag = there[key].etag if key in there else ""
            if etag != right and (MD5.fullmatch(etag) or self._outside.md5(key) != right):
                raise ClientError(f"{key} has other bytes than {path}")


def _wanted(effect: Effect, data: Path) -> Iterator[tuple[str, Path]]:
    """The keys, and the file with the bytes of each."""
    for key, source in effect.written:
        top = data / source
        if top.is_file():
            yield key, top
        for path in sorted(top.rglob("*")):
            if path.is_file():
                yield f"{key}/{path.relative_to(top)}", path


def monotonic(stamp: str) -> float:
    """A time of day as `time.monotonic` had it."""
    ago_sec = time.time() - datetime.fromisoformat(stamp).timestamp()
    return time.monotonic() - ago_sec


def asked_by_client(requests: list[Request]) -> int:
    """How many of them were not our own looking."""
    ours = f"max-keys={PAGE_KEYS}"
    return sum(ours not in request.path for request in requests)
