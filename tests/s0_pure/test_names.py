"""Names: every segment a name, every name a segment, ordinary ones untouched."""

from __future__ import annotations

import errno
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from qarnotfs.core.names import NAME_BYTES_MAX, Segment, decode, encode, join, split
from qarnotfs.errors import InvalidName, NameTooLong

# Whatever S3 takes as a key, and, often, what looks like our escapes.
KEY_BYTES_MAX = 1024
unicode = st.characters(exclude_categories=["Cs"])
pieces = st.sampled_from(
    ["%", "25", "00", "2F", "2E", "%2E", "%FILE", "FILE", ".", "\0", "\n", "é"]
)
tricky = st.lists(pieces, max_size=8).map("".join)
keys = st.one_of(
    st.lists(tricky, max_size=4).map("/".join),
    st.text(st.one_of(unicode, st.just("/")), max_size=KEY_BYTES_MAX),
).filter(lambda key: len(key.encode()) <= KEY_BYTES_MAX)
segments = st.one_of(tricky, st.text(unicode, max_size=300)).filter(lambda text: "/" not in text)
names = segments.filter(lambda text: text not in ("", ".", "..") and "\0" not in text).map(
    str.encode
)


@pytest.mark.decision(5)
@given(keys)
@example("a//b")
@example("/../.")
@example("dir/")
def test_every_key_has_a_path(key: str) -> None:
    path = [encode(segment) for segment in split(key)]
    assert all(name not in (b"", b".", b"..") for name in path)
    assert not any(byte in name for name in path for byte in (b"/", b"\0"))
    assert join(tuple(decode(name).text for name in path)) == key


@given(segments, st.booleans())
def test_segment_to_name_and_back(text: str, clash: bool) -> None:
    assert decode(encode(text, clash)) == Segment(text, clash)


@given(names)
@example(b".%FILE")
@example(b"..%25FILE")
@example(b".%x%FILE")
@example(b"%FILE")
@example(b"%2F%FILE")
@example(b"%2E%2E%25FILE")
@example(b"a%FILE%FILE")
@example(b"a\n%FILE")
def test_name_to_segment_and_back(name: bytes) -> None:
    segment = decode(name)
    assert encode(segment.text, segment.clash) == name


@given(segments, segments)
def test_distinct_segments_have_distinct_names(one: str, other: str) -> None:
    assume(one != other)
    assert len({encode(one), encode(other), encode(one, True), encode(other, True)}) == 4


@pytest.mark.decision(5)
@given(segments)
def test_ordinary_names_are_untouched(text: str) -> None:
    assume(text not in ("", ".", "..") and "\0" not in text)
    assume(not re.search("%(25)*(00|FILE)", text))
    assume(not re.fullmatch("%(25)*(2F|2E|2E%2E)", text))
    assert encode(text) == text.encode()


@pytest.mark.parametrize(
    "text", ["%41", "100%", "100%25", "a%2Fb", "%2f", "%2e", "%2F ", "...", ".%2E", "%FILE", "FILE"]
)
def test_what_only_resembles_an_escape(text: str) -> None:
    assert encode(text) == text.encode()
    assert decode(text.encode()) == Segment(text)


@pytest.mark.decision(5)
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", b"%2F"),
        (".", b"%2E"),
        ("..", b"%2E%2E"),
        ("a\0b", b"a%00b"),
        ("%2F", b"%252F"),
        ("%252F", b"%25252F"),
        ("%2E%2E", b"%252E%2E"),
        ("a%00", b"a%2500"),
        ("a%FILE", b"a%25FILE"),
        ("%25\0", b"%25%00"),
    ],
)
def test_escapes(text: str, name: bytes) -> None:
    assert encode(text) == name
    assert decode(name) == Segment(text)


@pytest.mark.decision(5)
@pytest.mark.parametrize(
    ("text", "name"),
    [("a", b"a%FILE"), ("", b"%2F%FILE"), ("%2F", b"%252F%FILE"), ("a%FILE", b"a%FILE%FILE")],
)
def test_file_beside_a_directory(text: str, name: bytes) -> None:
    assert encode(text, clash=True) == name
    assert decode(name) == Segment(text, clash=True)


@pytest.mark.parametrize("name", [b"\xff", b"a\xc3", b"\xed\xb2\x80", b"", b".", b"..", b"a/b"])
def test_names_that_are_none(name: bytes) -> None:
    with pytest.raises(InvalidName) as caught:
        decode(name)
    assert caught.value.errno == errno.EILSEQ


def test_segment_that_is_not_unicode() -> None:
    with pytest.raises(InvalidName):
        encode("\udc80")


def test_length_is_counted_in_bytes() -> None:
    longest = "é" * (NAME_BYTES_MAX // 2)
    assert decode(encode(longest)) == Segment(longest)
    with pytest.raises(NameTooLong):
        encode(longest + "a")
    with pytest.raises(NameTooLong):
        decode(longest.encode() + b"a")
    with pytest.raises(NameTooLong):
        encode(longest, clash=True)
