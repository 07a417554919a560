"""`S3Store`: one bucket of an S3-compatible server; see `store.base` for what it promises.

Used by `Connection.store`. Adds to the hot calls those that block, most of them through
boto3. Knows nothing of directories, caches or retries that last.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from qarnotfs.errors import (
    NoSuchKey,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.base import (
    PART_BYTES_MAX,
    Attributes,
    Capabilities,
    Condition,
    Flight,
    IfMatchForm,
    ListPage,
    ObjectInfo,
    Room,
    require_key,
)
from qarnotfs.store.s3 import wire
from qarnotfs.store.s3.access import READ_TIMEOUT_SEC
from qarnotfs.store.s3.buckets import delete_everything, greet
from qarnotfs.store.s3.failures import changed, failure_of_answer, translated
from qarnotfs.store.s3.heads import Heads
from qarnotfs.store.s3.hot import HotStore
from qarnotfs.store.s3.transport import Ask

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

COPY_PART_BYTES = 1 << 30  # copied on the server, one after the other
PROBE_PREFIX = ".qarnotfs-probe-"
WRONG_ETAG = "0" * 32


class S3Store(HotStore):
    """Implements `Store`. Cheap to make; the first hot call starts awscrt's threads.

    Threads do not survive a fork: make stores in the process that uses them.
    """

    _twice: bool | None = None  # see _decodes_twice

    # --- listing and copying -------------------------------------------------------------

    @cached_property
    def _heads(self) -> Heads:
        return Heads(self._access)

    def heads(self, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        return self._heads.ask(self.bucket, keys)

    def prepare_heads(self) -> None:
        self._heads.prepare()

    def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str | None = None,
        start_after: str | None = None,
        count_max: int = 1000,
    ) -> ListPage:
        given = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(count_max),
            "prefix": prefix,
            "delimiter": delimiter,
            "continuation-token": after,
            "start-after": start_after,
        }
        path = wire.bucket_path(self.bucket, {name: said for name, said in given.items() if said})
        ask = Ask("GET", path, self._subject(), operation="ListObjectsV2")
        page = _result(self._document(ask, wire.list_page))
        self._saw_bucket()
        return page

    def copy(self, source: str, target: str, attributes: Attributes | None = None) -> ObjectInfo:
        if source == target and attributes is None:  # servers refuse what changes nothing
            return _result(self.head(source))
        try:
            with self._boto(source, target) as client:
                client.copy_object(
                    Bucket=self.bucket,
                    Key=target,
                    CopySource={"Bucket": self.bucket, "Key": source},
                    **wire.replacing(attributes),
                )
        except Refused:
            info = _result(self.head(source))
            if info.size <= PART_BYTES_MAX:
                raise  # it was not for its size
            self._copy_in_parts(info, target, attributes, COPY_PART_BYTES)
        return _result(self.head(target))

    def _copy_in_parts(
        self, source: ObjectInfo, target: str, attributes: Attributes | None, part_bytes: int
    ) -> None:
        if attributes is None:
            attributes = Attributes(source.metadata or {}, source.content_type)
        upload_id = self.create_upload(target, attributes)
        try:
            etags = [
                self.copy_part(target, upload_id, number, source, start, size)
                for number, (start, size) in enumerate(wire.ranges(source.size, part_bytes), 1)
            ]
            if not source.same_version(_result(self.head(source.key))):
                raise changed(self._subject(source.key))
            self.complete_upload(target, upload_id, etags)
        except BaseException:  # Ctrl-C, too
            with suppress(StoreError):  # the parts stay; what made us give up says more
                self.abort_upload(target, upload_id)
            raise

    # --- multipart -------------------------------------------------------------------------

    def create_upload(self, key: str, attributes: Attributes) -> str:
        with self._boto(key) as client:
            answer = client.create_multipart_upload(
                Bucket=self.bucket, Key=key, **wire.described(attributes)
            )
        return answer["UploadId"]

    def copy_part(
        self, key: str, upload_id: str, number: int, source: ObjectInfo, start: int, size: int
    ) -> str:
        quoting = not set("%?").isdisjoint(source.key) and self._decodes_twice()
        return self._copy_part(key, upload_id, number, source, (start, size), quoting)

    def _copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: ObjectInfo,
        span: tuple[int, int],
        quoting: bool,
    ) -> str:
        spoken = quote(source.key, safe="/~") if quoting else source.key
        with self._boto(source.key, key) as client:
            answer = client.upload_part_copy(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": self.bucket, "Key": spoken},
                CopySourceRange=f"bytes={span[0]}-{span[0] + span[1] - 1}",
                CopySourceIfMatch=f'"{source.etag}"',
            )
        return wire.plain_etag(answer["CopyPartResult"]["ETag"])

    def _decodes_twice(self) -> bool:
        """Whether this server decodes the source of a part twice, as RGW 16 does.

        It would then copy another object (``A`` for ``%41``), and one request for a key such
        as ``100%`` ends the whole server. Found out on a key of ours, when first needed.
        """
        if self._twice is None:
            key = f"{PROBE_PREFIX}{secrets.token_hex(8)}-%41"
            try:
                self._twice = not self._finds_as_source(key)
            finally:
                self._delete_one(key)
        return self._twice

    def _finds_as_source(self, key: str) -> bool:
        _result(self.put(key, b"1", Attributes()))
        upload_id = self.create_upload(key, Attributes())
        try:
            self._copy_part(key, upload_id, 1, _result(self.head(key)), (0, 1), quoting=False)
        except NoSuchKey:
            return False
        finally:
            self.abort_upload(key, upload_id)
        return True

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        try:
            self._complete(key, upload_id, etags)
        except Unavailable:
            # RGW 16 says 500 for ever, when there is no such upload any more.
            with self._boto(key) as client:
                client.list_parts(Bucket=self.bucket, Key=key, UploadId=upload_id, MaxParts=1)
            raise

    def _complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        with self._boto(key) as client:
            client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": f'"{etag}"'}
                        for number, etag in enumerate(etags, 1)
                    ]
                },
            )

    def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            with self._boto(key) as client:
                client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
        except NoSuchKey:
            pass  # it is forgotten already

    # --- deleting ----------------------------------------------------------------------------

    def delete(self, keys: Sequence[str]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        together: list[str] = []
        for key in keys:
            try:
                if wire.fits_xml(require_key(key)):
                    together.append(key)
                else:
                    self._delete_one(key)
            except StoreError as error:
                failed[key] = error
        return failed | (self._delete_together(together) if together else {})

    def _delete_together(self, keys: Sequence[str]) -> dict[str, Exception]:
        with self._boto() as client:
            answer = client.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            )
        failures = {
            entry["Key"]: failure_of_answer(0, entry["Code"], self._subject(entry["Key"]))
            for entry in answer.get("Errors", [])
        }
        return {key: e for key, e in failures.items() if not isinstance(e, NoSuchKey)}

    def _delete_one(self, key: str) -> None:
        ask = Ask("DELETE", wire.object_path(self.bucket, require_key(key)), self._subject(key))
        _result(self._document(ask, lambda _: None))

    # --- the bucket --------------------------------------------------------------------------

    def probe(self) -> Capabilities:
        """Some ten requests for one key. The answer also holds for every later put."""
        key = PROBE_PREFIX + secrets.token_hex(8)
        try:
            self.capabilities = self._probed(key)
        except StoreError:
            with suppress(StoreError):  # the first error says more
                self._delete_one(key)
            raise
        self._delete_one(key)
        return self.capabilities

    def _probed(self, key: str) -> Capabilities:
        etag = _result(self.put(key, b"", Attributes()))
        second = self._trial(key, Condition(absent=True), Capabilities(True, "no"))
        absent = second is None
        etag = second or etag
        forms: tuple[IfMatchForm, ...] = ("quoted", "unquoted")
        for form in forms:
            trial = Capabilities(absent, form)
            right = self._trial(key, Condition(etag=etag), trial)
            etag = right or etag
            if right and self._trial(key, Condition(etag=WRONG_ETAG), trial) is None:
                return trial
        return Capabilities(absent, "no")

    def _trial(self, key: str, condition: Condition, trial: Capabilities) -> str | None:
        """The etag of what was put, ``None`` when the condition forbade it, else ``""``."""
        try:
            return _result(self._put(key, secrets.token_bytes(8), Attributes(), condition, trial))
        except PreconditionFailed:
            return None
        except Refused:
            return ""  # the server does not know such a condition

    def check(self) -> None:
        """Through a proxy with both libraries: each has its own idea of those."""
        if self._access.has_proxy:
            greet(self._access, self.bucket)
        elif self._endpoint.startswith("https:"):
            self._heads.meet()
        self.list_page("", count_max=1)

    def room(self) -> Flight[Room | None]:
        """Asked as only RGW is; to other servers it is a question for the list of buckets."""
        ask = Ask("GET", "/?usage", self._subject(), operation="GetUsage")
        return self._document(ask, partial(wire.room, self.bucket))

    def create_bucket(self) -> None:
        region = self._access.region
        where: dict[str, Any] = {}
        if self._access.is_aws and region != "us-east-1":
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with self._boto() as client, suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket, **where)

    def empty_bucket(self) -> None:
        with self._boto() as client:
            stayed = delete_everything(client, self.bucket)
        for key, code in stayed.items():
            raise failure_of_answer(0, code, self._subject(key))

    def delete_bucket(self) -> None:
        with self._boto() as client:
            client.delete_bucket(Bucket=self.bucket)
        self._bucket_seen_sec = float("-inf")

    def close(self) -> None:
        self._transport.close()
        self._heads.close()
        self._workers.shutdown(wait=False)

    @contextmanager
    def _boto(self, *keys: str) -> Iterator[S3Client]:
        """The boto3 client, its errors translated as those of the first key or the bucket."""
        for key in keys:
            require_key(key)
        with translated(self._subject(*keys[:1])):
            yield self._access.client


def _result(flight: Flight[T]) -> T:
    """Wait for a flight, as long as boto3 would."""
    try:
        return flight.result(READ_TIMEOUT_SEC)
    except TimeoutError:
        flight.abort()
        raise Unavailable(f"The object store did not answer in {READ_TIMEOUT_SEC} s.") from None
