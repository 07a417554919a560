"""Which buckets go where: words of ``run``, and the JSON that the Qarnot SDK writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from qarnot.advanced_bucket import BucketPrefixFiltering, PrefixResourcesTransformation
from qarnot.bucket import Bucket as SdkBucket
from qarnot.pool import Pool
from qarnot.task import Task

from qarnotfs.cli.places import Placed, placed, wanted_of
from qarnotfs.errors import UsageError
from qarnotfs.views import BucketSpec, View
from tests.qarnot_api import QarnotApi, sdk_connection


def where(*words: str, spec: Path | None = None) -> list[Placed]:
    return placed(words, wanted_of(spec) if spec else ())


@pytest.mark.parametrize(
    ("word", "bucket", "prefix", "directory", "read_only"),
    [
        ("data:/mnt", "data", "", "/mnt", False),
        ("data:mnt", "data", "", "mnt", False),
        ("data:/mnt:ro", "data", "", "/mnt", True),
        ("data:train/:/mnt", "data", "train/", "/mnt", False),
        ("data:train:/mnt:ro", "data", "train/", "/mnt", True),
        ("data:a/b:mnt", "data", "a/b/", "mnt", False),
        ("data:a:b/:/mnt", "data", "a:b/", "/mnt", False),
        ("data:/mnt:x", "data", "", "/mnt:x", False),
        ("data:a/:/mnt:x", "data", "a/", "/mnt:x", False),
    ],
)
def test_a_word(word: str, bucket: str, prefix: str, directory: str, read_only: bool) -> None:
    expected = Placed(BucketSpec(bucket, View(prefix, prefix)), Path(directory), read_only)
    assert where(word) == [expected]


@pytest.mark.parametrize("word", ["data", ":/mnt", "data:", "data::", "data:a/:"])
def test_a_word_that_says_no_bucket_and_directory(word: str) -> None:
    with pytest.raises(click.UsageError, match="is not a BUCKET:DIR"):
        where(word)


def test_two_buckets_cannot_have_one_place() -> None:
    with pytest.raises(click.UsageError, match="cannot both be on /mnt"):
        where("a:/mnt", "b:/mnt")


# --- the SDK's JSON -----------------------------------------------------------------------------


def sdk_json(kind: type[Task] | type[Pool], *, results: bool = True) -> Any:
    """What the SDK sends for a task with two views of one bucket, and another."""
    with (
        QarnotApi("token", "me@example.org", "http://127.0.0.1:1") as api,
        sdk_connection(api) as connection,
    ):
        made: Any = kind(connection, "name", "profile")
        data = SdkBucket(connection, "data", create=False, cacheTTLSec=5)
        made.resources = [
            data.with_filtering(BucketPrefixFiltering("a/")),
            data.with_resource_transformation(PrefixResourcesTransformation("b/")),
            SdkBucket(connection, "models", create=False, cacheTTLSec=7),
        ]
        made.default_resources_cache_ttl_sec = 3600
        if results:
            made.results = SdkBucket(connection, "out", create=False, cacheTTLSec=9)
        return made._to_json()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.json"


RESOURCES = [
    Placed(BucketSpec("data", View("a/", ""), 3600), Path("/job/resources/data"), True),
    Placed(BucketSpec("data", View("", "b/"), 3600), Path("/job/resources/data-2"), True),
    Placed(BucketSpec("models", View(), 7), Path("/job/resources/models"), True),
]
RESULTS = Placed(BucketSpec("out", View(), 9), Path("/job/results"), False)


def test_the_buckets_of_a_task(file: Path) -> None:
    """Resources are read-only and have directories of their own; results are written."""
    file.write_text(json.dumps(sdk_json(Task)))
    assert where("/job", spec=file) == [*RESOURCES, RESULTS]


def test_the_buckets_of_a_pool(file: Path) -> None:
    file.write_text(json.dumps(sdk_json(Pool, results=False)))
    assert where("/job", spec=file) == RESOURCES


def test_a_list_of_resources(file: Path) -> None:
    buckets = sdk_json(Task)["advancedResourceBuckets"]
    file.write_text(json.dumps(buckets))
    assert [one.directory for one in where("/job", spec=file)] == [
        one.directory for one in RESOURCES
    ]
    assert all(one.read_only for one in where("/job", spec=file))


def test_a_single_bucket_is_on_the_directory_itself(file: Path) -> None:
    file.write_text(json.dumps(sdk_json(Task)["advancedResourceBuckets"][0]))
    assert where("/mnt", spec=file) == [
        Placed(BucketSpec("data", View("a/", "")), Path("/mnt"), False)
    ]


def test_a_word_says_where_a_bucket_of_the_spec_is(file: Path) -> None:
    """It keeps its view, and stays read-only; others are where the DIR alone says."""
    file.write_text(json.dumps(sdk_json(Task)))
    found = where("data:/first", "/job", "out:/out", "more:/more", spec=file)
    assert found == [
        RESOURCES[0]._replace(directory=Path("/first")),
        RESULTS._replace(directory=Path("/out")),
        Placed(BucketSpec("more"), Path("/more"), False),
        *RESOURCES[1:],
    ]


def test_a_bucket_of_the_spec_without_a_place(file: Path) -> None:
    file.write_text(json.dumps(sdk_json(Task)))
    with pytest.raises(click.UsageError, match="Where is 'data' of the spec to be"):
        where("out:/out", spec=file)


def test_names_alone_are_resources_too(file: Path) -> None:
    """As a task of old, or of the server's, has them; the same bucket is not taken twice."""
    names = {"resourceBuckets": ["data", "data"], "resultBucket": "out"}
    file.write_text(json.dumps(names))
    assert [one.spec.bucket for one in where("/job", spec=file)] == ["data", "out"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Cannot read"),
        ("{}", "no bucket in it"),
        ("3", "a JSON object"),
        ('{"resultBucket": 3}', "'bucketName' that is a string"),
        ('[{"bucketName": "a", "filtering": {"suffix": 1}}]', "only prefixFiltering"),
        ('{"resultBucket": "out", "resultsWhitelist": "x"}', "'resultsWhitelist' is not under"),
        ('{"resultBucket": "out", "ResultsCacheTTLSec": "x"}', "'cacheTTLSec' is a whole number"),
    ],
)
def test_what_is_not_understood_is_named(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        wanted_of(file)
    assert str(file) in str(caught.value)
