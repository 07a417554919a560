"""`S3Store` on the real gateway: what has no counterpart in the twin."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qarnotfs.errors import (
    CredentialsRejected,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.base import PART_BYTES_MIN, Attributes, Capabilities, Flight, ObjectInfo
from qarnotfs.store.s3 import Access, S3Store
from tests.rgw import Gateway
from tests.s1_store.conftest import access_to, make_access
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway

PLAIN = Attributes()


@pytest.fixture
def strange() -> Iterator[Callable[[str, Access], S3Store]]:
    """Makes stores that are not meant to work, and closes them."""
    made: list[tuple[S3Store, Access]] = []

    def make(bucket: str, access: Access) -> S3Store:
        made.append((S3Store(bucket, access), access))
        return made[-1][0]

    yield make
    for store, access in made:
        store.close()
        access.close()


def every_call(store: S3Store) -> list[Callable[[], object]]:
    return [
        lambda: store.head("key").result(),
        lambda: store.get("key", 0, 1).result(),
        lambda: store.put("key", b"", PLAIN).result(),
        lambda: store.list_page(""),
        lambda: store.copy("key", "other"),
        lambda: store.copy_object("key", "other").result(),
        store.empty_bucket,
        lambda: store.delete(["key"]),
        lambda: store.create_upload("key", PLAIN),
        store.check,
        store.probe,
    ]


def assert_all_raise(store: S3Store, error: type[StoreError]) -> None:
    for call in every_call(store):
        with pytest.raises(error):
            call()


# --- what the probe and the checks find -----------------------------------------------


def test_probe_finds_out_and_leaves_nothing(
    gateway: Gateway, s3_store: S3Store, s3: S3Client
) -> None:
    assert s3_store.probe() == s3_store.capabilities
    assert s3_store.capabilities == Capabilities(put_if_absent=True, put_if_match="unquoted")
    assert s3_store.list_page("").objects == ()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


def test_a_bucket_that_is_not_there(
    gateway: Gateway, strange: Callable[[str, Access], S3Store]
) -> None:
    assert_all_raise(strange("no-such-bucket", make_access(gateway)), NoSuchBucket)


def test_a_bucket_that_goes_is_no_tree_of_deleted_files(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.store.s3.hot.BUCKET_SEEN_SEC", 0.0)
    with pytest.raises(NoSuchKey):
        s3_store.head("key").result()
    s3_store.delete_bucket()
    with pytest.raises(NoSuchBucket):
        s3_store.head("key").result()
    s3_store.create_bucket()
    s3_store.create_bucket()  # it is ours already
    s3_store.check()


def test_a_bucket_with_objects_is_not_deleted(s3_store: S3Store) -> None:
    s3_store.put("key", b"", PLAIN).result()
    with pytest.raises(Refused, match="not empty"):
        s3_store.delete_bucket()


def test_wrong_credentials(
    gateway: Gateway, bucket: str, strange: Callable[[str, Access], S3Store]
) -> None:
    secret = "guess-" + uuid.uuid4().hex
    for access in (
        access_to(gateway.endpoint, gateway.access_key, secret),
        access_to(gateway.endpoint, "unknown", secret),
    ):
        store = strange(bucket, access)
        assert_all_raise(store, CredentialsRejected)
        for call in every_call(store):
            with pytest.raises(CredentialsRejected) as raised:
                call()
            assert secret not in f"{raised.value!s} {raised.value!r} {raised.value.__cause__!r}"
        assert secret not in repr(access)


def test_nobody_there(strange: Callable[[str, Access], S3Store]) -> None:
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        store = strange("bucket", access_to(url))
        for call in (store.check, lambda store=store: store.head("key").result()):
            with pytest.raises(Unavailable, match="cannot be reached"):
                call()


# --- TLS ------------------------------------------------------------------------------


def test_tls(
    gateway_tls: Gateway, tmp_path: Path, strange: Callable[[str, Access], S3Store]
) -> None:
    keys = gateway_tls.access_key, gateway_tls.secret_key
    for access in (make_access(gateway_tls), access_to(gateway_tls.endpoint, *keys, verify=False)):
        store = strange("tls-bucket", access)
        store.create_bucket()
        store.check()
        store.probe()
        body = hashlib.shake_128(b"tls").digest(9 << 20)
        etag = store.put("key", body, PLAIN).result()
        assert store.get("key", 0, len(body), etag=etag).result().data == body
        upload_id = store.create_upload("key2", PLAIN)
        part = store.upload_part("key2", upload_id, 1, body).result()
        store.complete_upload("key2", upload_id, [part])
        assert store.copy("key2", "key").size == len(body)
        assert store.delete(["key", "key2"]) == {}


def test_s12_an_untrusted_certificate_is_said_at_once(
    gateway_tls: Gateway, strange: Callable[[str, Access], S3Store]
) -> None:
    keys = gateway_tls.access_key, gateway_tls.secret_key
    with pytest.raises(Refused, match="--ca-bundle"):
        strange("tls-bucket", access_to(gateway_tls.endpoint, *keys)).check()


def test_no_secure_connection_is_said_at_once(
    gateway: Gateway,
    gateway_tls: Gateway,
    tmp_path: Path,
    strange: Callable[[str, Access], S3Store],
) -> None:
    """A file that holds no certificate, and a server that knows no TLS."""
    (tmp_path / "ca").write_text("no certificate")
    plain = gateway.endpoint.replace("http:", "https:")
    for access in (
        access_to(gateway_tls.endpoint, ca_file=str(tmp_path / "ca")),
        access_to(plain, verify=False),
    ):
        with pytest.raises(Unavailable, match="no secure connection"):
            strange("tls-bucket", access).check()


# --- a server that hangs or dies ------------------------------------------------------


def test_flights_to_a_hung_server_can_be_given_up(gateway: Gateway, s3_store: S3Store) -> None:
    s3_store.put("key", b"data", PLAIN).result()
    gateway.pause()
    flights: list[Flight[Any]] = [
        s3_store.head("key"),
        s3_store.get("key", 0, 4),
        s3_store.put("key", b"new", PLAIN),
        s3_store.put("key", b"x" * (9 << 20), PLAIN),
    ]
    for flight in flights:
        flight.abort()
        assert isinstance(flight.exception(timeout=0), Unavailable)
    gateway.resume()
    assert s3_store.head("key").result().key == "key"


def test_a_server_that_comes_back_is_used_again(gateway: Gateway, s3_store: S3Store) -> None:
    s3_store.put("key", b"data", PLAIN).result()
    gateway.kill()
    with pytest.raises(Unavailable):
        s3_store.get("key", 0, 4).result()
    with pytest.raises(Unavailable):
        s3_store.head("key").result()
    gateway.restart()
    assert s3_store.get("key", 0, 4).result().data == b"data"


# --- copies ---------------------------------------------------------------------------


def test_a_copy_too_large_for_one_request(s3_store: S3Store) -> None:
    body = b"0" * PART_BYTES_MIN + b"1" * PART_BYTES_MIN + b"2"
    s3_store.put("a", body, Attributes({"mtime": "1"}, "text/x-c")).result()
    source = s3_store.head("a").result()
    s3_store._copy_in_parts(source, "b", None, PART_BYTES_MIN)
    info = s3_store.head("b").result()
    assert (info.size, info.metadata, info.content_type) == (
        len(body),
        {"mtime": "1"},
        "text/x-c",
    )
    assert info.etag.endswith("-3")
    assert s3_store.get("b", PART_BYTES_MIN - 1, 2).result().data == b"01"


def test_a_source_that_changes_while_it_is_copied(s3_store: S3Store, s3: S3Client) -> None:
    s3_store.put("a", b"old", PLAIN).result()
    source = s3_store.head("a").result()
    s3_store.put("a", b"new", PLAIN).result()
    with pytest.raises(PreconditionFailed):
        s3_store._copy_in_parts(source, "b", None, PART_BYTES_MIN)
    with pytest.raises(NoSuchKey):
        s3_store.head("b").result()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=s3_store.bucket)


@pytest.mark.parametrize("key", ["a%41", "100%", "%zz", "a%2541", "x?versionId=null", "50%25"])
def test_parts_come_from_the_key_that_was_named(s3_store: S3Store, key: str) -> None:
    """The gateway decodes the source of a part twice: ``aA`` for ``a%41``, and ``%zz`` ends it."""
    for decoy in ("aA", "100", "a%41", "x", "50%"):
        s3_store.put(decoy, b"decoy", PLAIN).result()
    s3_store.put(key, b"right", PLAIN).result()
    source: ObjectInfo = s3_store.head(key).result()
    upload_id = s3_store.create_upload("target", PLAIN)
    etag = s3_store.copy_part("target", upload_id, 1, source, 0, 5)
    s3_store.complete_upload("target", upload_id, [etag])
    assert s3_store.get("target", 0, 5).result().data == b"right"
    assert s3_store.list_page(".qarnotfs").objects == ()


# --- cost -----------------------------------------------------------------------------


def test_each_hot_call_is_one_request(gateway: Gateway, s3_store: S3Store) -> None:
    s3_store.put("warm", b"", PLAIN).result()
    mark = gateway.mark()
    s3_store.put("key", b"x" * (9 << 20), PLAIN).result()
    s3_store.head("key").result()
    s3_store.get("key", 1, 8 << 20).result()
    s3_store.list_page("")
    with pytest.raises(NoSuchKey):
        s3_store.head("none").result()
    methods = [request.method for request in gateway.requests(mark)]
    assert methods == ["PUT", "HEAD", "GET", "GET", "HEAD"]


def test_what_is_over_is_let_go(s3_store: S3Store) -> None:
    """awscrt's requests hold callbacks in a circle that no collector sees."""
    import gc

    from awscrt.s3 import S3Request

    s3_store.put("key", b"data", PLAIN).result()
    for number in range(40):
        flight = s3_store.get("key", 0, 4)
        if number % 2:
            flight.abort()
        flight.exception()

    def is_empty() -> bool:
        gc.collect()
        return not any(isinstance(found, S3Request) for found in gc.get_objects())

    eventually(is_empty)
    assert not s3_store._transport._live


@pytest.mark.parametrize("closing", [True, False])
def test_the_process_ends(gateway: Gateway, bucket: str, closing: bool) -> None:
    """Also while requests hang, and when nobody closed the store."""
    code = """if True:
        import sys
        from qarnotfs.store.base import Attributes
        from qarnotfs.store.s3 import S3Store
        from tests.s1_store.conftest import access_to
        url, access_key, secret_key, bucket, closing = sys.argv[1:]
        store = S3Store(bucket, access_to(url, access_key, secret_key))
        store.put("key", b"x" * 100_000, Attributes()).result()
        print("stored", flush=True)
        sys.stdin.readline()
        flights = [store.get("key", 0, 9) for _ in range(3)]
        if closing == "True":
            store.close()
    """
    arguments = [gateway.endpoint, gateway.access_key, gateway.secret_key, bucket, str(closing)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        gateway.pause()
        _, errors = process.communicate("go\n", timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()
        gateway.resume()
