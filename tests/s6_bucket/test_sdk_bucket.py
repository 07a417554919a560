"""The SDK's `Bucket` and ours: making one, its views, its JSON, its end.

Every ``test_sdk_*`` runs with both libraries. A difference on purpose is stated for both and
has its number in docs/SEMANTICS.md.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import qarnotfs
from qarnotfs.errors import UsageError
from tests.conftest import remove_bucket
from tests.rgw import Gateway
from tests.s6_bucket.conftest import SDK, Content, Face

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway

SEMANTICS = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"


@pytest.fixture
def new_name(s3: S3Client) -> Iterator[str]:
    """A bucket that does not exist; removed, should the test make it."""
    name = f"new-{uuid.uuid4().hex[:12]}"
    yield name
    if name in bucket_names(s3):
        remove_bucket(s3, name)


def bucket_names(s3: S3Client) -> list[str]:
    return [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def text(bucket: Any) -> str:
    """Its JSON, byte for byte."""
    return json.dumps(bucket.to_json())


# --- making one -----------------------------------------------------------------------------


def test_it_is_created_unless_told_otherwise(face: Face, s3: S3Client, new_name: str) -> None:
    face.bucket(new_name)
    assert new_name not in bucket_names(s3)
    face.closing(face.api.Bucket(face.connection, new_name))
    assert new_name in bucket_names(s3)
    face.bucket(new_name, create=True)  # once more, and it is ours already


def test_its_name(one: Any, bucket: str) -> None:
    assert (one.uuid, one.description) == (bucket, bucket)


def test_a_cluster_without_storage(face: Face) -> None:
    nothing = SimpleNamespace(s3client=None, s3resource=None)
    with pytest.raises(face.api.BucketStorageUnavailableException):
        face.api.Bucket(nothing, "data", create=False)


def test_equality_is_of_names(face: Face, one: Any, bucket: str) -> None:
    """D1: ours can be kept in a set; the SDK's defines no hash."""
    assert one == face.bucket(bucket)
    assert one != face.bucket("another")
    assert one != bucket
    if face.is_sdk:
        with pytest.raises(TypeError):
            hash(one)
    else:
        assert len({one, face.bucket(bucket)}) == 1


# --- views and JSON -------------------------------------------------------------------------


def viewed(face: Face, name: str, filter_prefix: str, strip_prefix: str) -> Any:
    filtering, transformation = face.api.Filtering(), face.api.ResourcesTransformation()
    filtering.append(face.api.BucketPrefixFiltering(filter_prefix))
    transformation.append(face.api.PrefixResourcesTransformation(strip_prefix))
    return face.bucket(name, filtering, transformation, 60)


def test_the_constructor_takes_arguments_by_place(face: Face) -> None:
    assert viewed(face, "data", "//a/b", "a/").to_json() == {
        "bucketName": "data",
        "filtering": {"prefixFiltering": {"prefix": "a/b"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "a/"}},
        "cacheTTLSec": 60,
    }


@pytest.mark.parametrize("prefix", ["", "a", "a/", "/a//b/", "\\\\a\\b", " a b ", "é/日"])
def test_json_is_the_same_in_both_directions(
    prefix: str, their_connection: Any, our_connection: Any
) -> None:
    theirs, ours = Face(SDK, their_connection), Face(qarnotfs, our_connection)
    their_bucket, our_bucket = (viewed(face, "data", prefix, prefix) for face in (theirs, ours))
    assert text(our_bucket) == text(their_bucket)
    for said in (our_bucket.to_json(), their_bucket.to_json()):
        read_by_us = qarnotfs.Bucket.from_json(our_connection, said)
        read_by_them = SDK.Bucket.from_json(their_connection, said)
        assert text(read_by_us) == text(read_by_them)


@pytest.mark.parametrize(
    "said",
    [
        {"bucketName": "data"},
        {"bucketName": "data", "filtering": None, "resourcesTransformation": None},
        {"bucketName": "data", "filtering": {}, "resourcesTransformation": {}, "cacheTTLSec": 0},
    ],
)
def test_what_is_not_said_is_nothing(face: Face, said: dict[str, Any]) -> None:
    read = face.closing(face.api.Bucket.from_json(face.connection, said))
    assert read.to_json() == {
        "bucketName": "data",
        "filtering": {},
        "resourcesTransformation": {},
        "cacheTTLSec": said.get("cacheTTLSec"),
    }


def test_a_rule_nobody_knows(face: Face) -> None:
    """D2: the SDK leaves it out, and so shows more than was meant."""
    said = {"bucketName": "data", "filtering": {"suffixFiltering": {"suffix": ".csv"}}}
    if face.is_sdk:
        assert face.api.Bucket.from_json(face.connection, said).to_json()["filtering"] == {}
    else:
        with pytest.raises(UsageError, match="suffixFiltering"):
            face.api.Bucket.from_json(face.connection, said)


def test_a_rule_nobody_knows_as_an_object(face: Face, one: Any) -> None:
    """D2: the SDK keeps it, and shows what it says to nobody but its own cluster."""
    rule: Any = SDK.BucketPrefixFiltering("secret/")
    rule.name = "excludePrefix"
    filtering: Any = SDK.Filtering()
    filtering.append(rule)
    ways: list[Callable[[], Any]] = [
        lambda: face.bucket("data", filtering),
        lambda: one.with_filtering(rule),
    ]
    for make in ways:
        if face.is_sdk:
            assert make().to_json()["filtering"] == {"excludePrefix": {"prefix": "secret/"}}
        else:
            with pytest.raises(UsageError, match="excludePrefix"):
                make()


def test_a_field_nobody_knows(face: Face) -> None:
    """D2: as above."""
    said = {"bucketName": "data", "exclude": "secret/"}
    if face.is_sdk:
        assert "exclude" not in face.api.Bucket.from_json(face.connection, said).to_json()
    else:
        with pytest.raises(UsageError, match="exclude"):
            face.api.Bucket.from_json(face.connection, said)


@pytest.mark.parametrize("prefix", ["//a", "a//b", "\\a"])
def test_a_rule_that_is_added(face: Face, one: Any, prefix: str) -> None:
    """D27: ours is sanitised wherever it comes from; the SDK's when it is made over."""
    filtered = face.closing(one.with_filtering(face.api.BucketPrefixFiltering(prefix)))
    stripped = face.closing(
        one.with_resource_transformation(face.api.PrefixResourcesTransformation(prefix))
    )
    clean = {"//a": "a", "a//b": "a/b", "\\a": "a"}[prefix]
    now = {"prefix": prefix if face.is_sdk else clean}
    assert filtered.to_json()["filtering"] == {"prefixFiltering": now}
    assert stripped.to_json()["resourcesTransformation"] == {"stripPrefix": now}
    made_over = [face.closing(bucket.with_cache_ttl(1)) for bucket in (filtered, stripped)]
    assert made_over[0].to_json()["filtering"] == {"prefixFiltering": {"prefix": clean}}
    assert made_over[1].to_json()["resourcesTransformation"] == {"stripPrefix": {"prefix": clean}}


def test_rules_that_are_given(face: Face) -> None:
    """D28: the SDK keeps the object itself, and changes it."""
    filtering, rule = face.api.Filtering(), face.api.BucketPrefixFiltering("//a")
    filtering.append(rule)
    bucket = face.bucket("data", filtering)
    assert rule.prefix == ("a" if face.is_sdk else "//a")
    filtering.append(face.api.BucketPrefixFiltering("b"))
    now = "b" if face.is_sdk else "a"
    assert bucket.to_json()["filtering"] == {"prefixFiltering": {"prefix": now}}


def test_a_warning(
    face: Face, one: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """D29: ours is logged; the SDK prints it into the program's own output."""
    one.add_string("1", "//a")
    assert ("//a" in capsys.readouterr().out) is face.is_sdk
    assert ("//a" in caplog.text) is not face.is_sdk


def test_with_makes_a_new_bucket(face: Face, one: Any) -> None:
    before = text(one)
    filtered = face.closing(one.with_filtering(face.api.BucketPrefixFiltering("a/b")))
    stripped = face.closing(
        filtered.with_resource_transformation(face.api.PrefixResourcesTransformation("a/"))
    )
    timed = face.closing(stripped.with_cache_ttl(2592000))
    assert text(one) == before
    assert timed.to_json() == {
        "bucketName": one.uuid,
        "filtering": {"prefixFiltering": {"prefix": "a/b"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "a/"}},
        "cacheTTLSec": 2592000,
    }
    assert timed == one


def test_with_keeps_what_was_set(face: Face, one: Any) -> None:
    """D3: the SDK's forget the cache time."""
    timed = face.closing(one.with_cache_ttl(5))
    filtered = face.closing(timed.with_filtering(face.api.BucketPrefixFiltering("a")))
    stripped = face.closing(
        timed.with_resource_transformation(face.api.PrefixResourcesTransformation("a"))
    )
    kept = None if face.is_sdk else 5
    assert [filtered.to_json()["cacheTTLSec"], stripped.to_json()["cacheTTLSec"]] == [kept, kept]


@pytest.mark.parametrize("ttl", [-1, 1.5, "60"])
def test_a_cache_time_that_cannot_be(face: Face, one: Any, ttl: Any) -> None:
    """D4: the SDK sends it on."""
    if face.is_sdk:
        assert one.with_cache_ttl(ttl).to_json()["cacheTTLSec"] == ttl
    else:
        with pytest.raises(UsageError, match="cacheTTLSec"):
            one.with_cache_ttl(ttl)


def test_a_view_does_not_change_what_is_stored(face: Face, one: Any, content: Content) -> None:
    """`list_files` and the rest work on stored keys."""
    view = face.closing(one.with_filtering(face.api.BucketPrefixFiltering("a/")))
    view.add_string("x", "b")
    assert content.all() == {"b": b"x"}
    assert [file.key for file in view.list_files()] == ["b"]


# --- its end --------------------------------------------------------------------------------


def test_delete_takes_everything_along(face: Face, s3: S3Client, new_name: str) -> None:
    made = face.bucket(new_name, create=True)
    for key in ("a", "d/é", "d/"):
        made.add_string(key, key)
    made.delete()
    assert new_name not in bucket_names(s3)


def test_delete_of_a_bucket_with_versions(face: Face, s3: S3Client, new_name: str) -> None:
    made = face.bucket(new_name, create=True)
    enabled: Any = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket=new_name, VersioningConfiguration=enabled)
    for _ in range(3):
        made.add_string(uuid.uuid4().hex, "a")
    made.add_string("x", "b")
    made.delete_file("b")
    versions = s3.list_object_versions(Bucket=new_name)
    assert (len(versions["Versions"]), len(versions["DeleteMarkers"])) == (4, 1)
    made.delete()
    assert new_name not in bucket_names(s3)


def test_delete_asks_for_a_thousand_at_a_time(
    face: Face, gateway: Gateway, s3: S3Client, new_name: str
) -> None:
    made = face.bucket(new_name, create=True)
    for number in range(1001):
        s3.put_object(Bucket=new_name, Key=f"{number}")
    mark = gateway.mark()
    made.delete()
    asked = [request.method for request in gateway.requests(mark)]
    assert asked.count("POST") == 2
    assert asked.count("DELETE") == 1


def test_delete_of_a_missing_bucket(face: Face) -> None:
    with pytest.raises(face.api.MissingBucketException):
        face.bucket("no-such-bucket").delete()


# --- the page that tells the differences ----------------------------------------------------


def test_every_difference_is_written_down_and_tested() -> None:
    written = re.findall(r"^\*\*(D\d+)\.", SEMANTICS.read_text(), re.MULTILINE)
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_sdk_*.py"))
    tested = set(re.findall(r'"""(D\d+)\b', sources))
    assert written == [f"D{number}" for number in range(1, len(written) + 1)]
    assert tested == set(written)
