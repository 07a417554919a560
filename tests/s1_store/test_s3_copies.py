"""`S3Store.copy` of what is too large for one request, against a server that says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.errors import NoSuchKey, PreconditionFailed, Refused
from qarnotfs.store.base import PART_BYTES_MAX, Attributes
from qarnotfs.store.s3.wire import COPY_PART_BYTES
from tests.faulty_server import Answer, Request, s3_error
from tests.s1_store.conftest import Faulty

XML = {"Content-Type": "application/xml"}
VERSION = {"ETag": '"abc-7"', "Last-Modified": "Sun, 22 Nov 2026 18:59:51 GMT"}
SIZE = PART_BYTES_MAX + COPY_PART_BYTES + 1
COUNT = PART_BYTES_MAX // COPY_PART_BYTES + 2
Step = tuple[str, str]


def step_of(request: Request) -> Step:
    """What one request is for."""
    query = request.target.partition("?")[2]
    if request.method == "PUT":
        return ("part", query.split("&")[0]) if "uploadId" in query else ("copy", "")
    if request.method == "POST":
        return ("complete" if "uploadId" in query else "create", "")
    return {"DELETE": "abort"}.get(request.method, request.method), ""


def aws(
    size: int = SIZE, refusal: str = "InvalidRequest", failing: Answer | None = None
) -> Callable[[Request], Answer]:
    """As AWS, with one large object; ``failing`` is its answer to a part."""

    def answer(request: Request) -> Answer:
        step = step_of(request)[0]
        if step == "HEAD":
            told = {"Content-Type": "text/x", "x-amz-meta-mtime": "7"}
            return Answer(200, {**VERSION, **told}, length=size)
        if step == "copy":
            return s3_error(400, refusal)
        if step == "part":
            copied = b"<CopyPartResult><ETag>&quot;p&quot;</ETag></CopyPartResult>"
            return failing or Answer(200, XML, copied)
        done = {
            "create": b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            b"</InitiateMultipartUploadResult>",
            "complete": b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
        }
        return Answer(204 if step == "abort" else 200, XML, done.get(step, b""))

    return answer


def steps(faulty: Faulty) -> list[str]:
    return [step_of(request)[0] for request in faulty.server.requests]


@pytest.mark.parametrize("refusal", ["InvalidRequest", "EntityTooLarge", "InvalidArgument"])
@pytest.mark.parametrize("attributes", [None, Attributes({"mode": "1"}, "text/y")])
def test_what_is_too_large_is_copied_in_parts(
    faulty: Faulty, refusal: str, attributes: Attributes | None
) -> None:
    faulty.answers_by(aws(refusal=refusal))
    assert faulty.store.copy("key", "other", attributes).size == SIZE
    assert steps(faulty) == [
        "copy",
        "HEAD",
        "create",
        *["part"] * COUNT,
        "HEAD",
        "complete",
        "HEAD",
    ]
    parts = [request for request in faulty.server.requests if step_of(request)[0] == "part"]
    assert parts[0].headers["x-amz-copy-source-range"] == f"bytes=0-{COPY_PART_BYTES - 1}"
    assert parts[-1].headers["x-amz-copy-source-range"] == f"bytes={SIZE - 1}-{SIZE - 1}"
    created = next(r.headers for r in faulty.server.requests if step_of(r)[0] == "create")
    meant = ("7", None, "text/x") if attributes is None else (None, "1", "text/y")
    names = ("x-amz-meta-mtime", "x-amz-meta-mode", "content-type")
    assert tuple(created.get(name) for name in names) == meant


def test_a_copy_that_is_refused_for_another_reason(faulty: Faulty) -> None:
    faulty.answers_by(aws(size=PART_BYTES_MAX))
    with pytest.raises(Refused):
        faulty.store.copy("key", "other")
    assert steps(faulty) == ["copy", "HEAD"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(404, "NoSuchKey"), NoSuchKey),
        (s3_error(412, "PreconditionFailed"), PreconditionFailed),
    ],
)
def test_a_part_that_fails_leaves_no_upload(
    faulty: Faulty, answer: Answer, error: type[Exception]
) -> None:
    faulty.answers_by(aws(failing=answer))
    with pytest.raises(error):
        faulty.store.copy("key", "other")
    assert steps(faulty)[-1] == "abort"


def test_nor_does_an_interruption(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(faulty.store, "copy_part", interrupted)
    faulty.answers_by(aws())
    with pytest.raises(KeyboardInterrupt):
        faulty.store.copy("key", "other")
    assert steps(faulty) == ["copy", "HEAD", "create", "abort"]


def test_an_abort_that_fails_does_not_hide_why(faulty: Faulty) -> None:
    whole = aws(failing=s3_error(404, "NoSuchKey"))
    faulty.answers_by(lambda request: Answer(500) if request.method == "DELETE" else whole(request))
    with pytest.raises(NoSuchKey):
        faulty.store.copy("key", "other")
