"""HEAD of several keys at once: what it says, and that it says nothing where it is not sure."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.store.base import Attributes, ObjectInfo, Store
from qarnotfs.store.s3 import S3Store, heads, paths
from qarnotfs.store.s3.signing import NO_BODY, Signer
from tests.faulty_server import Answer, Request, Reset, Silence
from tests.rgw import Gateway
from tests.s1_store.conftest import Faulty, access_to, make_access
from tests.support import eventually

VERSION = {"ETag": '"abc0"', "Last-Modified": "Sun, 22 Nov 2026 18:59:51 GMT"}
GOOD = Answer(200, VERSION, b"data")
INFO = ObjectInfo("a", 4, "abc0", 1_795_373_991, {}, None)
ODD = [
    "a",
    "a/b",
    "a//b",
    "dir/",
    "./x",
    "é ü",
    "%2F",
    "a+b",
    "q?x=1&y",
    "new\nline",
    "~tilde*!'()",
]


def infos(store: Store, keys: list[str]) -> dict[str, ObjectInfo | None]:
    return {key: store.head(key).result() for key in keys}


def test_they_say_what_a_head_says(store: Store) -> None:
    for number, key in enumerate(ODD):
        attributes = Attributes({"mode": "33188", "mtime": str(number), "name": "é"}, "text/x")
        store.put(key, b"x" * number, attributes).result()
    assert store.heads(ODD) == infos(store, ODD)
    assert store.heads([*ODD, "gone"]) == infos(store, ODD) | {"gone": None}


@pytest.mark.gateway
def test_over_tls_with_the_certificates_that_are_trusted(gateway_tls: Gateway) -> None:
    access = make_access(gateway_tls)
    store, blind = S3Store("tls-heads", access), S3Store("tls-heads", access_to(access.endpoint))
    access.client.create_bucket(Bucket="tls-heads")
    store.put("a", b"data", Attributes()).result()
    assert store.heads(["a"]) == infos(store, ["a"])
    assert blind.heads(["a"]) == {}
    for one in (store, blind):
        one.close()
    access.close()


@pytest.mark.gateway
def test_a_bucket_that_is_gone_is_no_missing_key(s3_store: S3Store, gateway: Gateway) -> None:
    other = S3Store("no-such-bucket", make_access(gateway))
    assert other.heads(["a", "b"]) == {}
    other.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[heads._Connection]:
    """Every connection that is made."""
    made: list[heads._Connection] = []
    real = heads._Connection.__init__

    def counted(self: heads._Connection, *given: Any) -> None:
        made.append(self)
        real(self, *given)

    monkeypatch.setattr(heads._Connection, "__init__", counted)
    return made


@pytest.mark.gateway
def test_a_connection_is_made_ahead(
    s3_store: S3Store, made: list[heads._Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "IDLE_SEC_MAX", 60.0)
    s3_store.put("a", b"data", Attributes()).result()
    for _ in range(3):
        s3_store.prepare_heads()  # one at a time
    eventually(lambda: s3_store._heads._idle)
    [idle] = s3_store._heads._idle
    s3_store.prepare_heads()
    eventually(lambda: not s3_store._heads._preparing)
    assert s3_store._heads._idle == [idle]  # since when, too: the server may be about to close it
    assert len(s3_store.heads(["a", "b"])) == 2
    assert len(made) == 1


def test_where_nobody_answers_none_is_made_ahead(made: list[heads._Connection]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        access = access_to(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        store = S3Store("bucket", access)
        for count in (1, 2):
            store.prepare_heads()
            eventually(lambda: not store._heads._preparing)
            assert len(made) == count
        assert not store._heads._idle
        store.close()
        store.prepare_heads()
        assert len(made) == 2
        access.close()


@pytest.mark.gateway
def test_without_threads_none_is_made_ahead(
    s3_store: S3Store, made: list[heads._Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        s3_store.prepare_heads()
    assert not made
    s3_store.prepare_heads()
    eventually(lambda: s3_store._heads._idle)


@pytest.mark.gateway
def test_a_connection_is_used_again(
    s3_store: S3Store, made: list[heads._Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "IDLE_SEC_MAX", 60.0)
    s3_store.put("a", b"data", Attributes()).result()
    for _ in range(3):
        assert len(s3_store.heads(["a", "b"])) == 2
    assert len(made) == 1
    monkeypatch.setattr(heads, "IDLE_SEC_MAX", 0.0)
    assert len(s3_store.heads(["a", "b"])) == 2
    assert len(made) == 2


def by_key(**answers: Answer) -> Callable[[Request], Answer]:
    return lambda request: answers.get(request.target.rpartition("/")[2], GOOD)


@pytest.mark.parametrize(
    ("trouble", "rest"),
    [
        (Answer(503), True),
        (Answer(403), True),
        (Answer(301, {"Location": "http://elsewhere/"}), True),
        (Reset(), False),
        (Answer(200, {}), False),  # no version
        (Answer(200, VERSION | {"Last-Modified": "soon"}), False),
        (Answer(200, VERSION | {"x-amz-meta-name": "\xff"}), False),  # not UTF-8
    ],
)
def test_what_is_not_certain_is_left_out(faulty: Faulty, trouble: Answer, rest: bool) -> None:
    """And where an answer cannot be read, what comes behind it."""
    faulty.answers_by(by_key(b=trouble))
    found = faulty.store.heads(["a", "b", "c"])
    assert found.pop("a") == INFO
    assert list(found) == (["c"] if rest else [])


def test_after_trouble_it_leaves_the_server_alone(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.answers(Reset())
    assert faulty.store.heads(["a"]) == {}
    faulty.answers(GOOD)
    assert faulty.store.heads(["a"]) == {}
    assert faulty.methods == []
    faulty.store._heads._paused_sec = 0.0
    assert faulty.store.heads(["a"]) == {"a": INFO}


def test_a_server_that_hangs_is_not_waited_for_long(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = heads._Connection.answer

    def answer(self: heads._Connection) -> tuple[int, dict[str, str]]:
        found = real(self)
        self._socket.settimeout(0.1)  # from the second answer on, which never comes
        return found

    monkeypatch.setattr(heads._Connection, "answer", answer)
    faulty.answers_by(by_key(b=Silence()))
    assert faulty.store.heads(["a", "b"]) == {"a": INFO}


def test_a_server_that_hangs_up_is_believed(faulty: Faulty) -> None:
    faulty.answers(Answer(200, VERSION | {"Connection": "close"}, b"data"))
    for _ in range(2):
        assert faulty.store.heads(["a"]) == {"a": INFO}


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50
    ),
    st.text("abcXYZ019/+=", min_size=1, max_size=40),
    st.none() | st.text("abcXYZ019/+=", min_size=1, max_size=40),
)
def test_signatures_are_those_of_botocore(key: str, secret: str, token: str | None) -> None:
    path = paths.object_path("bucket", key)
    theirs = AWSRequest("HEAD", f"http://host:7480{path}", {"X-Amz-Content-SHA256": NO_BODY})
    S3SigV4Auth(Credentials("AK", secret, token), "s3", "here").add_auth(theirs)
    now = theirs.context["timestamp"]
    ours = Signer("AK", secret, token, "here", now).request("HEAD", "host:7480", path).decode()
    assert f"\r\nauthorization: {theirs.headers['Authorization']}\r\n" in ours
    assert ours.startswith(f"HEAD {path} HTTP/1.1\r\nhost: host:7480\r\n")
    assert ours.endswith("\r\n\r\n")
