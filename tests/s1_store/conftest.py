"""Fixtures for the object store: the same test runs on the twin in memory and on the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.session import Session

from qarnotfs.store.base import Store
from qarnotfs.store.memory import MemoryStore
from qarnotfs.store.s3 import Access, S3Store
from tests.rgw import Gateway


def make_access(gateway: Gateway, **changes: Any) -> Access:
    """Access to a gateway; ``access_key``, ``secret_key``, ``url`` .. may be others."""
    session = Session()
    session.set_credentials(
        changes.pop("access_key", gateway.access_key), changes.pop("secret_key", gateway.secret_key)
    )
    ca = str(gateway.ca_bundle) if gateway.ca_bundle else None
    said = {"url": gateway.endpoint, "region": gateway.region, "ca_file": ca, "verify": True}
    return Access(session, **(said | changes))


def empty(store: Store) -> None:
    """Delete every object, also those with keys that a batch cannot name."""
    while page := store.list_page("").objects:
        assert store.delete([info.key for info in page]) == {}


@pytest.fixture
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
