"""Text to and from HTTP: laws over any text, and answers in forms seen in the wild."""

from __future__ import annotations

import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.errors import Refused
from qarnotfs.store.base import (
    PART_BYTES_MAX,
    PART_COUNT_MAX,
    Attributes,
    ListPage,
    ObjectInfo,
    Room,
)
from qarnotfs.store.s3 import paths, wire

LISTING = """<?xml version="1.0"?><ListBucketResult{ns}><Name>b</Name><Prefix>{prefix}</Prefix>
<EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>
<Contents><Key>a%2Bb+c%0A</Key><LastModified>2026-11-22T19:05:56.999Z</LastModified>
<ETag>&quot;ABC-2&quot;</ETag><Size>7</Size></Contents>
<CommonPrefixes><Prefix>d%01%2F</Prefix></CommonPrefixes>
<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"""


@given(st.text(st.characters()))  # surrogates too
def test_any_value_survives_as_printable_ascii(value: str) -> None:
    encoded = wire.encoded_metadata({"Name": value})["name"]
    assert set(encoded) <= set(string.printable) - set("\t\n\r\x0b\x0c")
    assert encoded == encoded.strip()
    assert wire.decoded_text(encoded) == value


@given(st.text("aé =?_.", max_size=20))
def test_plain_text_is_not_touched(value: str) -> None:
    plain = value.isascii() and value == value.strip() and not value.startswith("=?")
    assert (wire.encoded_metadata({"n": value})["n"] == value) == plain


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("=?UTF-8?Q?caf=C3=A9?=", "café"),
        ("=?utf-8?b?Y2Fmw6k=?=", "café"),
        ("=?UTF-8?B?Y2Fm?= =?UTF-8?B?w6k=?=", "café"),
        ("=?UTF-8?B?Y2Fm?= and more", "=?UTF-8?B?Y2Fm?= and more"),
        ("=?UTF-8?B?!?=", "=?UTF-8?B?!?="),
        ("=?UTF-8?B?/w==?=", "=?UTF-8?B?/w==?="),
        ("=?latin-1?Q?caf=E9?=", "=?latin-1?Q?caf=E9?="),
    ],
)
def test_what_others_wrote_is_read(stored: str, read: str) -> None:
    assert wire.decoded_text(stored) == read


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_paths_are_ascii_and_mean_one_key(key: str) -> None:
    if len(key.encode()) > 1024:
        with pytest.raises(Refused):
            paths.object_path("b", key)
        return
    path = paths.object_path("b", key, {"uploadId": key, "a": "1"})
    assert set(path) <= set(string.ascii_letters + string.digits + "/-_.~%?=&")
    assert path.startswith("/b/")
    assert path.count("?") == 1
    assert path.partition("?")[2].startswith("a=1&uploadId=")


@pytest.mark.parametrize("ns", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_listing(ns: str) -> None:
    page = wire.list_page(LISTING.format(ns=ns, prefix="", more="false", token="").encode())
    info = ObjectInfo("a+b c\n", 7, "abc-2", 1795374356)
    assert page == ListPage((info,), ("d\x01/",), None)


ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-11-22T19:05:56.999Z</LastModified>"
    "<ETag>{}</ETag>{}<Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(
    st.lists(
        st.tuples(
            keys,
            st.sampled_from(["&quot;ab-2&quot;", "&#34;AB&#34;", '"ab"', "ab"]),
            st.sampled_from(["", "<ChecksumType>FULL</ChecksumType>", "<Owner><ID>i</ID></Owner>"]),
            st.integers(0, 2**50),
        )
    ),
    st.lists(keys),
    st.booleans(),
)
def test_the_usual_answer_is_read_as_any_other(
    entries: list[tuple[str, str, str, int]], prefixes: list[str], more: bool
) -> None:
    body = "".join(
        [
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>",
            "<EncodingType>url</EncodingType><NextContinuationToken>t</NextContinuationToken>",
            *(ENTRY.format(quote_plus(key), *rest) for key, *rest in entries),
            *(f"<CommonPrefixes><Prefix>{quote(p)}</Prefix></CommonPrefixes>" for p in prefixes),
            "</ListBucketResult>",
        ]
    ).encode()
    plain = wire._plain_page(body)
    assert (plain is None) is any("Owner" in said for _, _, said, _ in entries)
    assert plain in (None, wire._parsed_page(body))
    assert [info.key for info in wire.list_page(body).objects] == [key for key, *_ in entries]


@pytest.mark.parametrize(
    ("token", "meant"),
    [
        ("a&#x01;c/y", "a\x01c/y"),
        ("a&#x1F;&amp;&lt;&gt;&quot;&apos;&#65;", "a\x1f&<>\"'A"),
        ("\ufffe", "\ufffe"),
        ("r&#x0d;x", "r\rx"),
        ("&amp;#x41;", "&#x41;"),
        ("opaque+/=%41", "opaque+/=%41"),
    ],
)
def test_a_token_is_read_character_by_character(token: str, meant: str) -> None:
    body = LISTING.format(ns="", prefix="p&#x02;\x03\uffff", more="true", token=token)
    assert wire.list_page(body.encode()).next == meant


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"<a/>", b"<ListBucketResult/>", LISTING.encode()[:300], b"\xff"]
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(body: bytes) -> None:
    with pytest.raises((KeyError, ValueError)):
        wire.list_page(body)


def test_a_body_that_may_hold_raw_keys_is_not_mended() -> None:
    body = LISTING.replace("url", "none").format(ns="", prefix="\x01", more="false", token="")
    with pytest.raises(ValueError, match="URL-encoded"):
        wire.list_page(body.encode())


def test_a_content_type_no_header_can_have_is_left_out() -> None:
    for odd in ("text/plain\nX: y", "té", ""):
        assert wire.attribute_headers(Attributes({}, odd)) == []
    assert wire.attribute_headers(Attributes({}, "a/b")) == [("Content-Type", "a/b")]


def test_error_codes() -> None:
    assert wire.error_code(b"<Error><Code>NoSuchKey</Code></Error>") == "NoSuchKey"
    assert wire.error_code(b"<html>") == wire.error_code(b"") == wire.error_code(None) == ""


USAGE = """<Usage><Entries/><Summary><QuotaMaxBytes>{limit}</QuotaMaxBytes>
<QuotaMaxBuckets>1000</QuotaMaxBuckets><QuotaMaxObjCount>-1</QuotaMaxObjCount>
<TotalBytes>70</TotalBytes><TotalEntries>5</TotalEntries></Summary>
<CapacityUsed><User><Buckets><Entry><Bucket>ours</Bucket><Bytes>40</Bytes></Entry></Buckets>
</User></CapacityUsed></Usage>"""
BUCKETS = "<ListAllMyBucketsResult xmlns='x'><Buckets/></ListAllMyBucketsResult>"


def test_without_a_limit_of_the_account_the_bucket_counts() -> None:
    assert wire.room("ours", USAGE.format(limit=100).encode()) == Room(70, 100, 5, None)
    assert wire.room("ours", USAGE.format(limit=-1).encode()) == Room(40, None, 5, None)


@pytest.mark.parametrize("body", [USAGE.format(limit=1), BUCKETS])
def test_of_a_bucket_that_is_not_named_nothing_is_known(body: str) -> None:
    assert wire.room("theirs", body.encode()) is None


@given(st.integers(1, 5 << 40))
def test_any_object_is_copied_in_parts_that_servers_take(size: int) -> None:
    parts = list(wire.ranges(size, wire.copy_part_bytes(size)))
    assert len(parts) <= PART_COUNT_MAX
    assert max(length for _, length in parts) <= PART_BYTES_MAX
    assert sum(length for _, length in parts) == size
