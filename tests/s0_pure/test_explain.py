"""What `check` says of names: where a mount shows a key, and why not under the key itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.core.explain import explain
from qarnotfs.core.tree import children
from qarnotfs.index.listing import Entry
from qarnotfs.store.base import ObjectInfo
from qarnotfs.views import View

pieces = st.sampled_from(["a", "b", "/", "/", ".", "..", "%", "25", "2F", "FILE", "%FILE", "\0"])
keys = st.lists(pieces, min_size=1, max_size=6).map("".join)
buckets = st.dictionaries(keys, st.integers(0, 1), max_size=8)


class NoDebts:
    def children(self, prefix: str) -> dict[str, bool]:
        return {}

    def get(self, key: str) -> bool | None:
        return None

    def put_size(self, key: str) -> int | None:
        return None


def walked(bucket: dict[str, int], view: View, directory: str = "") -> dict[str, str]:
    """The path of each stored key, as the tree has it."""
    listed: dict[str, list[Entry]] = {}
    for scope in view.scopes(directory):
        entries: dict[str, ObjectInfo | None] = {}
        for key in sorted(bucket):
            if key.startswith(scope.prefix):
                slash = key.find("/", len(scope.prefix))
                whole = slash < 0
                entries[key if whole else key[: slash + 1]] = (
                    ObjectInfo(key, bucket[key], "etag", 1) if whole else None
                )
        listed[scope.prefix] = list(entries.items())
    found: dict[str, str] = {}
    for name, node in children(view, directory, listed, NoDebts()).items():
        if not node.is_directory:
            found[node.key] = name.decode()
        else:
            below = walked(bucket, view, node.key)
            found |= {key: f"{name.decode()}/{path}" for key, path in below.items()}
    return found


@given(buckets, st.sampled_from(["", "a/", "a"]))
def test_the_paths_are_those_of_the_tree(bucket: dict[str, int], strip: str) -> None:
    view = View(strip_prefix=strip)
    said = {one.key: one.path for one in explain(view, bucket.items())}
    plain = {key: view.visible(key) for key in bucket if key not in said}
    shown = {key: path for key, path in (plain | said).items() if path}
    markers = {key for key in bucket if (view.visible(key) or "").endswith("/") and not bucket[key]}
    assert {k: path for k, path in shown.items() if k not in markers} == walked(bucket, view)


def test_why() -> None:
    sizes = {
        **dict.fromkeys(["a", "a/b", "plain", "%41", "d/"], 0),
        **dict.fromkeys(
            ["x//y", "./z", "../z", "n\0", "%2F", "c%FILE", "e/", "%252F" + "k" * 3], 1
        ),
    }
    said = {one.key: (one.path, one.why) for one in explain(View(), sizes.items())}
    assert {key: path for key, (path, _) in said.items()} == {
        "a": "a%FILE",
        "x//y": "x/%2F/y",
        "./z": "%2E/z",
        "../z": "%2E%2E/z",
        "n\0": "n%00",
        "%2F": "%252F",
        "c%FILE": "c%25FILE",
        "e/": "e/%2F",
    }
    assert "directory of this name" in said["a"][1]
    assert "empty part" in said["e/"][1]
    assert "looks like one of our escapes" in said["%2F"][1]


def test_keys_that_no_path_can_name() -> None:
    long = "k" * 1022
    [one] = explain(View(), [(long, 1), (f"{long}/x", 1)])
    assert (one.key, one.path) == (long, None)
    assert "1024 bytes" in one.why
    [hidden] = explain(View(strip_prefix="s/"), [("a", 1), ("s/a", 1)])
    assert (hidden.key, hidden.path) == ("a", None)
    assert "'s/a' is seen under its name" in hidden.why
