"""Copies on the server: one request where its answer says all, and never another's bytes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import NoSuchKey
from qarnotfs.store.base import Attributes, Copied, Flight, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.copying import QUICK_BYTES_MAX, copy

OLD = Attributes({"mode": "33188"}, "text/plain")
NEW = Attributes({"mode": "33261"}, "text/html")


def copied(
    store: MemoryStore, target: str, attributes: Attributes | None, known: ObjectInfo | None
) -> tuple[ObjectInfo, list[str]]:
    """What `copy` of ``a`` says, and what it asked."""
    store.calls.clear()
    made = trio.run(copy, store, Bridge(), "a", target, attributes, known)
    return made, [method for method, _ in store.calls]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore("bucket")
    store.put("a", b"bytes", OLD).result()
    return store


def listed(store: MemoryStore) -> ObjectInfo:
    return store.head("a").result().without_metadata()


def test_a_copy_is_one_request_and_does_not_claim_to_know_metadata(store: MemoryStore) -> None:
    made, asked = copied(store, "b", None, listed(store))
    assert asked == ["copy_object"]
    assert made == store.head("b").result().without_metadata()


def test_what_was_known_of_the_source_is_known_of_the_copy(store: MemoryStore) -> None:
    made, _ = copied(store, "b", None, store.head("a").result())
    assert made == store.head("b").result()
    assert made.has(OLD)


def test_an_answer_that_does_not_say_when_is_not_enough(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.copy_object

    def copy_object(*args: Any) -> Flight[Copied]:
        return Flight.landed(real(*args).result()._replace(modified_sec=None))

    monkeypatch.setattr(store, "copy_object", copy_object)
    made, _ = copied(store, "b", None, listed(store))
    assert made == store.head("b").result()


@pytest.mark.parametrize("target", ["a", "b"])
def test_given_metadata_is_known_afterwards(store: MemoryStore, target: str) -> None:
    made, asked = copied(store, target, NEW, store.head("a").result())
    assert asked == ["copy_object"]
    assert made == store.head(target).result()
    assert made.has(NEW)


def test_a_source_that_was_replaced_is_looked_at(store: MemoryStore) -> None:
    known = listed(store)
    store.put("a", b"others' bytes", OLD).result()
    made, _ = copied(store, "b", None, known)
    assert made == store.head("b").result()
    assert made.size == len(b"others' bytes")


@pytest.mark.parametrize("is_known", [False, True])
def test_what_is_not_known_to_be_small_may_be_of_any_size(
    store: MemoryStore, is_known: bool
) -> None:
    large = store.head("a").result()._replace(size=QUICK_BYTES_MAX + 1)
    made, asked = copied(store, "b", None, large if is_known else None)
    assert asked == ["copy"]
    assert made == store.head("b").result()


def test_nothing_to_copy(store: MemoryStore) -> None:
    known = listed(store)
    store.delete(["a"])
    with pytest.raises(NoSuchKey):
        copied(store, "b", None, known)
