"""The bucket's JSON is the SDK's, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import qarnot.advanced_bucket as sdk
from hypothesis import given
from hypothesis import strategies as st
from qarnot.bucket import Bucket as SdkBucket

from qarnotfs import (
    Bucket,
    BucketPrefixFiltering,
    Connection,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)
from qarnotfs.errors import UsageError
from qarnotfs.views import View

PREFIXES = st.text(st.sampled_from("ab/\\ é."), max_size=8)
TTLS = st.none() | st.integers(0, 2**40)


def ours() -> Connection:
    """Somewhere that is never asked."""
    environ = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    return Connection.from_environment(environ=environ)


def theirs() -> Any:
    return SimpleNamespace(
        s3client=object(), _sanitize_bucket_paths=True, _show_bucket_warnings=False
    )


CONNECTION = ours()


def plain() -> Bucket:
    return Bucket(CONNECTION, "data", create=False)


@given(PREFIXES, PREFIXES, TTLS)
def test_json_is_the_sdks(prefix: str, strip: str, ttl: int | None) -> None:
    """Made in the same way; its way to clean a prefix gives something else when repeated."""
    our_rules = (Filtering(), ResourcesTransformation())
    their_rules = (sdk.Filtering(), sdk.ResourcesTransformation())
    our_rules[0].append(BucketPrefixFiltering(prefix))
    our_rules[1].append(PrefixResourcesTransformation(strip))
    their_rules[0].append(sdk.BucketPrefixFiltering(prefix))
    their_rules[1].append(sdk.PrefixResourcesTransformation(strip))
    our = Bucket(CONNECTION, "data", False, *our_rules, cacheTTLSec=ttl)
    their = SdkBucket(theirs(), "data", False, *their_rules, cacheTTLSec=ttl)
    said = their.to_json()
    assert json.dumps(our.to_json()) == json.dumps(said)
    read = SdkBucket.from_json(theirs(), said).to_json()
    assert Bucket.from_json(CONNECTION, said).to_json() == read


def test_json_of_a_plain_bucket_is_the_sdks() -> None:
    their = SdkBucket(theirs(), "data", False)
    assert json.dumps(plain().to_json()) == json.dumps(their.to_json())


def test_what_the_sdk_made_is_taken() -> None:
    """Its classes and ours can be exchanged."""
    filtering = sdk.Filtering()
    filtering.append(sdk.BucketPrefixFiltering("//a/b"))
    bucket = Bucket(CONNECTION, "data", create=False, filtering=filtering)
    bucket = bucket.with_resource_transformation(sdk.PrefixResourcesTransformation("a/"))
    assert (bucket.view.filter_prefix, bucket.view.strip_prefix) == ("a/b", "a/")
    assert filtering.to_json() == {"prefixFiltering": {"prefix": "//a/b"}}  # not ours to change


def test_the_rules_say_what_the_sdks_say() -> None:
    for our, their in (
        (Filtering(), sdk.Filtering()),
        (ResourcesTransformation(), sdk.ResourcesTransformation()),
    ):
        assert our.to_json() == their.to_json()
    spec = {"prefixFiltering": {"prefix": "x"}}
    assert Filtering.from_json(spec).to_json() == sdk.Filtering.from_json(spec).to_json()


def test_the_sdk_takes_what_we_made() -> None:
    filtering, transformation = Filtering(), ResourcesTransformation()
    filtering.append(BucketPrefixFiltering("//a/b"))
    transformation.append(PrefixResourcesTransformation("/a"))
    bucket = SdkBucket(theirs(), "data", False, filtering, transformation, 5)
    ours = Bucket(CONNECTION, "data", False, filtering, transformation, 5)
    assert json.dumps(bucket.to_json()) == json.dumps(ours.to_json())
    assert ours.view == View("a/b", "a")
    bucket = SdkBucket(theirs(), "data", False).with_filtering(BucketPrefixFiltering("//c"))
    bucket = bucket.with_cache_ttl(3)
    bucket = bucket.with_resource_transformation(PrefixResourcesTransformation("//d"))
    assert bucket.with_cache_ttl(4).to_json() == {
        "bucketName": "data",
        "filtering": {"prefixFiltering": {"prefix": "c"}},
        "resourcesTransformation": {"stripPrefix": {"prefix": "d"}},
        "cacheTTLSec": 4,
    }


class Excluding:
    """A rule of somebody else's kind; it has a ``prefix``, which means something else."""

    name = "excludePrefix"
    prefix = "secret/"

    def to_json(self) -> dict[str, str]:
        return {"prefix": self.prefix}


def test_rules_of_a_kind_that_is_not_known_are_refused() -> None:
    """Neither left out nor taken for another, wherever they come from."""
    rule: Any = Excluding()
    filtering, transformation = sdk.Filtering(), sdk.ResourcesTransformation()
    filtering.append(rule)
    transformation.append(rule)
    ways: list[Callable[[], object]] = [
        lambda: Bucket(CONNECTION, "data", False, filtering),
        lambda: Bucket(CONNECTION, "data", False, None, transformation),
        lambda: plain().with_filtering(rule),
        lambda: plain().with_resource_transformation(rule),
        lambda: Filtering.from_json({rule.name: rule.to_json()}),
    ]
    for way in ways:
        with pytest.raises(UsageError, match="'excludePrefix'"):
            way()


def test_nothing_that_was_set_is_forgotten() -> None:
    bucket = (
        plain()
        .with_cache_ttl(5)
        .with_filtering(BucketPrefixFiltering("a/"))
        .with_resource_transformation(PrefixResourcesTransformation("a"))
        .with_filtering(BucketPrefixFiltering("a/b/"))
    )
    assert bucket.cache_ttl_sec == 5
    assert (bucket.view.filter_prefix, bucket.view.strip_prefix) == ("a/b/", "a")


def test_a_bucket_is_not_changed_by_its_copies() -> None:
    bucket = plain()
    bucket.with_filtering(BucketPrefixFiltering("a/")).with_cache_ttl(5)
    assert bucket.to_json() == plain().to_json()


@pytest.mark.parametrize("ttl", [-1, 1.5, "60", True])
def test_a_cache_time_that_cannot_be_right_is_refused(ttl: Any) -> None:
    with pytest.raises(UsageError, match="cacheTTLSec"):
        plain().with_cache_ttl(ttl)


def test_a_filter_that_is_not_known_is_refused() -> None:
    """Ignoring it would show, and write to, more than was meant."""
    with pytest.raises(UsageError, match="regexFiltering"):
        Bucket.from_json(CONNECTION, plain().to_json() | {"filtering": {"regexFiltering": {}}})
