"""Credentials of any S3: environment, profiles, files; and the SDK's own connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from qarnotfs.connection import Connection
from qarnotfs.errors import QarnotfsError, Refused, Unavailable, UsageError
from qarnotfs.store.base import Attributes
from tests.faulty_server import Answer, FaultyServer, Request
from tests.rgw import Gateway

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
ENDPOINT = "http://storage.invalid:81"


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*KEYS, "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def connect(environ: Mapping[str, str], **given: Any) -> Connection:
        made.append(Connection.from_environment(environ=environ, **given))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def failing(environ: Mapping[str, str], **given: Any) -> QarnotfsError:
    with pytest.raises(QarnotfsError) as raised:
        Connection.from_environment(environ=environ, **given)
    shown = f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"
    assert "not-a-secret" not in shown
    assert str(raised.value).endswith(".")
    return raised.value


def test_keys_in_the_environment(connect: Callable[..., Connection]) -> None:
    connection = connect({**KEYS, "AWS_SESSION_TOKEN": "t", "AWS_ENDPOINT_URL": ENDPOINT + "/"})
    assert connection._access.keys() == ("AKIDEXAMPLE", "not-a-secret", "t")
    assert connection.endpoint == ENDPOINT
    assert connection.identity == "AKID…"
    assert "not-a-secret" not in repr(connection) + repr(connection._access.keys())
    assert connection.s3client.meta.region_name == "us-east-1"


def test_which_endpoint_and_region_win(connect: Callable[..., Connection]) -> None:
    environ = {
        **KEYS,
        "AWS_ENDPOINT_URL": "http://second.invalid",
        "AWS_ENDPOINT_URL_S3": "http://first.invalid",
        "AWS_DEFAULT_REGION": "default",
    }
    assert connect(environ).endpoint == "http://first.invalid"
    assert connect(environ)._access.region == "default"
    assert connect({**environ, "AWS_REGION": "own"})._access.region == "own"
    given = connect(environ, endpoint=ENDPOINT, region="given")
    assert (given.endpoint, given._access.region) == (ENDPOINT, "given")


def test_amazon_itself(connect: Callable[..., Connection]) -> None:
    connection = connect({**KEYS, "AWS_REGION": "eu-west-3"})
    assert connection.endpoint == "https://s3.eu-west-3.amazonaws.com"
    assert connection._access.is_aws


def test_profiles(connect: Callable[..., Connection], tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id=DEFAULT1\naws_secret_access_key=s\n"
        "[work]\naws_access_key_id=WORK1234\naws_secret_access_key=s\n"
    )
    (tmp_path / "config").write_text(f"[profile work]\nregion=mars\nendpoint_url={ENDPOINT}\n")

    def key_of(environ: Mapping[str, str], **given: Any) -> str:
        return connect(environ, **given)._access.keys().access_key

    assert key_of({}) == "DEFAULT1"
    assert key_of({"AWS_PROFILE": "work"}) == "WORK1234"
    assert key_of({**KEYS}, profile="work") == "WORK1234"
    assert key_of({**KEYS}) == "AKIDEXAMPLE"
    assert key_of({"QARNOT_CLIENT_TOKEN": "x"}, profile="work") == "WORK1234"
    work = connect({}, profile="work")
    assert (work.endpoint, work._access.region) == (ENDPOINT, "mars")


def test_files_named_in_the_environment(connect: Callable[..., Connection], tmp_path: Path) -> None:
    path = tmp_path / "elsewhere"
    path.write_text("[default]\naws_access_key_id=ELSEWHERE\naws_secret_access_key=s\n")
    connection = connect({"AWS_SHARED_CREDENTIALS_FILE": str(path)})
    assert connection._access.keys().access_key == "ELSEWHERE"


def test_credentials_that_end_are_refreshed(
    connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's role: both libraries sign with what the endpoint says at the time."""
    handed_out: list[str] = []

    def answer(request: Request) -> Answer:
        if request.target == "/role":
            handed_out.append(f"ROLE{len(handed_out)}")
            body = (
                f'{{"AccessKeyId": "{handed_out[-1]}", "SecretAccessKey": "s", "Token": "t",'
                ' "Expiration": "2020-01-01T00:00:00Z"}'
            )
            if len(handed_out) > 1:
                body = body.replace("2020", "2120")
            return Answer(200, {}, body.encode())
        return Answer(503)

    with FaultyServer(answer) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
        connection = connect({}, endpoint=server.url)
        assert connection.identity == "RO…"
        store = connection.store("bucket")
        with pytest.raises(Unavailable):
            store.head("key").result()
        store.close()
    signed = server.requests[-1].headers["authorization"]
    # Of the first one the time is over. Who waits long for the next asks once more.
    assert any(f"Credential={role}/" in signed for role in handed_out[1:])
    assert server.requests[-1].headers["x-amz-security-token"] == "t"


# --- what can be wrong ----------------------------------------------------------------


def test_no_credentials_anywhere() -> None:
    error = failing({})
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    for way in ("QARNOT_CLIENT_TOKEN", "--conf", "AWS_ACCESS_KEY_ID", "--profile"):
        assert way in str(error)


@pytest.mark.parametrize(
    ("environ", "given", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": "A"}, {}, "AWS_SECRET_ACCESS_KEY"),
        ({}, {"profile": "none"}, "'none'"),
        ({"AWS_PROFILE": "none"}, {}, "'none'"),
        (KEYS, {"endpoint": "localhost:9000"}, "--endpoint"),
        (KEYS, {"endpoint": "http://"}, "--endpoint"),
        (KEYS, {"endpoint": "http://a:b"}, "--endpoint"),
        (KEYS, {"endpoint": "http://x:not-a-secret@host"}, "--endpoint"),
        ({**KEYS, "AWS_ENDPOINT_URL": "host"}, {}, "AWS_ENDPOINT_URL"),
        ({**KEYS, "AWS_CA_BUNDLE": "/none.pem"}, {}, "AWS_CA_BUNDLE names /none.pem"),
        (KEYS, {"ca_bundle": Path("/none.pem")}, "--ca-bundle names /none.pem"),
        (KEYS, {"conf": Path("c"), "profile": "p"}, "not both"),
    ],
)
def test_wrong_input_is_named(environ: dict[str, str], given: dict[str, Any], hint: str) -> None:
    error = failing(environ, **given)
    assert isinstance(error, UsageError)
    assert hint in str(error)


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("aws_secret_access_key=not-a-secret\n")
    error = failing({})
    assert isinstance(error, UsageError)
    assert str(tmp_path / "config") in str(error)


def test_a_role_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/role")
    assert isinstance(failing({}, endpoint=ENDPOINT), Unavailable)


# --- the SDK's connection -------------------------------------------------------------


def test_the_identity_of_any_boto3_client() -> None:
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id="someone@example.com",
        aws_secret_access_key="not-a-secret",
        region_name="mars",
        verify=False,
    )
    connection = Connection.of_sdk(SimpleNamespace(s3client=client))
    assert connection._access.keys() == ("someone@example.com", "not-a-secret", None)
    assert (connection.endpoint, connection._access.region) == (ENDPOINT, "mars")
    assert connection._access.verify is False
    assert Connection.of_sdk(connection) is connection
    client.close()
    connection.close()


def test_a_connection_without_storage() -> None:
    with pytest.raises(Refused, match="no storage"):
        Connection.of_sdk(SimpleNamespace(s3client=None))


# --- on the real gateway --------------------------------------------------------------


def _environ(gateway: Gateway) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": gateway.endpoint,
        "AWS_ACCESS_KEY_ID": gateway.access_key,
        "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
        **({"AWS_CA_BUNDLE": str(gateway.ca_bundle)} if gateway.ca_bundle else {}),
    }


@pytest.mark.gateway
@pytest.mark.parametrize("fixture", ["gateway", "gateway_tls"])
def test_it_works(
    fixture: str, request: pytest.FixtureRequest, connect: Callable[..., Connection]
) -> None:
    connection = connect(_environ(request.getfixturevalue(fixture)))
    store = connection.store("made-by-connection")
    store.create_bucket()
    store.check()
    store.put("key", b"data", Attributes({"a": "é"})).result()
    assert connection.s3client.get_object(Bucket=store.bucket, Key="key")["Body"].read() == b"data"
    assert connection.s3resource.Bucket(store.bucket).Object("key").content_length == 4
    assert store.delete(["key"]) == {}
    store.delete_bucket()
    store.close()
