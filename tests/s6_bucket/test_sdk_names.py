"""The SDK's `Bucket` and ours: which key a name that is given becomes.

A difference on purpose is stated for both and has its number in docs/SEMANTICS.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rgw import Gateway
from tests.s6_bucket.conftest import Content, Face, fill

pytestmark = pytest.mark.gateway


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("/x", "x"),
        ("a//b///c", "a/b/c"),
        ("//a//b", "a/b"),
        ("\\x", "x"),
        ("a\\\\b", "a\\b"),
        (" x ", "x"),
        ("d/", "d/"),
    ],
)
def test_names_are_sanitised(one: Any, content: Content, given: str, stored: str) -> None:
    one.add_string("1", given)
    assert content.all() == {stored: b"1"}
    one.delete_file(given)
    assert content.all() == {}


def test_names_are_kept_where_the_connection_says_so(
    face: Face, one: Any, content: Content, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face.connection, "_sanitize_bucket_paths", False)
    fill(tree, {"x": b"2"})
    one.add_string("1", "/a//b ")
    one.add_file(str(tree / "x"), "\\x")
    one.sync_files({"y": str(tree / "x")}, remote="/r//s")
    assert content.all() == {"/a//b ": b"1", "\\x": b"2", "/r//s/y": b"2"}
    one.delete_file("/a//b ")
    assert list(content.all()) == ["/r//s/y", "\\x"]
    filtering = face.api.Filtering()
    filtering.append(face.api.BucketPrefixFiltering("//p"))
    view = face.bucket(one.uuid, filtering)
    assert view.to_json()["filtering"] == {"prefixFiltering": {"prefix": "//p"}}


def test_names_to_read_are_taken_as_they_are(
    face: Face, one: Any, content: Content, tree: Path
) -> None:
    """An object that was stored under an unusual key can be read and copied."""
    content["/odd//key"] = b"1"
    one.get_file("/odd//key", str(tree / "got"))
    one.copy_file("/odd//key", "//copy")
    assert (tree / "got").read_bytes() == b"1"
    assert content.all() == {"/odd//key": b"1", "//copy": b"1"}


def test_names_that_begin_with_a_slash(
    face: Face, one: Any, gateway: Gateway, content: Content, tree: Path
) -> None:
    """D20: the SDK compares them as given and stores them sanitised: it is never done."""
    fill(tree, {"x": b"1"})
    one.sync_files({"/x": str(tree / "x")})
    mark = gateway.mark()
    one.sync_files({"/x": str(tree / "x")})
    changes = [request for request in gateway.requests(mark) if request.method != "GET"]
    assert bool(changes) is face.is_sdk


@pytest.mark.parametrize("method", ["add_directory", "sync_directory"])
def test_names_of_files_are_kept(
    face: Face, one: Any, content: Content, tree: Path, method: str
) -> None:
    """D25: to the SDK two of these have one name."""
    fill(tree, {"a": b"1", " a": b"2", "b\\\\b": b"3"})
    getattr(one, method)(str(tree))
    if face.is_sdk:
        assert content.etags().keys() == {"a", "b\\b"}
    else:
        assert content.all() == {"a": b"1", " a": b"2", "b\\\\b": b"3"}
