"""Views: the laws of DESIGN, and the SDK's JSON."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from qarnot._util import get_sanitized_bucket_path
from qarnot.advanced_bucket import (
    BucketPrefixFiltering,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)
from qarnot.bucket import Bucket

from qarnotfs.errors import NotPermitted, UsageError
from qarnotfs.views import BucketSpec, Scope, View

# Few letters and short keys, so that prefixes, clashes and empty segments meet all the time.
keys = st.text("ab/", min_size=1, max_size=7)
prefixes = st.text("ab/", max_size=4)
views = st.builds(View, filter_prefix=prefixes, strip_prefix=prefixes)
# Views whose filter lies within their strip, behind its separator for the second kind.
within = st.builds(lambda strip, rest: View(strip + rest, strip), prefixes, prefixes)
separated = st.builds(
    lambda strip, rest, slash: View(f"{strip}/{rest}", strip + slash),
    prefixes,
    prefixes,
    st.sampled_from(["", "/"]),
)
directories = st.one_of(st.just(""), st.text("ab/", max_size=4).map(lambda text: text + "/"))
wild_text = st.text(
    st.one_of(st.sampled_from("/\\ \ta."), st.characters(exclude_categories=["Cs"]))
)

# The SDK writes a prefix that sanitising left empty; ours is left out, which says the same.
some_prefix = st.builds("{}x{}".format, wild_text, wild_text)

# A connection that sanitises, as by default, and is never asked anything.
SDK = SimpleNamespace(s3client=object(), _sanitize_bucket_paths=True, _show_bucket_warnings=False)


def children_as_listed(view: View, stored: set[str], directory: str) -> set[str]:
    """What a caller learns from `View.scopes`, asking a bucket that holds ``stored``."""
    children = set()
    for scope in view.scopes(directory):
        for entry in list_bucket(stored, scope.prefix):
            visible = view.visible_prefix(entry) if entry.endswith("/") else view.visible(entry)
            children |= child_of(directory, visible)
    return children


def list_bucket(stored: set[str], prefix: str) -> set[str]:
    """ListObjects with delimiter "/": keys, and common prefixes."""
    below = (key.removeprefix(prefix).partition("/") for key in stored if key.startswith(prefix))
    return {prefix + head + slash for head, slash, _ in below}


def children_by_definition(view: View, stored: set[str], directory: str) -> set[str]:
    return {child for key in stored for child in child_of(directory, view.visible(key))}


def child_of(directory: str, visible: str | None) -> set[str]:
    if visible is None or not visible.startswith(directory) or visible == directory:
        return set()
    head, slash, _ = visible.removeprefix(directory).partition("/")
    return {head + slash}


class TestVisible:
    @pytest.mark.parametrize(
        ("strip", "key", "visible"),
        [
            ("", "a/x", "a/x"),
            ("a/", "a/x", "x"),
            ("a/", "b/x", "b/x"),
            ("a/", "a/", None),
            ("a/", "a", "a"),
            ("a/", "a//x", "/x"),
            ("a", "a/x", "x"),
            ("a", "a//x", "/x"),
            ("a", "ax", "x"),
            ("a", "a", None),
            ("a", "a/", None),
            ("im", "images/x", "ages/x"),
        ],
    )
    def test_strip(self, strip: str, key: str, visible: str | None) -> None:
        assert View(strip_prefix=strip).visible(key) == visible

    def test_filter_is_a_string_and_looks_at_stored_keys(self) -> None:
        view = View(filter_prefix="img", strip_prefix="img/")
        seen = [view.visible(key) for key in ("img1.png", "images/x", "img/y", "other")]
        assert seen == ["img1.png", None, "y", None]


class TestStored:
    @given(views, keys)
    def test_what_is_written_is_seen(self, view: View, path: str) -> None:
        with contextlib.suppress(NotPermitted):
            stored = view.stored(path)
            assert view.visible(stored) == path
            assert stored.startswith(view.strip_prefix)

    @given(prefixes, keys)
    def test_without_a_filter_everything_can_be_written(self, strip: str, path: str) -> None:
        view = View(strip_prefix=strip)
        assert view.visible(view.stored(path)) == path

    @given(views, keys)
    def test_refused_only_where_every_stripped_key_is_hidden(self, view: View, path: str) -> None:
        stripped = [
            key
            for key in (view.strip_prefix + path, f"{view.strip_prefix}/{path}")
            if view.visible(key) == path
        ]
        try:
            stored = view.stored(path)
        except NotPermitted:
            assert stripped == []
        else:
            assert stored == stripped[0]

    @given(separated, st.sets(keys))
    def test_filter_within_strip_is_one_to_one(self, view: View, tails: set[str]) -> None:
        stored = {view.filter_prefix + tail for tail in tails} | tails
        seen = {key: view.visible(key) for key in stored}
        shown = [visible for visible in seen.values() if visible is not None]
        assert len(shown) == len(set(shown))
        assert all(view.stored(visible) == key for key, visible in seen.items() if visible)

    def test_the_separator_is_found_where_the_filter_wants_it(self) -> None:
        assert View("proj/x", "proj").stored("xy") == "proj/xy"
        assert View("projx", "proj").stored("xy") == "projxy"

    def test_refusal_names_the_prefix(self) -> None:
        with pytest.raises(NotPermitted, match="only keys that start with 'projects/2024/'"):
            View("projects/2024/", "projects/").stored("2023/a")


class TestCandidates:
    @given(views, st.sets(keys), keys)
    def test_are_all_that_is_seen_so(self, view: View, stored: set[str], path: str) -> None:
        stored |= {path, view.strip_prefix + path, f"{view.strip_prefix}/{path}"}
        candidates = view.candidates(path)
        assert {key for key in stored if view.visible(key) == path} == set(candidates) & stored
        assert all(view.visible(key) == path for key in candidates)
        assert len(set(candidates)) == len(candidates)

    @given(views, keys)
    def test_where_a_new_one_goes_wins(self, view: View, path: str) -> None:
        try:
            stored = view.stored(path)
        except NotPermitted:
            assert view.candidates(path) in ((), (path,))
        else:
            assert view.candidates(path)[0] == stored

    def test_stripped_wins(self) -> None:
        assert View(strip_prefix="a").candidates("x") == ("ax", "a/x", "x")
        assert View(strip_prefix="a/").candidates("x") == ("a/x", "x")


class TestScopes:
    @given(views, st.sets(keys, max_size=12), directories)
    @example(View("", "a/b/"), {"a/b/x"}, "")  # what looks like a directory, and is not
    def test_listing_them_finds_the_children(
        self, view: View, stored: set[str], directory: str
    ) -> None:
        listed = children_as_listed(view, stored, directory)
        real = children_by_definition(view, stored, directory)
        assert real <= listed
        above_strip = {child for child in listed - real if child.endswith("/")}
        assert above_strip == listed - real
        assert all(view.strip_prefix.startswith(directory + child) for child in above_strip)

    @given(within, st.sets(keys, max_size=12), directories)
    def test_filter_within_strip_finds_nothing_else(
        self, view: View, tails: set[str], directory: str
    ) -> None:
        stored = {view.filter_prefix + tail for tail in tails} | tails
        assert children_as_listed(view, stored, directory) == children_by_definition(
            view, stored, directory
        )

    @given(views, directories)
    def test_ask_only_for_admitted_keys_and_for_nothing_twice(
        self, view: View, directory: str
    ) -> None:
        scopes = [scope.prefix for scope in view.scopes(directory)]
        assert all(view.admits(prefix) for prefix in scopes)
        everything = {prefix + tail for prefix in scopes for tail in ("", "a", "/", "a/", "//")}
        listings = [list_bucket(everything, prefix) for prefix in scopes]
        for one in listings:
            assert not any(one < other for other in listings)
            assert listings.count(one) == 1

    @pytest.mark.parametrize(
        ("view", "directory", "scopes"),
        [
            (View(), "", [("", True)]),
            (View(), "a/", [("a/", True)]),
            (View("projects/", "projects/"), "", [("projects/", True)]),
            (View("projects/", "projects/"), "x/", [("projects/x/", True)]),
            (View("projects/", "projects"), "", [("projects/", True)]),
            (View("a/b/c"), "", [("a/b/c", False)]),
            (View("a/b/c"), "a/b/", [("a/b/c", False)]),
            (View("a/b/c"), "a/b/c/", [("a/b/c/", True)]),
            (View("a/b/c"), "x/", []),
            (View("", "a/"), "", [("a/", True), ("", True)]),
            (View("", "a/"), "x/", [("a/x/", True), ("x/", True)]),
            (View("", "a/"), "a/", [("a/a/", True)]),
            (View("", "a"), "", [("a/", True), ("", True)]),
            (View("", "a/b"), "", [("a/b", True), ("a/b/", True), ("", True)]),
        ],
    )
    def test_examples(self, view: View, directory: str, scopes: list[tuple[str, bool]]) -> None:
        assert view.scopes(directory) == tuple(Scope(*scope) for scope in scopes)


class TestSanitising:
    @given(wild_text)
    @example(" /a")  # the SDK trims last, and leaves the slash
    @example("\\/a")
    def test_is_the_sdks(self, prefix: str) -> None:
        view = View(prefix, prefix)
        assert view.filter_prefix == get_sanitized_bucket_path(prefix, show_warning=False)
        assert view.strip_prefix == view.filter_prefix

    def test_not_unicode(self) -> None:
        with pytest.raises(UsageError, match="UTF-8"):
            View("\udc80")


def sdk_bucket(filter_prefix: str | None, strip_prefix: str | None, ttl: int | None) -> Bucket:
    filtering, transformation = Filtering(), ResourcesTransformation()
    if filter_prefix is not None:
        filtering.append(BucketPrefixFiltering(filter_prefix))
    if strip_prefix is not None:
        transformation.append(PrefixResourcesTransformation(strip_prefix))
    return Bucket(SDK, "my-bucket", False, filtering, transformation, ttl)


class TestBucketSpec:
    @given(
        st.none() | some_prefix,
        st.none() | some_prefix,
        st.none() | st.integers(min_value=0),
    )
    def test_json_is_the_sdks_byte_for_byte(
        self, filter_prefix: str | None, strip_prefix: str | None, ttl_sec: int | None
    ) -> None:
        theirs = sdk_bucket(filter_prefix, strip_prefix, ttl_sec)
        ours = BucketSpec("my-bucket", View(filter_prefix or "", strip_prefix or ""), ttl_sec)
        assert json.dumps(ours.to_json()) == json.dumps(theirs.to_json())
        # Reading it back sanitises again, in both.
        reread = Bucket.from_json(SDK, theirs.to_json()).to_json()
        assert json.dumps(BucketSpec.from_json(theirs.to_json()).to_json()) == json.dumps(reread)

    @given(views, st.none() | st.integers(min_value=0))
    def test_round_trip(self, view: View, ttl_sec: int | None) -> None:
        spec = BucketSpec("b", view, ttl_sec)
        assert BucketSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec

    def test_the_sdks_example(self) -> None:
        text = (
            '{"bucketName": "b", "filtering": {"prefixFiltering": {"prefix": "a/"}}, '
            '"resourcesTransformation": {"stripPrefix": {"prefix": "a/"}}, "cacheTTLSec": 2592000}'
        )
        spec = BucketSpec.from_json(json.loads(text))
        assert spec == BucketSpec("b", View("a/", "a/"), 2592000)
        assert json.dumps(spec.to_json()) == text

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_what_says_nothing(self, nothing: object) -> None:
        said = {"bucketName": "b", "filtering": nothing, "resourcesTransformation": nothing}
        assert BucketSpec.from_json(said) == BucketSpec.from_json({"bucketName": "b"})
        assert BucketSpec("b").to_json() == {
            "bucketName": "b",
            "filtering": {},
            "resourcesTransformation": {},
            "cacheTTLSec": None,
        }

    def test_empty_prefix_is_no_prefix(self) -> None:
        said = {"bucketName": "b", "filtering": {"prefixFiltering": {"prefix": "/"}}}
        assert BucketSpec.from_json(said) == BucketSpec("b")

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ([], "JSON object"),
            (None, "JSON object"),
            ({}, "bucketName"),
            ({"bucketName": 7}, "bucketName"),
            ({"bucketName": ""}, "name"),
            ({"bucketName": "a/b"}, "without '/'"),
            ({"bucketName": "b", "filterings": {}}, "filterings"),
            ({"bucketName": "b", "filtering": []}, "filtering"),
            ({"bucketName": "b", "filtering": {"suffixFiltering": {}}}, "suffixFiltering"),
            ({"bucketName": "b", "filtering": {"stripPrefix": {"prefix": "a"}}}, "stripPrefix"),
            ({"bucketName": "b", "filtering": {"prefixFiltering": "a"}}, "prefixFiltering"),
            ({"bucketName": "b", "filtering": {"prefixFiltering": None}}, "prefixFiltering"),
            ({"bucketName": "b", "filtering": {"prefixFiltering": {}}}, "'prefix'"),
            ({"bucketName": "b", "filtering": {"prefixFiltering": {"prefix": 1}}}, "string"),
            (
                {"bucketName": "b", "filtering": {"prefixFiltering": {"prefix": "a", "not": "b"}}},
                "'not'",
            ),
            ({"bucketName": "b", "resourcesTransformation": {"rename": {}}}, "rename"),
            ({"bucketName": "b", "cacheTTLSec": -1}, "at least 0"),
            ({"bucketName": "b", "cacheTTLSec": True}, "whole number"),
            ({"bucketName": "b", "cacheTTLSec": 1.5}, "whole number"),
            ({"bucketName": "b", "cacheTTLSec": "60"}, "whole number"),
        ],
    )
    def test_what_is_wrong_is_said(self, wrong: object, sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence):
            BucketSpec.from_json(wrong)
