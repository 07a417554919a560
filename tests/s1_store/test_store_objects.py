"""What every store does with single objects: put, head, get, copy, delete, parts."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from qarnotfs.errors import Corrupt, NoSuchKey, PreconditionFailed, Refused, Unavailable
from qarnotfs.store.base import (
    PART_BYTES_MIN,
    UNCONDITIONAL,
    Attributes,
    Condition,
    Store,
)

PLAIN = Attributes()
FULL = Attributes({"mtime": "1700000000.000000001", "mode": "33188"}, "text/x-python")


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


# --- put, head, get -------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100_000, 9 << 20])
def test_what_was_put_comes_back(store: Store, size: int) -> None:
    body = bytes(range(251)) * (size // 251) + bytes(size % 251)
    begun_sec = int(time.time())
    etag = store.put("a/b", body, FULL).result()
    info = store.head("a/b").result()
    assert etag == info.etag == md5(body)
    assert (info.key, info.size) == ("a/b", size)
    assert info.metadata == FULL.metadata
    assert info.content_type == FULL.content_type
    assert begun_sec - 1 <= info.modified_sec <= time.time() + 1
    if size:
        fetched = store.get("a/b", 0, size, etag=etag).result()
        assert fetched.data == body
        assert fetched.info == info


def test_a_range_is_exactly_what_was_asked(store: Store) -> None:
    store.put("k", b"0123456789", PLAIN).result()
    assert store.get("k", 3, 4).result().data == b"3456"
    assert store.get("k", 9, 1).result().data == b"9"


def test_a_range_across_parts_of_a_request(store: Store) -> None:
    body = hashlib.shake_128(b"seed").digest(20 << 20)
    store.put("k", body, PLAIN).result()
    assert store.get("k", 1, (20 << 20) - 2).result().data == body[1:-1]


def test_a_range_behind_the_end_is_never_short(store: Store) -> None:
    store.put("k", b"0123456789", PLAIN).result()
    with pytest.raises(Unavailable):
        store.get("k", 5, 10).result()
    with pytest.raises(Refused):
        store.get("k", 10, 1).result()


def test_get_of_another_version_is_refused(store: Store) -> None:
    old = store.put("k", b"old", PLAIN).result()
    store.put("k", b"new", PLAIN).result()
    with pytest.raises(PreconditionFailed):
        store.get("k", 0, 3, etag=old).result()


def test_absence_is_said_as_such(store: Store) -> None:
    with pytest.raises(NoSuchKey):
        store.head("none").result()
    with pytest.raises(NoSuchKey):
        store.get("none", 0, 1).result()
    with pytest.raises(NoSuchKey):
        store.copy("none", "other")
    assert store.delete(["none"]) == {}


def test_a_put_replaces_metadata_too(store: Store) -> None:
    store.put("k", b"", FULL).result()
    store.put("k", b"", PLAIN).result()
    info = store.head("k").result()
    assert info.metadata == {}
    assert info.content_type == "binary/octet-stream"


# --- metadata -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *("", "a  b", " led and trailed ", "é€😀", "line\nbreak", "\x01", "=?UTF-8?B?4oKs?="),
        *("\udcff", "x" * 1500, "%41%", '{"user.x": "eA=="}'),
    ],
)
def test_any_text_survives_in_metadata(store: Store, value: str) -> None:
    store.put("k", b"", Attributes({"x": value})).result()
    assert store.head("k").result().metadata == {"x": value}
    upload_id = store.create_upload("k2", Attributes({"x": value}))
    store.complete_upload("k2", upload_id, [store.upload_part("k2", upload_id, 1, b"1").result()])
    assert store.head("k2").result().metadata == {"x": value}
    copied = store.copy("k", "k3", Attributes({"y": value}))
    assert copied.metadata == {"y": value}


def test_metadata_names_are_lower_case(store: Store) -> None:
    store.put("k", b"", Attributes({"Some-Name": "Value"})).result()
    assert store.head("k").result().metadata == {"some-name": "Value"}


@pytest.mark.parametrize("name", ["", "a b", "ä", "a\nb", "a:b"])
def test_a_name_no_header_can_have_is_refused(store: Store, name: str) -> None:
    with pytest.raises(Refused):
        store.put("k", b"", Attributes({name: "x"})).result()


# --- conditions -----------------------------------------------------------------------


def test_put_if_absent(store: Store) -> None:
    condition = Condition(absent=True)
    store.put("k", b"1", PLAIN, condition).result()
    with pytest.raises(PreconditionFailed):
        store.put("k", b"2", PLAIN, condition).result()
    assert store.get("k", 0, 1).result().data == b"1"


def test_put_if_match(store: Store) -> None:
    first = store.put("k", b"1", PLAIN).result()
    second = store.put("k", b"2", PLAIN, Condition(etag=first)).result()
    with pytest.raises(PreconditionFailed):
        store.put("k", b"3", PLAIN, Condition(etag=first)).result()
    assert store.head("k").result().etag == second
    with pytest.raises(PreconditionFailed):
        store.put("none", b"3", PLAIN, Condition(etag=first)).result()
    with pytest.raises(NoSuchKey):
        store.head("none").result()


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_a_conditional_put_may_be_repeated(store: Store, size: int) -> None:
    """The answer to the first may have been lost: our own object is no conflict."""
    body = b"x" * size
    base = store.put("k", b"base", PLAIN).result()
    for _ in range(2):
        assert store.put("k", body, FULL, Condition(etag=base)).result() == md5(body)
        assert store.put("new", body, FULL, Condition(absent=True)).result() == md5(body)
    with pytest.raises(PreconditionFailed):
        store.put("new", body, Attributes({"mtime": "2"}), Condition(absent=True)).result()


def test_one_of_many_wins(store: Store) -> None:
    flights = [
        store.put("k", str(number).encode(), PLAIN, Condition(absent=True)) for number in range(8)
    ]
    failed = [flight for flight in flights if flight.exception()]
    assert len(failed) == 7
    assert all(isinstance(flight.exception(), PreconditionFailed) for flight in failed)


# --- copy and delete ------------------------------------------------------------------


def test_copy_keeps_attributes(store: Store) -> None:
    etag = store.put("a", b"data", FULL).result()
    copied = store.copy("a", "b")
    assert (copied.key, copied.etag, copied.metadata) == ("b", etag, FULL.metadata)
    assert copied == store.head("b").result()
    assert copied.content_type == FULL.content_type


def test_copy_replaces_attributes_also_onto_itself(store: Store) -> None:
    etag = store.put("a", b"data", FULL).result()
    copied = store.copy("a", "a", Attributes({"mode": "1"}, "text/x-c"))
    assert copied == store.head("a").result()
    assert (copied.etag, copied.metadata, copied.content_type) == (etag, {"mode": "1"}, "text/x-c")


def test_copy_onto_itself_without_attributes_changes_nothing(store: Store) -> None:
    store.put("a", b"data", FULL).result()
    before = store.head("a").result()
    assert store.copy("a", "a") == before
    with pytest.raises(NoSuchKey):
        store.copy("none", "none")


def test_delete_takes_many_and_leaves_the_rest(store: Store) -> None:
    keys = [f"d/{number}" for number in range(30)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"", PLAIN).result(), keys))
    store.put("e", b"", PLAIN).result()
    assert store.delete([*keys, "d/never"]) == {}
    assert [info.key for info in store.list_page("").objects] == ["e"]
    assert store.delete([]) == {}


# --- multipart ------------------------------------------------------------------------


def test_parts_are_joined_in_order(store: Store) -> None:
    parts = [b"a" * PART_BYTES_MIN, b"b" * PART_BYTES_MIN, b"c"]
    upload_id = store.create_upload("k", FULL)
    etags = {
        number: store.upload_part("k", upload_id, number, parts[number - 1]) for number in (3, 1, 2)
    }
    store.complete_upload("k", upload_id, [etags[number].result() for number in (1, 2, 3)])
    info = store.head("k").result()
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    assert info.etag == f"{md5(digests)}-3"
    assert info.size == 2 * PART_BYTES_MIN + 1
    assert info.metadata == FULL.metadata
    assert store.get("k", PART_BYTES_MIN - 1, 2, etag=info.etag).result().data == b"ab"
    assert [found.etag for found in store.list_page("k").objects] == [info.etag]


def test_a_part_sent_again_replaces_the_first(store: Store) -> None:
    upload_id = store.create_upload("k", PLAIN)
    store.upload_part("k", upload_id, 1, b"first").result()
    etag = store.upload_part("k", upload_id, 1, b"second").result()
    store.complete_upload("k", upload_id, [etag])
    assert store.get("k", 0, 6).result().data == b"second"


def test_parts_are_copied_from_objects_also_the_target_itself(store: Store) -> None:
    base = b"0" * PART_BYTES_MIN + b"1" * PART_BYTES_MIN
    store.put("k", base, PLAIN).result()
    source = store.head("k").result()
    upload_id = store.create_upload("k", PLAIN)
    etags = [
        store.copy_part("k", upload_id, 1, source, 1, PART_BYTES_MIN),
        store.upload_part("k", upload_id, 2, b"new").result(),
    ]
    assert etags[0] == md5(base[1 : PART_BYTES_MIN + 1])
    store.complete_upload("k", upload_id, etags)
    assert store.get("k", 0, PART_BYTES_MIN + 3).result().data == base[1 : PART_BYTES_MIN + 1] + (
        b"new"
    )


def test_copy_part_of_what_is_not_there(store: Store) -> None:
    store.put("k", b"data", PLAIN).result()
    source = store.head("k").result()
    upload_id = store.create_upload("t", PLAIN)
    with pytest.raises(Refused):
        store.copy_part("t", upload_id, 1, source, 0, 5)
    store.delete(["k"])
    with pytest.raises(NoSuchKey):
        store.copy_part("t", upload_id, 1, source, 0, 4)
    store.abort_upload("t", upload_id)


def test_an_upload_that_is_over_is_no_such_key(store: Store) -> None:
    upload_id = store.create_upload("k", PLAIN)
    etag = store.upload_part("k", upload_id, 1, b"1").result()
    store.abort_upload("k", upload_id)
    store.abort_upload("k", upload_id)  # unknown: no failure
    with pytest.raises(NoSuchKey):
        store.upload_part("k", upload_id, 1, b"1").result()
    with pytest.raises(NoSuchKey):
        store.complete_upload("k", upload_id, [etag])
    with pytest.raises(NoSuchKey):
        store.head("k").result()


def test_completing_twice_is_harmless(store: Store) -> None:
    upload_id = store.create_upload("k", PLAIN)
    etag = store.upload_part("k", upload_id, 1, b"1").result()
    store.complete_upload("k", upload_id, [etag])
    with suppress(NoSuchKey):  # some servers remember, some do not
        store.complete_upload("k", upload_id, [etag])
    assert store.get("k", 0, 1).result().data == b"1"


@pytest.mark.parametrize("parts", [[], [b"small", b"last"]], ids=["none", "small"])
def test_uploads_no_server_would_join(store: Store, parts: list[bytes]) -> None:
    upload_id = store.create_upload("k", PLAIN)
    etags = [
        store.upload_part("k", upload_id, number, part).result()
        for number, part in enumerate(parts, 1)
    ]
    with pytest.raises(Refused):
        store.complete_upload("k", upload_id, etags)
    store.abort_upload("k", upload_id)


def test_parts_with_another_etag_are_not_joined(store: Store) -> None:
    upload_id = store.create_upload("k", PLAIN)
    store.upload_part("k", upload_id, 1, b"1").result()
    with pytest.raises(Corrupt):
        store.complete_upload("k", upload_id, ["0" * 32])
    store.abort_upload("k", upload_id)


def test_parts_of_which_one_is_not_named_are_not_joined(store: Store) -> None:
    upload_id = store.create_upload("k", PLAIN)
    etags = [store.upload_part("k", upload_id, n, b"%d" % n).result() for n in (1, 2)]
    with pytest.raises(Corrupt):
        store.complete_upload("k", upload_id, etags[:1])
    store.abort_upload("k", upload_id)


# --- keys no server takes -------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "k" * 1025, "ü" * 513, "nul\0", "\ud800"])
def test_impossible_keys_are_refused_everywhere(store: Store, key: str) -> None:
    store.put("k", b"", PLAIN).result()
    for flight in (
        store.head(key),
        store.get(key, 0, 1),
        store.put(key, b"", PLAIN, UNCONDITIONAL),
        store.put(key, b"x" * 100_000, PLAIN),
        store.upload_part(key, "id", 1, b""),
    ):
        with pytest.raises(Refused):
            flight.result()
    with pytest.raises(Refused):
        store.copy("k", key)
    with pytest.raises(Refused):
        store.copy(key, "k")
    with pytest.raises(Refused):
        store.create_upload(key, PLAIN)
    assert [type(error) for error in store.delete([key]).values()] == [Refused]
