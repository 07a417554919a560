"""`core.walk` by itself: what many programs leave behind harms none of them."""

from __future__ import annotations

from qarnotfs.core.trail import NEAR
from qarnotfs.core.walk import BYTES_MAX, WALKS_MAX, Walks
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo


def directory(prefix: str, count: int = 3) -> Listing:
    keys = (f"{prefix}{number}" for number in range(count))
    return Listing(prefix, 0.0, [(key, ObjectInfo(key, 1, "e", 0)) for key in keys])


def test_a_walk_that_goes_on_is_not_forgotten_for_those_it_begins() -> None:
    walks, own = Walks(), directory("own/", 9)
    for number in range(4):
        walks.used(own, f"own/{number}", comes=False)
    for number in range(WALKS_MAX - 1):
        walks.used(directory(f"other{number}/"), f"other{number}/0", comes=False)
    assert walks.looked(own, "own/4", comes=False)
    onward = [directory(f"next{number}/", 1) for number in range(NEAR)]
    found = []
    for there, info in walks.wanted(own, onward, BYTES_MAX):
        walks.asked(there, info.key)
        found.append(info.key)
    assert found[0] == "own/4"
    assert len(found) == 8  # as many as its window has
    walks.refused(own)
    assert walks.looked(own, "own/4", comes=False)
