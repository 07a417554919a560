"""Logging in to Qarnot, against a REST endpoint of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from qarnotfs.connection import Connection
from qarnotfs.errors import (
    CredentialsRejected,
    QarnotfsError,
    Refused,
    Unavailable,
    UsageError,
)
from tests.faulty_server import Answer, Reset
from tests.qarnot_api import QarnotApi

TOKEN = "tok%en-0123456789abcdef"
EMAIL = "someone@example.com"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[QarnotApi]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_PROFILE", "of-someone-else")  # must not matter to a Qarnot login
    api = QarnotApi(TOKEN, EMAIL, "http://127.0.0.1:9/")
    with api:
        yield api


@pytest.fixture
def login() -> Iterator[Callable[..., Connection]]:
    """`Connection.from_environment`, closed afterwards."""
    made: list[Connection] = []

    def login(environ: Mapping[str, str], **given: Any) -> Connection:
        made.append(Connection.from_environment(environ=environ, **given))
        return made[-1]

    yield login
    for connection in made:
        connection.close()


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def signing(connection: Connection) -> tuple[str, str]:
    keys = connection._access.keys()
    return keys.access_key, keys.secret_key


# --- where the token and the URLs come from -------------------------------------------


def test_a_token_in_the_environment(api: QarnotApi, login: Callable[..., Connection]) -> None:
    connection = login({**api.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    assert signing(connection) == (EMAIL, TOKEN)
    assert connection.endpoint == "http://127.0.0.1:9"
    assert sorted(request.target for request in api.requests) == ["/info", "/settings"]
    assert connection.s3client is connection.s3client
    assert connection.s3client.meta.endpoint_url == "http://127.0.0.1:9"
    assert connection.s3resource is connection.s3resource
    assert connection.s3resource.meta.client.meta.endpoint_url == "http://127.0.0.1:9"


def test_a_conf_file(api: QarnotApi, login: Callable[..., Connection], tmp_path: Path) -> None:
    conf = written(
        tmp_path / "qarnot.conf",
        f"[cluster]\nurl={api.url}/\ntimeout=5\nunsafe=False\n[client]\ntoken={TOKEN}\n",
    )
    assert signing(login({}, conf=conf)) == (EMAIL, TOKEN)
    assert signing(login({"QARNOT_CONF": str(conf)})) == (EMAIL, TOKEN)
    other = {"QARNOT_CLIENT_TOKEN": "x", "QARNOT_CLUSTER_URL": "http://127.0.0.1:1"}
    assert signing(login(other, conf=conf)) == (EMAIL, TOKEN)  # the file goes first


def test_a_conf_file_of_old(
    api: QarnotApi, login: Callable[..., Connection], tmp_path: Path
) -> None:
    conf = written(tmp_path / "c", f"[cluster]\nurl={api.url}\n[client]\nauth={TOKEN}\n")
    assert signing(login({}, conf=conf)) == (EMAIL, TOKEN)


def test_a_conf_file_with_the_rest_in_the_environment(
    api: QarnotApi, login: Callable[..., Connection], tmp_path: Path
) -> None:
    conf = written(tmp_path / "c", "[storage]\nurl=http://storage.invalid:81/\n")
    connection = login(api.environ, conf=conf)
    assert connection.endpoint == "http://storage.invalid:81"
    assert [request.target for request in api.requests] == ["/info"]


def test_the_storage_url_may_be_said(api: QarnotApi, login: Callable[..., Connection]) -> None:
    environ = {**api.environ, "QARNOT_STORAGE_URL": "https://storage.invalid"}
    assert login(environ).endpoint == "https://storage.invalid"
    given = login(environ, endpoint="http://given.invalid/s3/", region="mars")
    assert given.endpoint == "http://given.invalid/s3"
    assert given.s3client.meta.region_name == "mars"


def test_a_passing_failure_is_not_shown(api: QarnotApi, login: Callable[..., Connection]) -> None:
    left = [Answer(503), Reset()]
    choose = api.answer
    api.answer = lambda request: left.pop() if left else choose(request)
    assert signing(login(api.environ)) == (EMAIL, TOKEN)


def test_a_proxy_of_the_environment(
    api: QarnotApi, login: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", api.url.replace("//", "//me:secret@"))
    monkeypatch.setenv("http_proxy", api.url.replace("//", "//me:secret@"))
    api.answers = {f"http://api.invalid{path}": found for path, found in api.answers.items()}
    connection = login({**api.environ, "QARNOT_CLUSTER_URL": "http://api.invalid"})
    assert signing(connection) == (EMAIL, TOKEN)
    assert api.requests[0].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own
def test_the_connection_of_the_sdk(api: QarnotApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE")  # it matters to the SDK
    sdk = pytest.importorskip("qarnot.connection")
    theirs = sdk.Connection(client_token=TOKEN, cluster_url=api.url)
    ours = Connection.of_sdk(theirs)
    assert signing(ours) == (EMAIL, TOKEN)
    assert ours.endpoint == "http://127.0.0.1:9"
    assert ours._access.verify
    ours.close()
    theirs._http.close()
    theirs.s3client.close()
    theirs.s3resource.meta.client.close()


# --- TLS, as it was asked for ---------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "environ", "given", "verify"),
    [
        ("", {}, {}, True),
        ("unsafe=true", {}, {}, False),
        ("unsafe=true", {"QARNOT_CLUSTER_UNSAFE": "0"}, {}, False),
        ("unsafe=false", {"QARNOT_CLUSTER_UNSAFE": "1"}, {}, True),
        ("", {}, {"verify_tls": False}, False),
    ],
)
def test_whether_the_storage_is_verified(
    api: QarnotApi,
    login: Callable[..., Connection],
    tmp_path: Path,
    lines: str,
    environ: dict[str, str],
    given: dict[str, Any],
    verify: bool,
) -> None:
    conf = written(tmp_path / "c", f"[storage]\n{lines}\n")
    assert login({**api.environ, **environ}, conf=conf, **given)._access.verify is verify


def test_whose_certificates_are_trusted(
    api: QarnotApi, login: Callable[..., Connection], tmp_path: Path
) -> None:
    mine, other = written(tmp_path / "mine.pem", ""), written(tmp_path / "other.pem", "")
    conf = written(tmp_path / "c", f"[storage]\ncustom_certificate={mine}\n")
    assert login(api.environ, conf=conf)._access.ca_file == str(mine)
    assert login(api.environ, conf=conf, ca_bundle=other)._access.ca_file == str(other)
    assert Path(login(api.environ)._access.ca_file or "").is_file()


# --- what can be wrong ----------------------------------------------------------------


def failing(environ: Mapping[str, str], **given: Any) -> QarnotfsError:
    with pytest.raises(QarnotfsError) as raised:
        Connection.from_environment(environ=environ, **given)
    shown = f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"
    assert TOKEN not in shown
    assert "secret" not in shown
    assert str(raised.value).endswith(".")
    return raised.value


def test_a_wrong_token(api: QarnotApi, tmp_path: Path) -> None:
    wrong = {**api.environ, "QARNOT_CLIENT_TOKEN": "wrong-secret"}
    error = failing(wrong)
    assert isinstance(error, CredentialsRejected)
    assert str(error) == f"The token was rejected by {api.url}: check QARNOT_CLIENT_TOKEN."
    conf = written(tmp_path / "c", f"[cluster]\nurl={api.url}\n[client]\ntoken=wrong-secret\n")
    assert str(conf) in str(failing({}, conf=conf))
    api.answers["/info"] = Answer(403)
    assert isinstance(failing(api.environ), CredentialsRejected)


def test_nobody_answers() -> None:
    url = "http://127.0.0.1:1"
    error = failing({"QARNOT_CLIENT_TOKEN": TOKEN, "QARNOT_CLUSTER_URL": url})
    assert isinstance(error, Unavailable)
    assert url in str(error)
    assert "QARNOT_CLUSTER_URL" in str(error)


def test_the_cluster_is_down(api: QarnotApi) -> None:
    api.answers["/info"] = Answer(503)
    assert isinstance(failing(api.environ), Unavailable)


@pytest.mark.parametrize(
    "answer",
    [Answer(404), Answer(200, {}, b"<html>"), Answer(200, {}, b"[]"), Answer(200, {}, b"\xff")],
)
def test_something_else_answers(api: QarnotApi, answer: Answer) -> None:
    api.answers["/info"] = answer
    error = failing(api.environ)
    assert isinstance(error, Refused)
    assert "QARNOT_CLUSTER_URL" in str(error)


def test_an_account_without_email_or_storage(api: QarnotApi) -> None:
    api.answers["/settings"] = Answer(200, {}, b'{"storage": null}')
    assert "offers no storage" in str(failing(api.environ))
    api.answers["/info"] = Answer(200, {}, b"{}")
    assert isinstance(failing(api.environ), Refused)


@pytest.mark.parametrize(
    "text",
    [
        f"token={TOKEN}",
        f"[client\ntoken={TOKEN}",
        f"[client]\ntoken={TOKEN}\ntoken={TOKEN}",
        f"[client]\n{TOKEN}",
        "[client]\n",
        f"[client]\ntoken={TOKEN}\n[cluster]\nunsafe=perhaps",
        f"[client]\ntoken={TOKEN}\n[cluster]\ntimeout=soon",
        f"[client]\ntoken={TOKEN}\n[cluster]\ntimeout=-1",
        f"[client]\ntoken={TOKEN}\n[cluster]\nurl=api.qarnot.com",
        f"[client]\ntoken={TOKEN}\n[cluster]\nurl=https://me:secret@api.qarnot.com",
        f"[client]\ntoken={TOKEN}\n[cluster]\ncustom_certificate=/none.pem",
        f"[client]\ntoken={TOKEN}\n[storage]\nurl=ftp://x",
    ],
)
def test_a_conf_file_that_is_wrong(text: str, tmp_path: Path) -> None:
    conf = written(tmp_path / "qarnot.conf", text)
    error = failing({}, conf=conf)
    assert isinstance(error, UsageError)
    assert str(conf) in str(error) or "QARNOT_CLUSTER_TIMEOUT" in str(error)


def test_a_conf_file_that_is_not_there(tmp_path: Path) -> None:
    error = failing({}, conf=tmp_path / "none.conf")
    assert isinstance(error, UsageError)
    assert "none.conf" in str(error)


def test_nothing_shows_the_token(api: QarnotApi, login: Callable[..., Connection]) -> None:
    connection = login(api.environ)
    store = connection.store("bucket")
    shown = [connection, connection._access, store, connection.s3client, connection._access.keys()]
    assert not any(TOKEN in f"{thing!r} {thing!s}" for thing in shown)
    assert repr(connection) == "Connection(som…@example.com at http://127.0.0.1:9)"
    store.close()
