"""The half of `S3Store` that never blocks: HEAD, GET, PUT and parts, each a `Flight`.

Used through `S3Store` only. Decides what an answer means for one key: which 404 is an
absence, whose 412 is our own, and whether the bytes are the right ones.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from qarnotfs.errors import NoSuchKey, PreconditionFailed
from qarnotfs.store.base import (
    UNCONDITIONAL,
    Attributes,
    Capabilities,
    Condition,
    Copied,
    Fetched,
    Flight,
    ObjectInfo,
)
from qarnotfs.store.s3 import documents, paths, wire
from qarnotfs.store.s3.access import Access
from qarnotfs.store.s3.failures import (
    Subject,
    changed,
    failure_of_answer,
    incomplete,
    no_such_key,
    spoilt,
    translated,
)
from qarnotfs.store.s3.transport import Ask, Journey, Reply, Transport

T = TypeVar("T")

BUCKET_SEEN_SEC = 30.0  # see _saw_bucket
HASH_INLINE_BYTES_MAX = 64 << 10  # 0.1 ms: below it a thread costs more than the MD5
WORKERS = 2  # they hash, without the GIL, and do what awscrt cannot


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a put asked for, to be known again."""

    etag: str
    size: int
    attributes: Attributes

    def is_stored_as(self, info: ObjectInfo) -> bool:
        return (
            (info.etag, info.size) == (self.etag, self.size)
            and wire.same_metadata(info.metadata or {}, self.attributes.metadata)
            and wire.sendable_type(self.attributes) in (None, info.content_type)
        )


class HotStore:
    """Requests that go through awscrt. ``capabilities`` say which conditions are sent."""

    def __init__(self, bucket: str, access: Access) -> None:
        self.bucket = bucket
        self.capabilities = Capabilities(put_if_absent=False, put_if_match="no")
        self._access = access
        self._endpoint = access.endpoint
        self._transport = Transport(access)
        self._workers = ThreadPoolExecutor(WORKERS, "qarnotfs-store")
        self._bucket_seen_sec = float("-inf")  # monotonic

    # --- the store's methods -----------------------------------------------------------

    def head(self, key: str) -> Flight[ObjectInfo]:
        journey: Journey[ObjectInfo] = Journey(self._transport, self._subject(key))
        journey.attempt(partial(self._send_head, journey, partial(self._after_head, journey)))
        return journey.flight

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        journey: Journey[Fetched] = Journey(self._transport, self._subject(key))
        spoken = f"bytes={start}-{start + size - 1}"
        journey.attempt(
            lambda: journey.send(
                self._get_ask(journey.subject, spoken, etag),
                partial(self._after_get, journey, spoken, size, etag),
            )
        )
        return journey.flight

    def put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        condition: Condition = UNCONDITIONAL,
    ) -> Flight[str]:
        return self._put(key, body, attributes, condition, self.capabilities)

    def _put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        condition: Condition,
        capabilities: Capabilities,
    ) -> Flight[str]:
        journey: Journey[str] = Journey(self._transport, self._subject(key))

        def send() -> None:
            digest = _md5(body)
            headers = wire.attribute_headers(attributes)
            headers += [_content(digest), *_if(condition, capabilities)]
            wanted = _Wanted(digest.hex(), len(body), attributes)
            path = paths.object_path(self.bucket, key)
            ask = Ask("PUT", path, journey.subject, tuple(headers), body)
            journey.send(ask, partial(self._after_put, journey, wanted, condition))

        self._hashing(journey, len(body), send)
        return journey.flight

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Flight[str]:
        journey: Journey[str] = Journey(self._transport, self._subject(key))

        def send() -> None:
            digest = _md5(body)
            query = {"partNumber": str(number), "uploadId": upload_id}
            path = paths.object_path(self.bucket, key, query)
            ask = Ask("PUT", path, journey.subject, (_content(digest),), body, "UploadPart")
            journey.send(ask, partial(self._after_part, journey, digest.hex()))

        self._hashing(journey, len(body), send)
        return journey.flight

    def copy_object(
        self, source: str, target: str, attributes: Attributes | None = None
    ) -> Flight[Copied]:
        journey: Journey[Copied] = Journey(self._transport, self._subject(source))

        def send() -> None:
            path, headers = wire.copy_request(self.bucket, source, target, attributes)
            ask = Ask("PUT", path, journey.subject, headers, b"", "CopyObject")
            journey.send(ask, partial(self._after_document, journey, wire.copied))

        journey.attempt(send)
        return journey.flight

    def _document(self, ask: Ask, read: Callable[[bytes], T]) -> Flight[T]:
        """What ``read`` makes of the answer."""
        journey: Journey[T] = Journey(self._transport, ask.subject)
        journey.attempt(lambda: journey.send(ask, partial(self._after_document, journey, read)))
        return journey.flight

    # --- requests ----------------------------------------------------------------------

    def _send_head(self, journey: Journey[T], then: Callable[[Reply], None]) -> None:
        path = paths.object_path(self.bucket, journey.subject.key)
        journey.send(Ask("HEAD", path, journey.subject), then)

    def _get_ask(self, subject: Subject, spoken: str, etag: str | None = None) -> Ask:
        headers = [("Range", spoken), *([("If-Match", f'"{etag}"')] if etag else [])]
        return Ask("GET", paths.object_path(self.bucket, subject.key), subject, tuple(headers))

    def _hashing(self, journey: Journey[T], size: int, send: Callable[[], None]) -> None:
        if size <= HASH_INLINE_BYTES_MAX:
            journey.attempt(send)
        else:
            journey.attempt(lambda: self._work(journey, send))

    def _work(self, journey: Journey[T], step: Callable[[], None]) -> None:
        """Have a worker do ``step``, unless the store is closed, when a pool has none."""
        try:
            self._workers.submit(journey.attempt, step)
        except RuntimeError:
            journey.abort()

    # --- answers -------------------------------------------------------------------------

    def _after_head(self, journey: Journey[ObjectInfo], reply: Reply) -> None:
        if reply.failure is None:
            self._saw_bucket()
            journey.land(wire.object_info(journey.subject.key, reply.headers))
        elif reply.is_unreadable:
            self._work(journey, partial(self._head_by_boto, journey))
        elif reply.status == 404 and monotonic() < self._bucket_seen_sec + BUCKET_SEEN_SEC:
            journey.fail(no_such_key(journey.subject))
        elif 300 <= reply.status < 500:
            # The answer to a HEAD has no body and so no reason: is it the key that is not
            # there or the bucket, the secret that is wrong or the clock? A GET says it.
            ask = self._get_ask(journey.subject, "bytes=0-0")
            journey.send(ask, partial(self._after_look, journey))
        else:
            journey.fail(reply.failure)

    def _after_look(self, journey: Journey[ObjectInfo], reply: Reply) -> None:
        if reply.status == 416:  # an empty object, which was not there for the HEAD
            journey.fail(incomplete(journey.subject, "it changes"))
        elif reply.failure is not None:
            self._note(reply)
            journey.fail(reply.failure)
        else:
            self._saw_bucket()
            journey.land(wire.object_info(journey.subject.key, reply.headers))

    def _after_get(
        self, journey: Journey[Fetched], spoken: str, size: int, etag: str | None, reply: Reply
    ) -> None:
        if reply.is_unreadable:
            self._work(journey, partial(self._get_by_boto, journey, spoken, size, etag))
        elif reply.failure is not None:
            self._note(reply)
            journey.fail(reply.failure)
        else:
            self._saw_bucket()
            land = partial(self._land_fetched, journey, size, etag, reply.headers, reply.body)
            self._hashing(journey, len(reply.body), land)

    def _land_fetched(
        self,
        journey: Journey[Fetched],
        size: int,
        etag: str | None,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        info = wire.object_info(journey.subject.key, headers)
        if etag and info.etag != etag:
            journey.fail(changed(journey.subject))  # a server that ignores If-Match
        elif len(body) != size:
            journey.fail(incomplete(journey.subject, f"{len(body)} of {size} bytes"))
        elif len(body) == info.size and wire.md5_of(headers) not in (None, _md5(body).hex()):
            journey.fail(incomplete(journey.subject, "its checksum is another"))
        else:
            journey.land(Fetched(info, body))

    def _after_put(
        self, journey: Journey[str], wanted: _Wanted, condition: Condition, reply: Reply
    ) -> None:
        failure = reply.failure
        if failure is None:
            self._land_stored(journey, wanted.etag, reply)
        elif condition == UNCONDITIONAL or not isinstance(failure, PreconditionFailed | NoSuchKey):
            journey.fail(failure)
        else:
            # awscrt, or our caller, may have sent this put before and not heard that it was
            # carried out; then it is our own object that is in the way.
            self._send_head(journey, partial(self._after_doubt, journey, wanted))

    def _after_doubt(self, journey: Journey[str], wanted: _Wanted, reply: Reply) -> None:
        if reply.failure is not None:
            journey.fail(changed(journey.subject) if reply.status == 404 else reply.failure)
        elif wanted.is_stored_as(wire.object_info(journey.subject.key, reply.headers)):
            journey.land(wanted.etag)
        else:
            journey.fail(changed(journey.subject))

    def _after_part(self, journey: Journey[str], md5: str, reply: Reply) -> None:
        if reply.failure is None:
            self._land_stored(journey, md5, reply)
        else:
            journey.fail(reply.failure)

    def _land_stored(self, journey: Journey[str], md5: str, reply: Reply) -> None:
        self._saw_bucket()
        etag = wire.plain_etag(reply.headers["etag"])
        # With a key of KMS, AWS's etag is no MD5; Content-MD5 was checked by the server.
        kms = reply.headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        if etag == md5 or kms:
            journey.land(etag)
        else:
            journey.fail(spoilt(journey.subject))

    def _after_document(
        self, journey: Journey[T], read: Callable[[bytes], T], reply: Reply
    ) -> None:
        if reply.failure is not None:
            self._note(reply)
            journey.fail(reply.failure)
        elif documents.is_failure(reply.body):  # AWS answers 200, and may find out later
            journey.fail(failure_of_answer(500, wire.error_code(reply.body), journey.subject))
        else:
            journey.land(read(reply.body))

    # --- what awscrt cannot: metadata that is not UTF-8 ------------------------------------

    def _head_by_boto(self, journey: Journey[ObjectInfo]) -> None:
        key = journey.subject.key
        with translated(journey.subject):
            answer = self._access.client.head_object(Bucket=self.bucket, Key=key)
        journey.land(wire.object_info(key, answer["ResponseMetadata"]["HTTPHeaders"]))

    def _get_by_boto(
        self, journey: Journey[Fetched], spoken: str, size: int, etag: str | None
    ) -> None:
        condition: dict[str, Any] = {"IfMatch": f'"{etag}"'} if etag else {}
        with translated(journey.subject):
            answer = self._access.client.get_object(
                Bucket=self.bucket, Key=journey.subject.key, Range=spoken, **condition
            )
            body = answer["Body"].read()
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        self._land_fetched(journey, size, etag, headers, body)

    # --- the bucket ------------------------------------------------------------------------

    def _subject(self, key: str = "") -> Subject:
        return Subject(self._endpoint, self.bucket, key)

    def _saw_bucket(self) -> None:
        """Remember that it exists, so that a HEAD's 404 speaks of the key.

        A bucket must be empty to be deleted: even if it went since, the key is not there. But
        one that never was, or went long ago, must not look like a tree of deleted files.
        """
        self._bucket_seen_sec = monotonic()

    def _note(self, reply: Reply) -> None:
        if isinstance(reply.failure, NoSuchKey):
            self._saw_bucket()


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def content_md5(body: bytes) -> tuple[str, str]:
    return _content(_md5(body))


def _content(md5: bytes) -> tuple[str, str]:
    return "Content-MD5", b64encode(md5).decode()


def _if(condition: Condition, capabilities: Capabilities) -> list[tuple[str, str]]:
    """The condition in the form that the server was seen to honour; else none."""
    form = capabilities.put_if_match
    if condition.etag and form != "no":
        quote = '"' if form == "quoted" else ""
        return [("If-Match", f"{quote}{condition.etag}{quote}")]
    if condition.absent and capabilities.put_if_absent:
        return [("If-None-Match", "*")]
    return []
