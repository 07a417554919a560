"""`S3Store`: one bucket of an S3-compatible server; see `store.base` for what it promises.

Used by `Connection.store`. Adds to the hot calls those that block; a few of them, about the
bucket itself, go through boto3. Knows nothing of directories, caches or retries that last.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from time import monotonic
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
    give_up_sec,
    require_key,
)
from qarnotfs.store.early import Early
from qarnotfs.store.s3 import documents, paths, wire
from qarnotfs.store.s3.access import READ_TIMEOUT_SEC
from qarnotfs.store.s3.buckets import delete_everything, greet
from qarnotfs.store.s3.failures import changed, failure_of_answer, translated
from qarnotfs.store.s3.heads import Heads
from qarnotfs.store.s3.hot import HotStore, content_md5
from qarnotfs.store.s3.transport import Ask, result_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

COPY_SEC_MAX = 100.0  # awscrt waits for 30 s, and tries twice more
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
        early: Early | None = None,
    ) -> ListPage:
        def ask(token: str | None) -> Ask:
            path = paths.list_path(self.bucket, prefix, delimiter, token, start_after, count_max)
            return Ask("GET", path, self._subject(), operation="ListObjectsV2")

        def ask_next(token: str | None) -> None:
            if early and token:
                early.ask(token, lambda: self._document(ask(token), read))

        def read(body: bytes) -> ListPage:
            ask_next(wire.continuation(body))
            return wire.list_page(body)

        flight = early.take(after) if early else None
        page = result_of(flight) if flight else self._answered(ask(after), read)
        ask_next(page.next)  # again: one that was ahead may have arrived before it was taken
        self._saw_bucket()
        return page

    def copy(self, source: str, target: str, attributes: Attributes | None = None) -> ObjectInfo:
        if source == target and attributes is None:  # servers refuse what changes nothing
            return result_of(self.head(source))
        try:
            result_of(self.copy_object(source, target, attributes), COPY_SEC_MAX)
        except Refused:
            info = result_of(self.head(source))
            if info.size <= PART_BYTES_MAX:
                raise  # it was not for its size
            self._copy_in_parts(info, target, attributes, wire.copy_part_bytes(info.size))
        return result_of(self.head(target))

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
            if not source.same_version(result_of(self.head(source.key))):
                raise changed(self._subject(source.key))
            self.complete_upload(target, upload_id, etags)
        except BaseException:  # Ctrl-C, too
            with suppress(StoreError):  # the parts stay; what made us give up says more
                self.abort_upload(target, upload_id)
            raise

    # --- multipart -------------------------------------------------------------------------

    def create_upload(self, key: str, attributes: Attributes) -> str:
        headers = tuple(wire.attribute_headers(attributes))
        ask = self._ask("POST", key, "CreateMultipartUpload", {"uploads": ""}, headers, b"")
        return self._answered(ask, documents.upload_id)

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
        headers = (
            ("x-amz-copy-source", paths.object_path(self.bucket, spoken)),
            ("x-amz-copy-source-range", f"bytes={span[0]}-{span[0] + span[1] - 1}"),
            ("x-amz-copy-source-if-match", f'"{source.etag}"'),
        )
        query = {"partNumber": str(number), "uploadId": upload_id}
        ask = self._ask("PUT", key, "UploadPartCopy", query, headers, b"")
        ask = replace(ask, subject=self._subject(source.key))
        return self._answered(ask, documents.part_etag, COPY_SEC_MAX)

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
        result_of(self.put(key, b"1", Attributes()))
        upload_id = self.create_upload(key, Attributes())
        try:
            self._copy_part(key, upload_id, 1, result_of(self.head(key)), (0, 1), quoting=False)
        except NoSuchKey:
            return False
        finally:
            self.abort_upload(key, upload_id)
        return True

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        query, body = {"uploadId": upload_id}, documents.completion(etags)
        ask = self._ask("POST", key, "CompleteMultipartUpload", query, (content_md5(body),), body)
        try:
            self._answered(ask, documents.completed, COPY_SEC_MAX)
        except Unavailable:
            # RGW 16 says 500 for ever, when there is no such upload any more.
            query = {"uploadId": upload_id, "max-parts": "1"}
            self._answered(self._ask("GET", key, "ListParts", query), _unread)
            raise

    def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            query = {"uploadId": upload_id}
            ask = self._ask("DELETE", key, "AbortMultipartUpload", query)
            self._answered(ask, _unread)
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
        path, body = paths.bucket_path(self.bucket, {"delete": ""}), documents.deletion(keys)
        ask = Ask("POST", path, self._subject(), (content_md5(body),), body, "DeleteObjects")
        failures = {
            key: failure_of_answer(0, code, self._subject(key))
            for key, code in self._answered(ask, documents.stayed).items()
        }
        return {key: e for key, e in failures.items() if not isinstance(e, NoSuchKey)}

    def _delete_one(self, key: str) -> None:
        self._answered(self._ask("DELETE", key, "DeleteObject"), _unread)

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
        etag = result_of(self.put(key, b"", Attributes()))
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
            return result_of(self._put(key, secrets.token_bytes(8), Attributes(), condition, trial))
        except PreconditionFailed:
            return None
        except Refused:
            return ""  # the server does not know such a condition

    def check(self) -> None:
        """Through a proxy with both libraries: each has its own idea of those."""
        if self._access.has_proxy:
            greet(self._access, self.bucket)
        else:
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

    # --- requests ----------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        key: str,
        operation: str,
        query: Mapping[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
    ) -> Ask:
        path = paths.object_path(self.bucket, key, query)
        return Ask(method, path, self._subject(key), headers, body, operation)

    def _answered(
        self, ask: Ask, read: Callable[[bytes], T], sec_max: float = READ_TIMEOUT_SEC
    ) -> T:
        """Send and wait. A call of which nobody waits for the end any more sends nothing more."""
        if monotonic() > give_up_sec.get():
            raise Unavailable("The request was given up.")
        return result_of(self._document(ask, read), sec_max)

    @contextmanager
    def _boto(self) -> Iterator[S3Client]:
        """The boto3 client, its errors translated as those of the bucket."""
        with translated(self._subject()):
            yield self._access.client


def _unread(_: bytes) -> None:
    """An answer without a body that matters."""
