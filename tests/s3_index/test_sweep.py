"""Long listings, asked for in several pieces: the same names in the same order, and once."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Unavailable
from qarnotfs.index import spans
from qarnotfs.index.index import Index
from qarnotfs.index.lister import SWEEPS_MAX
from qarnotfs.index.listing import Entry, entries_of
from qarnotfs.index.sweep import HELD_MAX, WIDTH
from qarnotfs.store.base import Flight, ListPage
from qarnotfs.store.early import Early
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import put

PAGE = 3
HANG_SEC = 10.0

numbers = st.integers(0, 400).map("{:04}".format)
names = st.one_of(
    numbers,
    numbers.map("{}/x".format),
    st.text(st.sampled_from("0123456789abcdef"), min_size=1, max_size=4),
    st.text(st.sampled_from("ab05-./Z\xe9"), min_size=1, max_size=4),
)
keys = st.frozensets(st.one_of(names, names.map("d/{}".format)), max_size=120)


class ShortPages(MemoryStore):
    """Lists a few names at once, and tells how many requests were under way together."""

    page_names = PAGE

    def list_page(
        self, prefix: str, *, count_max: int = 1000, early: Early | None = None, **how: Any
    ) -> ListPage:
        self.asked.append((how.get("start_after"), count_max))
        count_max = min(self.page_names, count_max)

        def ask(how: dict[str, Any]) -> Flight[ListPage]:
            self.sent_count += count_max > 1  # the others only look where names are
            page = super(ShortPages, self).list_page(prefix, count_max=count_max, **how)
            return Flight.landed(page)

        flight = early.take(how.get("after")) if early else None
        page = (flight or ask(how)).result()
        if early and page.next:
            early.ask(page.next, lambda: ask(how | {"after": page.next, "start_after": None}))
            self.early_count += early.is_wanted
        return page

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str | None, int]] = []
        self.early_count = self.sent_count = 0


def expected(store: ShortPages, prefix: str) -> list[tuple[str, str | None]]:
    store.page_names = 10_000
    return shown(entries_of(store.list_page(prefix, delimiter="/", count_max=10_000)))


def shown(listing: Iterable[Entry]) -> list[tuple[str, str | None]]:
    return [(name, info.etag if info else None) for name, info in listing]


def living(
    store: MemoryStore,
    story: Callable[[Index], object],
    *,
    ahead: bool = True,
    offline_reads: bool = False,
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as place:
            index = Index(
                store,
                Bridge(timeout_sec=60.0),
                Path(place) / "beliefs.db",
                ttl_sec=60.0,
                offline_reads=offline_reads,
            )
            async with trio.open_nursery() as nursery:
                if ahead:
                    await nursery.start(index.run)
                await story(index)  # type: ignore[misc]  # a coroutine
                nursery.cancel_scope.cancel()
            index.close()

    trio.run(main)


@given(keys, st.sampled_from(["", "d/", "0", "d/0"]), st.booleans())
def test_pieces_make_the_same_listing(stored: frozenset[str], prefix: str, ahead: bool) -> None:
    store = ShortPages()
    for key in stored:
        put(store, key)

    async def story(index: Index) -> None:
        assert shown(await index.listing(prefix)) == expected(store, prefix)

    living(store, story, ahead=ahead)


@given(keys, st.lists(st.tuples(st.booleans(), names), max_size=40), st.booleans())
def test_our_own_changes_meanwhile_are_seen(
    stored: frozenset[str], changes: list[tuple[bool, str]], ahead: bool
) -> None:
    """Whatever pages are under way, or held for their reader, when they are made."""
    store = ShortPages()
    for key in stored:
        put(store, key)

    async def story(index: Index) -> None:
        listing = await index.begun("")
        for present, key in changes:
            if present:
                index.remember(put(store, key, b"new"))
            elif "/" not in key:
                store.delete([key])
                index.remember_missing(key)
            if not listing.complete:
                await index.grow(listing)
        while not listing.complete:
            await index.grow(listing)
        assert shown(listing) == expected(store, "")

    living(store, story, ahead=ahead)


def MemoryStoreOf(store: ShortPages) -> MemoryStore:  # stands for the class
    store.page_names = 100_000
    return store


def directory(names: list[str]) -> ShortPages:
    store = ShortPages()
    store.page_names = 10
    for name in names:
        put(store, f"d/{name}")
    return store


@pytest.mark.parametrize(
    "names",
    [
        [f"{number:07}.bin" for number in range(1000)],
        [f"{number * 7919 % 65536:04x}" for number in range(1000)],
        [f"img-{number:05}.jpg" for number in range(1000)],
        [f"{number:03}/x" for number in range(1000)],
    ],
    ids=["numbers", "digests", "images", "directories"],
)
def test_a_long_listing_is_asked_for_in_pieces(names: list[str]) -> None:
    store = directory(names)

    async def story(index: Index) -> None:
        assert (await index.listing("d/")).count == 1000

    living(store, story, ahead=False)
    pages = [start for start, count in store.asked if count > 1]
    assert len([start for start in pages if start]) >= WIDTH
    assert len(pages) <= 100 + 20  # a piece may end in the middle of a page, or be found to have
    assert len(store.asked) - len(pages) <= 60  # questions for where to cut


def test_the_page_ahead_is_asked_for_only_where_somebody_reads_on() -> None:
    store = directory([str(number) for number in range(30)])

    async def story(index: Index) -> None:
        listing = await index.begun("d/")
        assert store.early_count == 0
        await index.grow(listing)
        assert store.early_count == 1
        while not listing.complete:
            await index.grow(listing)
        assert listing.count == 30

    living(store, story, ahead=False)


@pytest.mark.parametrize("held", [0, SWEEPS_MAX])
def test_each_page_is_asked_for_once_also_where_none_can_be_held(held: int) -> None:
    store = ShortPages()
    for prefix in ["X", *"abcdefgh"[:held]]:
        for number in range(12):
            put(store, f"{prefix}/{number:03}")

    async def story(index: Index) -> None:
        for prefix in "abcdefgh"[:held]:
            await index.begun(f"{prefix}/")
        before = store.sent_count
        listing = await index.begun("X/")
        while not listing.complete:
            await index.grow(listing)
        assert store.sent_count - before <= 12 // PAGE + 1  # behind a cut there may be nothing

    living(store, story, ahead=False)


def test_a_page_that_came_early_is_not_kept_when_it_cannot_be_taken() -> None:
    """What we change until it is asked for again is noted for that question."""
    store = ShortPages()
    for number in range(20):
        put(store, f"{number:03}")

    async def story(index: Index) -> None:
        listing = await index.begun("")
        await index.grow(listing)
        assert store.early_count == 1
        store.delete(["007"])
        index.remember_missing("007")
        index.reach.unanswered_since_sec = 1.0  # nobody is asked any more
        with pytest.raises(Unavailable):
            await index.grow(listing)
        index.reach.unanswered_since_sec = None
        while not listing.complete:
            await index.grow(listing)
        assert shown(listing) == expected(store, "")
        index.remember(put(store, "last"))
        assert len(index._changes) == 0  # nobody waits for them

    living(store, story, ahead=False, offline_reads=True)


def test_a_reader_that_stops_has_a_bounded_number_of_pages_waiting() -> None:
    store = directory([f"{number:07}.bin" for number in range(2000)])

    async def story(index: Index) -> None:
        listing = await index.begun("d/")
        for _ in range(4):
            await index.grow(listing)
        [sweep] = index._sweeps.values()
        with trio.fail_after(10):
            while index._ahead.waiting or len(index._once):
                await trio.sleep(0.001)
        held = sum(len(piece.pages) for piece in sweep._pieces)
        assert 0 < held < HELD_MAX + WIDTH
        for number in range(5):
            index.remember(put(store, f"e/{number}"))
        assert len(index._changes) > 0
        index._forget_sweeps()
        index.remember(put(store, "e/last"))
        assert len(index._changes) == 0  # nobody waits for them
        while not listing.complete:
            await index.grow(listing)
        assert listing.count == 2000

    living(store, story)


class StoppedLists:
    """From now on, LISTs of a store wait for one another, and for `go_on`."""

    def __init__(self, store: ShortPages, count: int) -> None:
        self.asked, self._count = 0, count
        self.all_asked, self.go_on = threading.Event(), threading.Event()
        self._real, store.list_page = store.list_page, self._stopped  # type: ignore[method-assign]  # a stand-in

    def _stopped(self, *args: str, **how: Any) -> ListPage:
        self.asked += 1
        if self.asked == self._count:
            self.all_asked.set()
        self.go_on.wait(HANG_SEC)
        return self._real(*args, **how)

    async def wait(self) -> None:
        assert await trio.to_thread.run_sync(self.all_asked.wait, HANG_SEC)


@pytest.mark.parametrize("count", [2 * SWEEPS_MAX, SWEEPS_MAX])
def test_readers_of_many_directories_each_get_the_page_that_they_asked_for(count: int) -> None:
    """Also when, meanwhile, nothing may be held for them any more."""
    store = ShortPages()
    for number in range(count * 20):
        put(store, f"{number % count}/{number:04}")

    async def story(index: Index) -> None:
        listings = [await index.begun(f"{number}/") for number in range(count)]
        lists = StoppedLists(store, count)
        with trio.fail_after(HANG_SEC):
            async with trio.open_nursery() as nursery:
                for listing in listings:
                    nursery.start_soon(index.grow, listing)
                await lists.wait()
                index._forget_sweeps()
                lists.go_on.set()
        assert lists.asked == count
        assert [listing.count for listing in listings] == count * [2 * PAGE]
        assert not index._changes._under_way  # nothing is held
        for listing in listings:
            while not listing.complete:
                await index.grow(listing)
        assert {listing.count for listing in listings} == {20}

    living(store, story, ahead=False)


def test_nothing_else_is_held_for_a_reader_that_waits_for_a_page() -> None:
    store = directory([f"{number:07}.bin" for number in range(2000)])

    async def story(index: Index) -> None:
        listing = await index.begun("d/")
        for _ in range(4):
            await index.grow(listing)
        assert index._changes._under_way
        lists, before = StoppedLists(store, 1), listing.count
        with trio.fail_after(HANG_SEC):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(index.grow, listing)
                await lists.wait()
                index._forget_sweeps()
                lists.go_on.set()
        assert listing.count == before + 10
        assert not index._changes._under_way

    living(store, story, ahead=False)


def test_what_is_held_for_a_reader_that_has_stopped_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others have its place then."""
    store = directory([f"{number:07}.bin" for number in range(2000)])
    monkeypatch.setattr("qarnotfs.index.index.UNUSED_SEC", 0.01)

    async def story(index: Index) -> None:
        listing = await index.begun("d/")
        for _ in range(4):
            await index.grow(listing)
        assert index._changes._under_way
        with trio.fail_after(HANG_SEC):
            while index._sweeps or index._changes._under_way:
                await trio.sleep(0.001)

    living(store, story)


def test_a_piece_that_fails_is_asked_for_again() -> None:
    store = directory([f"{number:07}.bin" for number in range(1000)])

    async def story(index: Index) -> None:
        listing = await index.begun("d/")
        store.faults = lambda method, key: Unavailable("down")
        index._bridge.timeout_sec = 1.0  # it is waited out
        with pytest.raises(Unavailable):
            await index.grow(listing)
        store.faults = lambda method, key: None
        index._bridge.timeout_sec = 60.0
        while not listing.complete:
            await index.grow(listing)
        assert listing.count == 1000
        assert not index._changes._under_way

    living(store, story, ahead=False)


@given(
    st.lists(
        st.tuples(st.text("abc", max_size=2), st.one_of(st.none(), st.text("abc"))), max_size=6
    )
)
def test_cuts_have_something_between_them(found: list[tuple[str, str | None]]) -> None:
    points = dict(found)
    cuts = spans.cuts(list(points.items()))
    assert cuts == sorted(set(cuts))
    behind = [points[cut] for cut in cuts]
    assert None not in behind
    assert all(a != b for a, b in pairwise(behind))


def test_no_point_lies_inside_of_a_directory() -> None:
    """A server leaves out a common prefix that a listing begins inside of."""
    first, last = "d/a0/", "d/a9/"
    for point in spans.firsts("d/", first, last):
        assert "/" not in point[2:]
        assert all("/" not in other[2:] for other in spans.all_of("d/", first, last, point))
