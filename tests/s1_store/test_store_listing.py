"""What every store lists, page by page, whatever the keys look like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qarnotfs.store.base import Attributes, ListPage, Store
from qarnotfs.store.memory import MemoryStore
from qarnotfs.store.s3 import S3Store
from tests.s1_store.conftest import empty

ODD_KEYS = [
    *("é/ü", "emoji😀", "sp  two", " led", "trailed ", "a//b", "/lead", "./a", "../b", ".", ".."),
    *("a/./b", "a/../b", "a%41", "a%2Fb", "+plus +", "a&b=c", "q?a=b&c=d#f;'\"<>&amp;", "\\back"),
    *("tab\tq", "new\nline/x", "r\rx", "\x01/a", "a\x01c/y", "a\x01c/z", "a/\x02b/\x03c", "t\x7fx"),
    *("\x85nel", "\u2028x", "\ufffe", "\uffffx/y", "\uf8ff", "dir/", "dir", "dir/a", "dir0", "~"),
    *("k" * 1024, "ü" * 512, "x/" * 400, "&#x1;", "a=b", "a:b", "a*b", "$(x)", "{}", "[]", "^`|"),
]


def fill(store: Store, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, key.encode(), Attributes()).result(), keys))


def pages(store: Store, prefix: str, count_max: int = 1000, delimiter: str = "") -> list[ListPage]:
    """Every page; all but the last are full."""
    found = [store.list_page(prefix, delimiter=delimiter, count_max=count_max)]
    while (after := found[-1].next) is not None:
        assert len(found[-1].objects) + len(found[-1].prefixes) == count_max
        assert len(found) < 1000
        found.append(store.list_page(prefix, delimiter=delimiter, count_max=count_max, after=after))
    return found


def keys_of(found: list[ListPage]) -> list[str]:
    return [info.key for page in found for info in page.objects]


def prefixes_of(found: list[ListPage]) -> list[str]:
    return [prefix for page in found for prefix in page.prefixes]


def test_odd_keys_are_stored_listed_and_deleted(store: Store) -> None:
    fill(store, ODD_KEYS)
    for key in ODD_KEYS:
        size = len(key.encode())
        info = store.head(key).result()
        assert (info.key, info.size) == (key, size)
        assert store.get(key, 0, size, etag=info.etag).result().data == key.encode()
    assert keys_of(pages(store, "")) == sorted(ODD_KEYS)
    assert keys_of(pages(store, "", count_max=1)) == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        assert key in keys_of(pages(store, key))
        found = store.list_page("", start_after=key)
        assert keys_of([found]) == [other for other in sorted(ODD_KEYS) if other > key]
    for key in ODD_KEYS[::7]:
        assert store.copy(key, key, Attributes({"a": "b"})).metadata == {"a": "b"}
        upload_id = store.create_upload(key, Attributes())
        etag = store.copy_part(key, upload_id, 1, store.head(key).result(), 0, 1)
        store.complete_upload(key, upload_id, [etag])
        assert store.head(key).result().size == 1
    assert store.delete(ODD_KEYS) == {}
    assert store.list_page("") == ListPage((), (), None)


@pytest.mark.parametrize("count_max", [1, 2, 1000])
def test_roll_up_of_odd_keys(store: Store, count_max: int) -> None:
    fill(store, ODD_KEYS)
    top = {key[: key.find("/") + 1] for key in ODD_KEYS if "/" in key}
    found = pages(store, "", count_max, "/")
    assert keys_of(found) == sorted(key for key in ODD_KEYS if "/" not in key)
    assert prefixes_of(found) == sorted(top)
    for prefix in top:
        inside = [key for key in ODD_KEYS if key.startswith(prefix)]
        assert keys_of(pages(store, prefix, count_max)) == sorted(inside)


def test_an_entry_says_what_head_says_but_attributes(store: Store) -> None:
    store.put("k", b"data", Attributes({"a": "b"}, "text/x-c")).result()
    (entry,) = store.list_page("").objects
    assert entry == store.head("k").result().without_metadata()


def test_prefix_is_a_string_and_no_directory(store: Store) -> None:
    fill(store, ["img1", "images/x", "im", "imh"])
    assert keys_of([store.list_page("im", delimiter="/")]) == ["im", "img1", "imh"]
    assert prefixes_of([store.list_page("im", delimiter="/")]) == ["images/"]
    assert store.list_page("none") == ListPage((), (), None)


def test_start_after(store: Store) -> None:
    fill(store, ["a", "a/1", "a/2", "a0", "b"])
    assert keys_of([store.list_page("a", start_after="a/1")]) == ["a/2", "a0"]
    assert keys_of([store.list_page("a/", start_after="A")]) == ["a/1", "a/2"]
    assert keys_of([store.list_page("a/", start_after="z")]) == []
    behind = store.list_page("", delimiter="/", start_after="a")
    assert (keys_of([behind]), prefixes_of([behind])) == (["a0", "b"], ["a/"])
    behind = store.list_page("", delimiter="/", start_after="a/")
    assert (keys_of([behind]), prefixes_of([behind])) == (["a0", "b"], [])


def test_more_than_a_page_of_keys(store: Store) -> None:
    names = [f"n/{number:05}" for number in range(1201)]
    fill(store, names)
    found = pages(store, "n/")
    assert [len(page.objects) for page in found] == [1000, 201]
    assert keys_of(found) == names


@pytest.fixture
def twins(s3_store: S3Store) -> tuple[MemoryStore, S3Store]:
    return MemoryStore(), s3_store


# Letters that sort on both sides of the delimiter, and some that need escaping.
_keys = st.text(alphabet="a/b0\n\x01%+é\U0001f600", min_size=1, max_size=6)


@pytest.mark.gateway
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    keys=st.lists(_keys, max_size=8, unique=True),
    prefix=st.text(alphabet="a/b\x01", max_size=2),
    delimiter=st.sampled_from(["", "/", "b"]),
    start_after=st.none() | _keys,
    count_max=st.integers(1, 4),
)
def test_twins_list_alike(
    twins: tuple[MemoryStore, S3Store],
    keys: list[str],
    prefix: str,
    delimiter: str,
    start_after: str | None,
    count_max: int,
) -> None:
    seen = []
    for store in twins:
        empty(store)
        fill(store, keys)
        found = pages(store, prefix, count_max, delimiter)
        begun = store.list_page(prefix, delimiter=delimiter, start_after=start_after)
        seen.append([keys_of(found), prefixes_of(found), keys_of([begun]), prefixes_of([begun])])
    assert seen[0] == seen[1]
