"""The proxy that breaks chosen requests does what it says, and leaves all others alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.faults import Fault, FaultProxy, Rule, reads_object
from tests.rgw import Gateway
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway

BODY = random.Random(1).randbytes(300_000)


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    with FaultProxy(gateway) as one:
        yield one


@pytest.fixture
def client(
    gateway: Gateway, proxy: FaultProxy, request: pytest.FixtureRequest
) -> Iterator[S3Client]:
    """One that never repeats a request."""
    callspec = getattr(request.node, "callspec", None)  # none where nothing is a parameter
    hangs = callspec is not None and callspec.params.get("fault") is Fault.HANG
    made = boto3.client(
        "s3",
        endpoint_url=proxy.endpoint,
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
        region_name=gateway.region,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            retries={"total_max_attempts": 1},
            max_pool_connections=32,
            read_timeout=2 if hangs else 60,
            proxies={},
        ),
    )
    yield made
    made.close()


@pytest.fixture
def put(client: S3Client, bucket: str) -> Callable[[], object]:
    return lambda: client.put_object(Bucket=bucket, Key="key", Body=BODY)


@pytest.fixture
def get(client: S3Client, bucket: str) -> Callable[[], bytes]:
    def get() -> bytes:
        return client.get_object(Bucket=bucket, Key="key")["Body"].read()

    return get


def stored(s3: S3Client, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_only_chosen_requests_fail(client: S3Client, proxy: FaultProxy, bucket: str) -> None:
    proxy.fail(lambda method, path: method == "HEAD" and path.endswith("/b"))
    client.put_object(Bucket=bucket, Key="a", Body=b"one")
    client.put_object(Bucket=bucket, Key="b", Body=b"two")
    assert client.head_object(Bucket=bucket, Key="a")["ContentLength"] == 3
    assert client.get_object(Bucket=bucket, Key="b")["Body"].read() == b"two"
    assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 2
    assert proxy.failed == 0
    with pytest.raises(ClientError, match="503"):
        client.head_object(Bucket=bucket, Key="b")
    assert proxy.failed == 1
    proxy.calm()
    assert client.head_object(Bucket=bucket, Key="b")["ContentLength"] == 3
    client.delete_object(Bucket=bucket, Key="b")


@pytest.mark.parametrize(
    ("fault", "error", "arrives"),
    [
        (Fault.SLOW_DOWN, ClientError, False),
        (Fault.BEFORE_COMMIT, ClientError, False),
        (Fault.AFTER_COMMIT, ClientError, True),
        (Fault.RESET_REQUEST, BotoCoreError, False),
        (Fault.RESET_ANSWER, BotoCoreError, True),
        (Fault.TRUNCATED, BotoCoreError, True),
        (Fault.HANG, ReadTimeoutError, False),
    ],
)
def test_put_fails_and_arrives_or_not(
    fault: Fault,
    error: type[Exception],
    arrives: bool,
    put: Callable[[], object],
    proxy: FaultProxy,
    s3: S3Client,
    bucket: str,
) -> None:
    proxy.inject(Rule(fault))
    with pytest.raises(error):
        put()
    eventually(lambda: proxy.injected == {fault: 1})  # who hangs up need not have been heard yet
    assert stored(s3, bucket) == (["key"] if arrives else [])


@pytest.mark.parametrize("fault", [Fault.RESET_ANSWER, Fault.TRUNCATED])
def test_get_ends_in_the_middle(
    fault: Fault, put: Callable[[], object], get: Callable[[], bytes], proxy: FaultProxy
) -> None:
    put()
    proxy.inject(Rule(fault))
    with pytest.raises(BotoCoreError):
        get()


def test_one_bit_of_a_get_is_wrong(
    put: Callable[[], object], get: Callable[[], bytes], proxy: FaultProxy
) -> None:
    put()
    proxy.inject(Rule(Fault.WRONG_BYTES, reads_object))
    found = get()
    assert [a ^ b for a, b in zip(found, BODY, strict=True) if a != b] == [1]


def test_etag_is_wrong(
    client: S3Client, put: Callable[[], object], proxy: FaultProxy, bucket: str
) -> None:
    put()
    right = client.head_object(Bucket=bucket, Key="key")["ETag"]
    proxy.inject(Rule(Fault.WRONG_ETAG))
    wrong = client.head_object(Bucket=bucket, Key="key")["ETag"]
    assert wrong != right
    assert len(wrong) == len(right)


def test_slow_is_only_slow(
    put: Callable[[], object], get: Callable[[], bytes], proxy: FaultProxy
) -> None:
    proxy.inject(Rule(Fault.SLOW))
    put()
    assert get() == BODY
    assert proxy.injected == {Fault.SLOW: 2}


def test_refused_until_it_comes_back(
    put: Callable[[], object],
    get: Callable[[], bytes],
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.faults.REFUSED_SEC", 5.0)  # the second get may come late
    put()
    proxy.inject(Rule(Fault.REFUSED, nth=1))
    with pytest.raises(BotoCoreError):
        get()
    with pytest.raises(EndpointConnectionError):
        get()
    eventually(lambda: _or_none(get) == BODY)


def _or_none(get: Callable[[], bytes]) -> bytes | None:
    try:
        return get()
    except BotoCoreError:
        return None


def test_the_nth_and_the_seed_decide(
    get: Callable[[], bytes], put: Callable[[], object], proxy: FaultProxy, gateway: Gateway
) -> None:
    put()
    proxy.inject(Rule(Fault.SLOW_DOWN, reads_object, nth=3))
    assert [_fails(get) for _ in range(5)] == [False, False, True, False, False]
    chances = [FaultProxy(gateway, seed=7), FaultProxy(gateway, seed=7)]
    drawn = []
    for one in chances:
        with one:
            one.inject(Rule(Fault.SLOW_DOWN, probability=0.5))
            drawn.append([one.verdict("GET", "/b/k") is None for _ in range(50)])
    assert drawn[0] == drawn[1]
    assert {True, False} == set(drawn[0])


def _fails(get: Callable[[], bytes]) -> bool:
    try:
        get()
    except ClientError:
        return True
    return False


def test_many_large_bodies_at_once(client: S3Client, proxy: FaultProxy, bucket: str) -> None:
    """boto3 sends ``Expect: 100-continue``, and waits for the gateway's answer to it."""
    bodies = {f"key{number}": random.Random(number).randbytes(4 << 20) for number in range(16)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda k: client.put_object(Bucket=bucket, Key=k, Body=bodies[k]), bodies))
        found = pool.map(
            lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read(), bodies
        )
        assert list(found) == list(bodies.values())
    assert proxy.failed == 0
