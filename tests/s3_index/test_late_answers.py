"""Answers that are older than what we, or others, changed before they came."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from qarnotfs.index.index import Index
from qarnotfs.store.base import Flight, ListPage, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import answered_late, ask, put


def test_a_survey_tells_what_others_changed_after_us(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """Our change came while a page was asked for; theirs, before the next one was."""
    for number in range(1500):
        put(store, f"d/{number:04}")
    index = make()
    ours = ObjectInfo("", 8, "e" * 32, 0, {})
    real_list = store.list_page

    def list_page(prefix: str, **options: Any) -> ListPage:
        page = real_list(prefix, **options)
        if options["after"] is None:
            for key in ("d/0001", "d/1400"):
                index.remember(ours._replace(key=key))
            put(store, "d/1400", b"theirs")
        return page

    ask(partial(answered_late, store, "list_page", list_page, partial(index.survey, "d/")))
    found = index.fresh_listing("d/")
    assert found
    assert [info and info.size for info in map(found.get, ("d/0001", "d/1400"))] == [8, 6]


def test_an_answer_older_than_our_own_change_is_not_believed(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """A HEAD and a LIST that were carried out before we stored, and answered after."""
    put(store, "d/a", b"old", mode="33188")
    index = make()
    ours = ObjectInfo("d/a", 8, "e" * 32, 0, {"mode": "33188"})
    real_head, real_list = store.head, store.list_page

    def head(key: str) -> Flight[ObjectInfo]:
        flight = real_head(key)
        index.remember(ours)
        return flight

    assert ask(partial(answered_late, store, "head", head, partial(index.info, "d/a"))) == ours

    def list_page(prefix: str, **options: Any) -> ListPage:
        page = real_list(prefix, **options)
        index.remember_missing("d/a")
        return page

    found = ask(partial(answered_late, store, "list_page", list_page, partial(index.listing, "d/")))
    assert found.count == 0


@pytest.mark.parametrize("marked", [False, True])
def test_a_directory_that_ended_while_its_parent_was_listed(
    marked: bool, store: MemoryStore, make: Callable[..., Index]
) -> None:
    """A LIST that was carried out before its last file was deleted, and answered after."""
    names = ["d/a", "d/"] if marked else ["d/a"]
    for name in names:
        put(store, name)
    index = make()
    real_list = store.list_page

    def list_page(prefix: str, **options: Any) -> ListPage:
        page = real_list(prefix, **options)
        setattr(store, "list_page", real_list)  # noqa: B010  # mypy: it is a method
        store.delete(names)
        for name in names:
            index.remember_missing(name)
        return page

    ask(partial(answered_late, store, "list_page", list_page, partial(index.listing, "")))
    assert "d/" not in ask(partial(index.listing, ""))
    assert ask(partial(index.entry, "d")) == (None, False)


@pytest.mark.parametrize(("left", "found"), [([], False), (["d/b"], True)])
def test_what_is_below_is_as_we_left_it_meanwhile(
    left: list[str], found: bool, store: MemoryStore, make: Callable[..., Index]
) -> None:
    index = make(ttl_sec=0)
    real_list = store.list_page

    def asked(change: Callable[[], object]) -> bool:
        def list_page(prefix: str, **options: Any) -> ListPage:
            page = real_list(prefix, **options)
            setattr(store, "list_page", real_list)  # noqa: B010  # mypy: it is a method
            change()
            return page

        below = partial(index.exists_below, "d/")
        return ask(partial(answered_late, store, "list_page", list_page, below))

    assert asked(lambda: index.remember(put(store, "d/a")))
    for name in left:
        put(store, name)

    def delete() -> None:
        store.delete(["d/a"])
        index.remember_missing("d/a")

    assert asked(delete) is found
