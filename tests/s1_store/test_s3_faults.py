"""`S3Store` against a server that breaks its promises: what each failure is called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from qarnotfs.errors import (
    ClockSkewed,
    Corrupt,
    CredentialsExpired,
    CredentialsRejected,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.base import Attributes, Capabilities, Condition, Flight
from qarnotfs.store.s3 import S3Store
from tests.faulty_server import Answer, Reset, Silence, s3_error
from tests.s1_store.conftest import Faulty, access_to
from tests.support import eventually

MD5_OF_DATA = hashlib.md5(b"data").hexdigest()
MODIFIED = "Sun, 22 Nov 2026 18:59:51 GMT"
VERSION = {"ETag": f'"{MD5_OF_DATA}"', "Last-Modified": MODIFIED}
RANGE = {**VERSION, "Content-Range": "bytes 0-3/4"}
OK_RANGE = Answer(206, RANGE, b"data")


CALLS: dict[str, Callable[[S3Store], object]] = {
    "head": lambda store: store.head("key").result(),
    "get": lambda store: store.get("key", 0, 4).result(),
    "put": lambda store: store.put("key", b"data", Attributes()).result(),
    "upload_part": lambda store: store.upload_part("key", "id", 1, b"data").result(),
    "list_page": lambda store: store.list_page(""),
    "copy": lambda store: store.copy("key", "other"),
    "copy_object": lambda store: store.copy_object("key", "other").result(),
    "delete": lambda store: store.delete(["key"]),
    "empty_bucket": lambda store: store.empty_bucket(),
    "create_upload": lambda store: store.create_upload("key", Attributes()),
    "complete_upload": lambda store: store.complete_upload("key", "id", [MD5_OF_DATA]),
    "abort_upload": lambda store: store.abort_upload("key", "id"),
    "check": lambda store: store.check(),
    "probe": lambda store: store.probe(),
}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(500, "InternalError"), Unavailable),
        (s3_error(503, "SlowDown"), Unavailable),
        (s3_error(429, "TooManyRequests"), Unavailable),
        (s3_error(400, "RequestTimeout"), Unavailable),
        (Answer(502, {"Content-Type": "text/html"}, b"<html>Bad gateway"), Unavailable),
        (Answer(507), Unavailable),
        (Reset(), Unavailable),
        (s3_error(403, "AccessDenied"), Refused),
        (s3_error(403, "InvalidAccessKeyId"), CredentialsRejected),
        (s3_error(403, "SignatureDoesNotMatch"), CredentialsRejected),
        (s3_error(400, "ExpiredToken"), CredentialsExpired),
        (s3_error(403, "RequestTimeTooSkewed"), ClockSkewed),
        (s3_error(400, "AuthorizationHeaderMalformed"), Refused),
        (s3_error(404, "NoSuchBucket"), NoSuchBucket),
        (Answer(404, {"Content-Type": "text/html"}, b"<html>Not found"), Refused),
        (Answer(405), Refused),
    ],
)
def test_each_failure_has_its_name(faulty: Faulty, answer: Answer, error: type[StoreError]) -> None:
    faulty.answers(answer)
    for name, call in CALLS.items():
        with pytest.raises(StoreError) as raised:
            call(faulty.store)
        assert (name, type(raised.value)) == (name, error)
        sentence = str(raised.value)
        assert sentence.endswith(".")
        assert "not-a-secret" not in sentence + repr(raised.value)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AuthorizationHeaderMalformed", "--region"),
        ("InvalidAccessKeyId", "QARNOT_CLIENT_TOKEN"),
        ("RequestTimeTooSkewed", "clock"),
        ("ExpiredToken", "expired"),
        ("AccessDenied", "permission"),
    ],
)
def test_sentences_say_what_to_do(faulty: Faulty, code: str, hint: str) -> None:
    faulty.answers(s3_error(403, code))
    for call in CALLS.values():
        with pytest.raises(Refused, match=hint):
            call(faulty.store)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<Error><Code>InternalError</Code></Error>", Unavailable),
        (b"<Error><Code>NoSuchKey</Code></Error>", NoSuchKey),
        (b"", Unavailable),
    ],
)
def test_a_copy_that_fails_after_it_said_200(
    faulty: Faulty, body: bytes, error: type[StoreError]
) -> None:
    faulty.answers(Answer(200, {"Content-Type": "application/xml"}, body))
    with pytest.raises(error):
        faulty.store.copy_object("key", "other").result()


# --- absence --------------------------------------------------------------------------


def test_a_404_without_reason_is_looked_into(faulty: Faulty) -> None:
    faulty.answers_by(lambda request: s3_error(404, "NoSuchBucket"))
    with pytest.raises(NoSuchBucket):
        faulty.store.head("key").result()
    faulty.answers_by(lambda request: s3_error(404, "NoSuchKey"))
    with pytest.raises(NoSuchKey):
        faulty.store.head("key").result()
    assert faulty.methods == ["HEAD", "GET"]
    with pytest.raises(NoSuchKey):  # the bucket was seen a moment ago
        faulty.store.head("key").result()
    assert faulty.methods == ["HEAD", "GET", "HEAD"]


def test_an_object_that_appears_meanwhile_is_found(faulty: Faulty) -> None:
    first = {**VERSION, "Content-Range": "bytes 0-0/4"}
    faulty.answers(Answer(404), Answer(206, first, b"d"))
    assert faulty.store.head("key").result().size == 4
    faulty.store._bucket_seen_sec = 0.0
    faulty.answers(Answer(404), s3_error(416, "InvalidRange"))
    with pytest.raises(Unavailable):
        faulty.store.head("key").result()


@pytest.mark.parametrize("second", [Reset(), Answer(500), s3_error(403, "AccessDenied")])
def test_an_error_while_looking_is_no_absence(faulty: Faulty, second: Answer) -> None:
    faulty.answers(Answer(404), second)
    with pytest.raises((Unavailable, Refused)):
        faulty.store.head("key").result()


# --- bodies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Answer(206, RANGE, b"da", length=4),
        Answer(206, {**RANGE, "Content-Range": "bytes 0-1/4"}, b"da"),
        Answer(206, {**RANGE, "Content-Range": "bytes 4-7/8"}, b"data"),
        Answer(206, {**RANGE, "Content-Range": "bytes 0-4/5"}, b"datas"),
        Answer(200, VERSION, b"data and more"),
        Answer(206, {"Content-Range": "bytes 0-3/4"}, b"data"),
        Answer(206, {**RANGE, "Last-Modified": "yesterday"}, b"data"),
    ],
    ids=["ends early", "short", "elsewhere", "long", "no range", "no etag", "no date"],
)
def test_a_body_that_is_not_what_was_asked_is_never_returned(
    faulty: Faulty, answer: Answer
) -> None:
    faulty.answers(answer)
    with pytest.raises(Unavailable):
        faulty.store.get("key", 0, 4).result()


def test_a_lost_answer_is_asked_again_within(faulty: Faulty) -> None:
    faulty.answers(Reset(), Answer(206, RANGE, b"d", length=4), OK_RANGE)
    assert faulty.store.get("key", 0, 4).result().data == b"data"


def test_the_bytes_of_a_whole_object_are_those_of_its_etag(faulty: Faulty) -> None:
    body = b"data" * 50_000
    whole = {"Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"}
    for right, wrong in ((b"data", b"dada"), (body, b"D" + body[1:])):
        etag = hashlib.md5(right, usedforsecurity=False).hexdigest()
        said = {**RANGE, "ETag": f'"{etag}"', **(whole if right is body else {})}
        faulty.answers(Answer(206, said, right))
        assert faulty.store.get("key", 0, len(right)).result().data == right
        faulty.answers(Answer(206, said, wrong))
        with pytest.raises(Unavailable, match="checksum"):
            faulty.store.get("key", 0, len(right)).result()


def test_a_server_that_ignores_if_match(faulty: Faulty) -> None:
    faulty.answers(OK_RANGE)
    assert faulty.store.get("key", 0, 4, etag=MD5_OF_DATA).result().data == b"data"
    with pytest.raises(PreconditionFailed):
        faulty.store.get("key", 0, 4, etag="0" * 32).result()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # awscrt's
def test_an_object_with_metadata_in_another_encoding_is_readable(faulty: Faulty) -> None:
    odd = {"x-amz-meta-place": "caf\xe9"}  # sent as one byte, which is no UTF-8
    faulty.answers_by(
        lambda request: (
            Answer(200, {**VERSION, **odd}, b"data")
            if request.method == "HEAD"
            else Answer(206, {**RANGE, **odd}, b"data")
        )
    )
    info = faulty.store.head("key").result()
    fetched = faulty.store.get("key", 0, 4, etag=MD5_OF_DATA).result()
    with pytest.raises(PreconditionFailed):
        faulty.store.get("key", 0, 4, etag="0" * 32).result()
    assert info.metadata == {"place": "caf\xe9"}
    assert (fetched.data, fetched.info) == (b"data", info)


# --- puts -----------------------------------------------------------------------------


def test_an_etag_that_is_not_the_bytes_is_corrupt(faulty: Faulty) -> None:
    faulty.answers(Answer(200, {"ETag": '"00000000000000000000000000000000"'}))
    for body in (b"data", b"x" * 100_000):
        with pytest.raises(Corrupt):
            faulty.store.put("key", body, Attributes()).result()
        with pytest.raises(Corrupt):
            faulty.store.upload_part("key", "id", 1, body).result()


def test_what_the_server_found_damaged_is_corrupt(faulty: Faulty) -> None:
    faulty.answers(s3_error(400, "BadDigest"))
    with pytest.raises(Corrupt):
        faulty.store.put("key", b"data", Attributes()).result()


def test_each_put_carries_its_md5_and_waits_for_nothing(faulty: Faulty) -> None:
    faulty.answers(Answer(200, VERSION))
    faulty.store.put("key", b"data", Attributes()).result()
    (request,) = faulty.server.requests
    assert request.headers["content-md5"] == "jXd/OF09/siBXSD3SWAm3A=="
    assert "expect" not in request.headers
    assert request.body == b"data"


def test_an_etag_of_kms_is_no_md5(faulty: Faulty) -> None:
    kms = {"ETag": '"0123"', "x-amz-server-side-encryption": "aws:kms"}
    faulty.answers(Answer(200, kms))
    assert faulty.store.put("key", b"data", Attributes()).result() == "0123"


@pytest.mark.parametrize(("form", "sent"), [("quoted", '"abc"'), ("unquoted", "abc"), ("no", None)])
def test_conditions_are_sent_in_the_form_that_works(
    faulty: Faulty, form: str, sent: str | None
) -> None:
    faulty.answers(Answer(200, VERSION))
    faulty.store.capabilities = Capabilities(form != "no", form)  # type: ignore[arg-type]  # a str from the table
    faulty.store.put("key", b"data", Attributes(), Condition(etag="abc")).result()
    faulty.store.put("key", b"data", Attributes(), Condition(absent=True)).result()
    first, second = faulty.server.requests
    assert first.headers.get("if-match") == sent
    assert second.headers.get("if-none-match") == (None if form == "no" else "*")


def test_a_put_whose_answer_was_lost_is_no_conflict(faulty: Faulty) -> None:
    faulty.store.capabilities = Capabilities(True, "quoted")
    found = Answer(200, {**VERSION, "x-amz-meta-mtime": "1"}, b"data")
    faulty.answers(Reset(), s3_error(412, "PreconditionFailed"), found)
    put = faulty.store.put("key", b"data", Attributes({"mtime": "1"}), Condition(absent=True))
    assert put.result() == MD5_OF_DATA
    assert faulty.methods == ["PUT", "PUT", "HEAD"]
    faulty.answers(s3_error(412, "PreconditionFailed"), Answer(500))
    with pytest.raises(Unavailable):
        faulty.store.put("key", b"data", Attributes(), Condition(absent=True)).result()


def test_both_libraries_take_the_proxy_of_the_environment(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, faulty.server.url)
    access = access_to("http://storage.invalid")
    store = S3Store("bucket", access)
    faulty.answers(Answer(200, VERSION))
    assert store.head("key").result().etag == MD5_OF_DATA
    store.delete_bucket()
    store.close()
    access.close()
    hot, control = (request.target for request in faulty.server.requests)
    assert hot == "http://storage.invalid:80/bucket/key"
    assert control == "http://storage.invalid/bucket"


# --- giving up ------------------------------------------------------------------------


def test_a_hung_server_holds_nobody_who_gives_up(faulty: Faulty) -> None:
    faulty.answers(Silence())
    flights: list[Flight[Any]] = [
        faulty.store.head("key"),
        faulty.store.get("key", 0, 4),
        faulty.store.put("key", b"data", Attributes()),
        faulty.store.put("key", b"x" * 1_000_000, Attributes()),
    ]
    eventually(lambda: len(faulty.server.requests) == len(flights))
    for flight in flights:
        assert not flight.cancel()
        flight.abort()
        assert isinstance(flight.exception(timeout=0), Unavailable)
        flight.abort()
    faulty.answers(OK_RANGE)
    assert faulty.store.get("key", 0, 4).result().data == b"data"


def test_closing_ends_what_is_under_way(faulty: Faulty) -> None:
    faulty.answers(Silence())
    flights = [faulty.store.head("key") for _ in range(3)]
    faulty.store.close()
    assert all(isinstance(flight.exception(timeout=0), Unavailable) for flight in flights)
    for late in (
        faulty.store.head("key"),
        faulty.store.put("key", b"x" * 1_000_000, Attributes()),
    ):
        assert isinstance(late.exception(timeout=5), Unavailable)


def test_a_listing_without_its_token_is_no_end(faulty: Faulty) -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    for answer in (Answer(200, {}, body), Answer(200, {}, body[:40]), Answer(200, {}, b"")):
        faulty.answers(answer)
        with pytest.raises(Unavailable):
            faulty.store.list_page("")
