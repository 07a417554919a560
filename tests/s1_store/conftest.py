"""Fixtures for the object store: the same test runs on the twin in memory and on the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from qarnotfs.store.base import Store
from qarnotfs.store.memory import MemoryStore
from qarnotfs.store.s3 import Access, Keys, S3Store
from tests.faulty_server import Answer, FaultyServer, Request
from tests.rgw import Gateway


def access_to(
    url: str,
    access_key: str = "AKIDEXAMPLE",
    secret_key: str = "not-a-secret",
    *,
    ca_file: str | None = None,
    verify: bool = True,
) -> Access:
    return Access(Keys(access_key, secret_key, None), url, "us-east-1", ca_file, verify)


def make_access(gateway: Gateway) -> Access:
    ca_file = str(gateway.ca_bundle) if gateway.ca_bundle else None
    return access_to(gateway.endpoint, gateway.access_key, gateway.secret_key, ca_file=ca_file)


def empty(store: Store) -> None:
    """Delete every object, also those with keys that a batch cannot name."""
    while page := store.list_page("").objects:
        assert store.delete([info.key for info in page]) == {}


@pytest.fixture(scope="session")
def access(gateway: Gateway) -> Iterator[Access]:
    access = make_access(gateway)
    yield access
    access.close()


@pytest.fixture
def s3_store(gateway: Gateway, access: Access, bucket: str) -> Iterator[S3Store]:
    store = S3Store(bucket, access)
    store.probe()
    yield store
    gateway.recover()
    store.close()
    with_new_threads = S3Store(bucket, access)
    empty(with_new_threads)
    with_new_threads.close()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.gateway)])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty bucket whose server honours conditions."""
    if request.param == "memory":
        return MemoryStore()
    made: S3Store = request.getfixturevalue("s3_store")
    return made


@dataclass
class Faulty:
    """A store and the server it talks to; ``answer`` may be replaced at any time."""

    server: FaultyServer
    store: S3Store

    def answers(self, *answers: Answer) -> None:
        """These in turn; the last for ever."""
        left = list(answers)
        self.server.requests.clear()
        self.server.answer = lambda request: left.pop(0) if len(left) > 1 else left[0]

    def answers_by(self, choose: Callable[[Request], Answer]) -> None:
        self.server.requests.clear()
        self.server.answer = choose

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.server.requests]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setattr("qarnotfs.store.s3.access.ATTEMPTS_MAX", 1)  # boto3 pauses for seconds
    with FaultyServer(lambda request: Answer(500)) as server:
        access = access_to(server.url)
        store = S3Store("bucket", access)
        yield Faulty(server, store)
        store.close()
        access.close()
