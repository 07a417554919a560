"""What we say in XML is what a parser reads, and what is no answer is not taken for one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.errors import NoSuchKey, StoreError, Unavailable
from qarnotfs.store.base import Attributes
from qarnotfs.store.s3 import documents, wire
from tests.faulty_server import Answer
from tests.s1_store.conftest import Faulty

KEYS = st.text(st.characters(codec="utf-8"), min_size=1).filter(wire.fits_xml)
XML = {"Content-Type": "application/xml"}


@given(st.lists(KEYS))
def test_a_deletion_names_its_keys_character_for_character(keys: list[str]) -> None:
    root = ET.fromstring(documents.deletion(keys))
    assert [key.text for key in root.iterfind("{*}Object/{*}Key")] == keys
    assert root.findtext("{*}Quiet") == "true"


@given(st.lists(st.from_regex("[0-9a-f]{32}", fullmatch=True)))
def test_a_completion_numbers_its_parts_from_one_on(etags: list[str]) -> None:
    parts = ET.fromstring(documents.completion(etags)).findall("{*}Part")
    said = [(part.findtext("{*}PartNumber"), part.findtext("{*}ETag")) for part in parts]
    assert said == [(str(number), f'"{etag}"') for number, etag in enumerate(etags, 1)]


def test_what_stays_is_read_with_and_without_a_namespace_and_with_keys_that_are_no_xml() -> None:
    for ns in (b"", b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'):
        body = (
            b"<DeleteResult%s><Deleted><Key>gone</Key></Deleted><Error><Key>a&amp;\x01</Key>"
            b"<Code>AccessDenied</Code><Message/></Error></DeleteResult>"
        )
        assert documents.stayed(body % ns) == {"a&?": "AccessDenied"}


@pytest.mark.parametrize("body", [b"<html/", b"<html>", b"<Error/>", b"<OtherResult/>"])
def test_another_document_is_not_taken_for_an_answer(body: bytes) -> None:
    for read in (documents.stayed, documents.completed, documents.upload_id, documents.part_etag):
        with pytest.raises((KeyError, ValueError)):
            read(body)


def test_an_empty_answer_to_a_deletion_names_nothing() -> None:
    assert documents.stayed(b" ") == {}


def test_an_answer_that_says_nothing_is_none() -> None:
    for read, name in (
        (documents.upload_id, "InitiateMultipartUploadResult"),
        (documents.part_etag, "CopyPartResult"),
    ):
        with pytest.raises(KeyError):
            read(f"<{name}/>".encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<?xml version='1.0'?>\n  <Error><Code>InternalError</Code></Error>", Unavailable),
        (b"  \n<Error><Code>NoSuchUpload</Code></Error>", NoSuchKey),
        (b"<Error><Code>NobodyKnowsIt</Code></Error>", Unavailable),
        (b"<html>welcome to the hotel</html>", Unavailable),
    ],
)
def test_a_success_that_turns_out_to_be_none(
    faulty: Faulty, body: bytes, expected: type[StoreError]
) -> None:
    """AWS answers 200 before it has put the parts together, and may find that it cannot."""
    store = faulty.store
    for call in (
        lambda: store.complete_upload("key", "id", ["0" * 32]),
        lambda: store.create_upload("key", Attributes()),
        lambda: store.delete(["key"]),
    ):
        faulty.answers(Answer(200, XML, body))
        with pytest.raises(expected):
            call()
