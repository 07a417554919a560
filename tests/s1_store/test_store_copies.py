"""What every store does with hot copies, and with a bucket that is to be emptied."""

from __future__ import annotations

import hashlib

import pytest

from qarnotfs.errors import NoSuchBucket, NoSuchKey, Refused
from qarnotfs.store.base import Attributes, Store

PLAIN = Attributes()
FULL = Attributes({"mtime": "1700000000.000000001", "mode": "33188"}, "text/x-python")


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_copy_object_keeps_attributes_and_tells_the_version(store: Store) -> None:
    store.put("a", b"data", FULL).result()
    made = store.copy_object("a", "b").result()
    copied, source = store.head("b").result(), store.head("a").result()
    assert made == (md5(b"data"), copied.modified_sec)
    assert (copied.metadata, copied.content_type) == (source.metadata, source.content_type)
    assert copied.same_version(source)


@pytest.mark.parametrize("target", ["a", "b"])
@pytest.mark.parametrize("given", [PLAIN, Attributes({"mode": "33261"}, "text/html")])
def test_copy_object_may_replace_attributes(store: Store, given: Attributes, target: str) -> None:
    store.put("a", b"data", FULL).result()
    store.put("there", b"", given).result()
    made = store.copy_object("a", target, given).result()
    copied, there = store.head(target).result(), store.head("there").result()
    assert made == (md5(b"data"), copied.modified_sec)
    assert (copied.metadata, copied.content_type) == (there.metadata, there.content_type)


def test_copy_object_of_parts_holds_the_same_bytes(store: Store) -> None:
    upload_id = store.create_upload("a", PLAIN)
    etag = store.upload_part("a", upload_id, 1, b"data").result()
    store.complete_upload("a", upload_id, [etag])
    assert store.copy_object("a", "b").result().etag == store.head("b").result().etag
    assert store.get("b", 0, 4).result().data == b"data"


def test_copy_object_of_what_is_not_there(store: Store) -> None:
    with pytest.raises(NoSuchKey):
        store.copy_object("none", "b").result()
    with pytest.raises(Refused):
        store.copy_object("a", "").result()


@pytest.mark.parametrize(
    "key", ["100%", "%41", "a+b c", "é/ü", "a//b", "/x", "?q=1&r", "~#", "a\nb"]
)
def test_copy_object_of_odd_keys(store: Store, key: str) -> None:
    store.put(key, b"there", PLAIN).result()
    store.copy_object(key, "plain").result()
    store.copy_object("plain", key + "2").result()
    assert store.get(key + "2", 0, 5).result().data == b"there"


def test_an_emptied_bucket_can_be_deleted(store: Store) -> None:
    for key in ("a", "b/c", "d/", "odd\x01"):
        store.put(key, b"1", PLAIN).result()
    store.empty_bucket()
    assert store.list_page("").objects == ()
    store.empty_bucket()
    store.delete_bucket()
    with pytest.raises(NoSuchBucket):
        store.empty_bucket()
    store.create_bucket()
