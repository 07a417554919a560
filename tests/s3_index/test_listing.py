"""A packed listing is an ordered dict that takes little memory."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.index import listing as listings
from qarnotfs.index.listing import OPEN_PAGES, PAGE_NAMES, Listing
from qarnotfs.store.base import ObjectInfo

names = st.text(st.sampled_from("ab-/\u00e9\U0001f600"), min_size=1, max_size=4).map("d/".__add__)


def info(key: str, size: int = 1) -> ObjectInfo:
    return ObjectInfo(key, size, f"{size:032x}", 1_700_000_000)


def many(count: int) -> Listing:
    return Listing("d/", 0.0, ((f"d/{n:07}", info(f"d/{n:07}", n)) for n in range(count)))


@given(st.lists(st.tuples(names, st.integers(0, 3))), names)
def test_it_is_an_ordered_dict(changes: list[tuple[str, int]], probe: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "PAGE_NAMES", 2)
        found, model = Listing("d/", 0.0), dict[str, ObjectInfo | None]()
        for name, size in changes:
            if size:
                model[name] = info(name, size) if size > 1 else None
                found.put(name, model[name])
            else:
                model.pop(name, None)
                found.drop(name)
        ordered = sorted(model.items(), key=lambda entry: entry[0].encode())
        assert list(found) == ordered
        assert list(found.backwards()) == ordered[::-1]
        assert list(found.after(probe)) == [entry for entry in ordered if entry[0] > probe]
        assert (found.count, probe in found, found.get(probe)) == (
            len(model), probe in model, model.get(probe)
        )  # fmt: skip
        again = Listing("d/", 0.0)
        for number in range(found.page_count):
            again.extend_packed(found.packed(number))
        assert list(again) == ordered


def test_of_many_names_only_some_are_unpacked() -> None:
    count = 100 * PAGE_NAMES
    listing = many(count)
    assert listing.count == count
    assert sum(1 for _ in listing) == count
    assert listing.get("d/0050000") == info("d/0050000", 50_000)
    assert sum(len(page.entries) for page in listing._pages) == OPEN_PAGES * PAGE_NAMES
    packed = sum(len(page.data) for page in listing._pages)
    assert packed < 60 * count
    assert listing.weight < count // 4


def test_a_name_keeps_its_metadata_while_its_page_is_used() -> None:
    listing = many(3)
    known = ObjectInfo("d/0000001", 1, f"{1:032x}", 1_700_000_000, {"mode": "33188"})
    listing.enrich(known)
    assert listing.get(known.key) == known
    assert dict(listing)[known.key] == known


@pytest.mark.parametrize("damage", [b"garbage", zlib.compress(b"[1]"), zlib.compress(b"text")])
def test_a_damaged_page_is_refused(damage: bytes) -> None:
    page = many(3).packed(0)._replace(data=damage)
    with pytest.raises(ValueError, match="listing"):
        Listing("d/", 0.0).extend_packed(page)


def test_a_packed_page_is_opened_when_it_is_wanted() -> None:
    """A listing of a million names is read from the database without looking at them."""
    found, again = many(5 * PAGE_NAMES), Listing("d/", 0.0)
    for number in range(found.page_count):
        again.extend_packed(found.packed(number))
    assert (again.count, again.end) == (found.count, found.end)
    assert not any(page.entries for page in again._pages)
    assert list(again) == list(found)


def test_pages_out_of_order_are_refused() -> None:
    listing = many(2 * PAGE_NAMES)
    with pytest.raises(ValueError, match="order"):
        Listing("d/", 0.0, [("d/z", None)]).extend_packed(listing.packed(0))
