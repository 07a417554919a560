"""Beliefs: asked once, kept for the TTL, shared on disk, corrected by our own changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest
import trio

from qarnotfs.errors import NoSuchKey, Refused, Unavailable
from qarnotfs.index.changes import Changes
from qarnotfs.index.index import Index
from qarnotfs.store.base import Flight, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import TTL_SEC, Clock, answered_late, ask, put, requests


def test_a_version_is_asked_for_once_in_the_ttl(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    put(store, "a", b"one", mode="33188")
    index = make()
    assert requests(store, lambda: index.info("a")) == 1
    put(store, "a", b"two!", mode="33188")
    assert requests(store, lambda: index.info("a")) == 0
    assert ask(lambda: index.info("a")).size == 3
    clock.now_sec += TTL_SEC
    assert ask(lambda: index.info("a")).size == 4


def test_an_absence_is_believed_too(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    index = make()
    for expected in (1, 0):
        before = len(store.calls)
        with pytest.raises(NoSuchKey):
            ask(lambda: index.info("a"))
        assert len(store.calls) - before == expected
    clock.now_sec += TTL_SEC
    put(store, "a")
    assert ask(lambda: index.info("a")).size == 1


def test_a_listing_teaches_a_directory(store: MemoryStore, make: Callable[..., Index]) -> None:
    for key in ("d/a", "d/b", "d/sub/c"):
        put(store, key)
    index = make()
    listing = ask(lambda: index.listing("d/"))
    assert [name for name, _ in listing] == ["d/a", "d/b", "d/sub/"]
    assert requests(store, lambda: index.entry("d/none")) == 0
    assert ask(lambda: index.entry("d/sub")) == (None, True)


def test_an_empty_directory_is_known_too(store: MemoryStore, make: Callable[..., Index]) -> None:
    index = make()
    assert ask(lambda: index.listing("")).count == 0
    assert requests(store, lambda: index.entry("a")) == 0
    assert requests(store, lambda: index.find("a")) == 0
    assert requests(store, lambda: index.listing("")) == 0
    index.remember_empty("d/")
    assert requests(store, lambda: index.entry("d/a")) == 0


def test_a_remount_in_the_ttl_asks_nothing(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    put(store, "d/a", mode="33188")
    first = make()
    ask(lambda: first.listing("d/"))
    ask(lambda: first.info("d/a"))
    first.close()
    second = make()
    assert requests(store, lambda: second.listing("d/")) == 0
    assert requests(store, lambda: second.info("d/a")) == 0
    assert ask(lambda: second.info("d/a")).metadata == {"mode": "33188"}
    clock.now_sec += TTL_SEC
    assert requests(store, lambda: second.listing("d/")) == 1


def test_attributes_once_seen_need_no_head(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    put(store, "d/a", mode="33188")
    index = make()
    ask(lambda: index.info("d/a"))
    clock.now_sec += TTL_SEC
    ask(lambda: index.listing("d/"))
    assert requests(store, lambda: index.info("d/a")) == 0


def test_ttl_zero_always_asks(store: MemoryStore, make: Callable[..., Index]) -> None:
    put(store, "d/a")
    index = make(ttl_sec=0)
    for _ in range(2):
        assert requests(store, lambda: index.info("d/a")) == 1
        assert requests(store, lambda: index.listing("d/")) == 1
        assert ask(lambda: index.entry("d/a"))[0] is not None


def test_a_failure_is_not_an_absence(
    store: MemoryStore, make: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a")
    index = make(timeout_sec=1.0)  # it is waited out
    store.faults = lambda *_: Unavailable("down")
    with pytest.raises(Unavailable):
        ask(lambda: index.info("a"))
    with pytest.raises(Unavailable):
        ask(lambda: index.entry("a"))
    store.faults = lambda *_: None
    index._bridge.timeout_sec = 60.0
    assert ask(lambda: index.info("a")).size == 1


def test_our_own_changes_are_seen_at_once(store: MemoryStore, make: Callable[..., Index]) -> None:
    put(store, "d/a")
    index = make()
    ask(lambda: index.listing("d/"))
    ask(lambda: index.listing(""))
    index.remember(ObjectInfo("d/new", 5, "e" * 32, 0, {}))
    index.remember(ObjectInfo("other/deep/x", 5, "e" * 32, 0, {}))
    index.remember(ObjectInfo("marked/", 0, "e" * 32, 0, {}))
    index.remember_missing("d/a")
    assert dict(ask(lambda: index.listing("d/"))).keys() == {"d/new"}
    assert dict(ask(lambda: index.listing(""))) == {"d/": None, "other/": None, "marked/": None}
    with pytest.raises(NoSuchKey):
        ask(lambda: index.info("d/a"))
    again = make()
    assert dict(ask(lambda: again.listing("d/"))).keys() == {"d/new"}


def test_a_removed_directory_leaves_its_parents_listing(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "d/", b"")
    put(store, "d/a")
    index = make()
    ask(lambda: index.listing(""))
    ask(lambda: index.listing("d/"))
    index.remember_missing("d/a")
    index.remember_missing("d/")
    assert ask(lambda: index.listing("")).count == 0


def test_a_removed_directory_may_lose_its_marker_first(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "d/", b"")
    put(store, "d/a")
    index = make()
    ask(lambda: index.listing(""))
    ask(lambda: index.listing("d/"))
    index.remember_missing("d/")
    assert dict(ask(lambda: index.listing(""))).keys() == {"d/"}
    index.remember_missing("d/a")
    assert ask(lambda: index.listing("")).count == 0


def test_a_directory_of_which_too_little_is_known_is_asked_for(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """Whether what was deleted was the last in it, nobody here can say."""
    put(store, "d/a")
    put(store, "e/a")
    put(store, "e/b")
    index = make()
    assert dict(ask(lambda: index.listing(""))).keys() == {"d/", "e/"}
    for key in ("d/a", "e/a"):
        store.delete([key])
        index.remember_missing(key)
    for one in (index, make()):
        assert dict(ask(partial(one.listing, ""))).keys() == {"e/"}


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "fails"])
def test_a_copy_whose_end_is_unknown_is_asked_for(
    dies: bool, store: MemoryStore, make: Callable[..., Index]
) -> None:
    index = make()
    assert ask(lambda: index.listing("")).count == 0
    with ExitStack() as stack:
        stack.enter_context(index.doubting("d/a"))
        put(store, "d/a")
        if dies:
            stack.pop_all()
            index = make()
    assert dict(ask(lambda: index.listing(""))).keys() == {"d/"}
    assert ask(lambda: index.info("d/a")).size == 1


def test_a_copy_that_is_remembered_leaves_no_doubt(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    index = make()
    ask(lambda: index.listing(""))
    with index.doubting("a"):
        index.remember(ObjectInfo("a", 5, "e" * 32, 0, {}))
    store.faults = lambda *_: Unavailable("down")  # nothing needs asking
    for one in (index, make()):
        assert dict(ask(partial(one.listing, ""))).keys() == {"a"}


def test_a_filter_is_pushed_to_the_server(store: MemoryStore, make: Callable[..., Index]) -> None:
    for key in ("a/b/image1", "a/b/image2", "a/b/other", "z"):
        put(store, key)
    index = make(filter_prefix="a/b/im")
    for prefix in ("", "a/", "a/b/"):
        found = dict(ask(partial(index.listing, prefix)))
        assert found.keys() == {"a/b/image1", "a/b/image2"}
    assert ask(lambda: index.exists_below("z")) is False


def test_a_large_directory_is_not_listed_for_one_name(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    for number in range(1001):
        put(store, f"d/{number:04}")
    index = make()
    info, below = ask(lambda: index.entry("d/0777"))
    assert info is not None
    assert not below
    assert requests(store, lambda: index.entry("d/0778")) == 0  # on the same page
    for name in ("d/1000", "d/none"):
        assert requests(store, partial(index.entry, name)) == 2  # HEAD it, LIST below it
        assert requests(store, partial(index.entry, name)) == 0
    index.remember(put(store, "d/none/sub/x"))
    assert ask(lambda: index.entry("d/none")) == (None, True)
    assert ask(lambda: index.listing("d/")).count == 1002


def test_many_who_ask_at_once_cost_one_request(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "d/a")
    index = make()

    async def all_at_once() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(index.listing, "d/")

    assert requests(store, all_at_once) == 1


def test_what_is_foreseen_is_there_when_it_is_wanted(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    for name in "abc":
        put(store, f"d/{name}", mode="33188")
    index = make()

    async def foresee() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(index.run)
            index.foresee([f"d/{name}" for name in "abc"])
            with trio.fail_after(30):
                while any(index.believed(f"d/{name}") is None for name in "abc"):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    ask(foresee)
    assert requests(store, lambda: index.info("d/b")) == 0


def test_an_answer_is_as_old_as_its_question(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    put(store, "a")
    index = make()
    real_head = store.head

    def head(key: str) -> Flight[ObjectInfo]:
        flight = real_head(key)
        clock.now_sec += TTL_SEC / 2
        return flight

    ask(partial(answered_late, store, "head", head, partial(index.info, "a")))
    assert index.left_sec("a") == TTL_SEC / 2


def test_a_directory_ends_with_the_last_file_far_below(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "d/sub/a")
    index = make()
    ask(partial(index.listing, ""))
    store.delete(["d/sub/a"])
    index.remember_missing("d/sub/a")  # whose directory nobody has listed
    assert ask(partial(index.listing, "")).count == 0


def test_the_probe_is_made_once_a_day(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    found = ask(make().capabilities)
    assert found.put_if_absent
    assert requests(store, make().capabilities) == 0
    clock.now_sec += 86_400
    assert requests(store, make().capabilities) > 0


def test_credentials_that_may_not_write_are_told_what_to_do(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    store.faults = lambda method, _: Refused("403.") if method in {"probe", "put"} else None
    with pytest.raises(Refused, match="--read-only"):
        ask(make().capabilities)


def test_changes_are_laid_over_answers_that_are_older() -> None:
    changes = Changes()
    old = changes.enter()
    changes.note("a", None)
    young = changes.enter()
    info = ObjectInfo("b", 1, "e" * 32, 0)
    changes.note("b", info)
    assert changes.leave(young) == {"b": info}
    assert changes.leave(old) == {"a": None, "b": info}
    changes.note("c", None)
    assert changes.leave(changes.enter()) == {}
