"""The twin's knobs: faults, the log of calls, capabilities, the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qarnotfs.errors import NoSuchBucket, NoSuchKey, Refused, Unavailable
from qarnotfs.store.base import Attributes, Capabilities, Condition
from qarnotfs.store.memory import MemoryStore

if TYPE_CHECKING:
    from qarnotfs.store.base import Store
    from qarnotfs.store.s3 import S3Store

PLAIN = Attributes()


def test_both_are_stores() -> None:
    """mypy compares them with the protocol here."""

    def accepts(memory: MemoryStore, s3: S3Store) -> tuple[Store, Store]:
        return memory, s3

    assert callable(accepts)


def test_faults_meet_the_calls_they_choose() -> None:
    store = MemoryStore()
    store.put("k", b"1", PLAIN).result()
    store.faults = lambda method, key: (
        Unavailable("no") if (method, key) in {("head", "k"), ("delete_key", "a")} else None
    )
    with pytest.raises(Unavailable):
        store.head("k").result()
    with pytest.raises(NoSuchKey):
        store.head("a").result()
    assert store.get("k", 0, 1).result().data == b"1"
    assert list(store.delete(["a", "k"])) == ["a"]
    store.faults = lambda method, key: Refused("no") if method == "list_page" else None
    with pytest.raises(Refused):
        store.list_page("")


def test_calls_are_logged_also_those_that_fail() -> None:
    store = MemoryStore()
    store.put("k", b"1", PLAIN).result()
    assert store.head("none").exception()
    store.list_page("k")
    store.delete(["k"])
    assert store.calls == [
        ("put", "k"),
        ("head", "none"),
        ("list_page", "k"),
        ("delete", ""),
        ("delete_key", "k"),
    ]


def test_a_weak_server_ignores_conditions() -> None:
    store = MemoryStore()
    store.capabilities = Capabilities(put_if_absent=False, put_if_match="no")
    assert store.probe() == store.capabilities
    store.put("k", b"1", PLAIN).result()
    store.put("k", b"2", PLAIN, Condition(absent=True)).result()
    store.put("k", b"3", PLAIN, Condition(etag="0" * 32)).result()
    assert store.get("k", 0, 1).result().data == b"3"


def test_the_bucket_may_go() -> None:
    store = MemoryStore()
    store.delete_bucket()
    with pytest.raises(NoSuchBucket):
        store.check()
    with pytest.raises(NoSuchBucket):
        store.head("k").result()
    store.create_bucket()
    store.check()
    store.put("k", b"", PLAIN).result()
    with pytest.raises(Refused):
        store.delete_bucket()


def test_the_clock_may_be_another() -> None:
    store = MemoryStore(clock=lambda: 1234.9)
    store.put("k", b"", PLAIN).result()
    assert store.head("k").result().modified_sec == 1234
