"""The next page of a listing, asked for before the one before it was read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Attributes, Flight, ListPage
from qarnotfs.store.early import Early
from qarnotfs.store.s3 import S3Store, wire
from tests.rgw import Gateway
from tests.support import eventually

EMPTY = ListPage((), (), None)


def wanted() -> Early:
    early = Early()
    early.is_wanted = True
    return early


def test_one_page_is_asked_for_at_a_time_while_it_is_wanted() -> None:
    early, asked = Early(), list[str]()

    def ask(token: str) -> None:
        def send() -> Flight[ListPage]:
            asked.append(token)
            return Flight.landed(EMPTY)

        early.ask(token, send)

    ask("unwanted")
    early.is_wanted = True
    ask("a")
    ask("b")
    assert asked == ["a"]
    assert early.take("a") is not None
    assert early.take("a") is None
    ask("c")
    assert asked == ["a", "c"]


@pytest.mark.parametrize("ends", [Early.drop, lambda early: early.take("another")])
def test_what_nobody_takes_is_given_up(ends: Callable[[Early], object]) -> None:
    early, aborted = wanted(), list[bool]()
    early.ask("a", lambda: Flight(lambda: aborted.append(True)))
    ends(early)
    assert aborted == [True]
    assert early.take("a") is None


@pytest.mark.gateway
def test_each_page_is_asked_for_once_and_before_the_one_before_it_is_read(
    gateway: Gateway, s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{number:02}" for number in range(10)]
    for key in keys:
        s3_store.put(key, b"", Attributes()).result()
    early, mark, is_asked = wanted(), gateway.mark(), list[bool]()
    read = wire.list_page

    def reading(body: bytes) -> ListPage:
        page = read(body)
        if page.objects[0].key == keys[0]:  # the one that was asked for early may come meanwhile
            is_asked.append(early._flight is not None)
        return page

    monkeypatch.setattr(wire, "list_page", reading)
    page = s3_store.list_page("", count_max=3, early=early)
    found = [info.key for info in page.objects]
    assert is_asked == [True]
    eventually(lambda: early._flight and early._flight.done())
    page = s3_store.list_page("", count_max=3, after=page.next, early=early)
    found += [info.key for info in page.objects]
    eventually(lambda: len(gateway.requests(mark)) == 3)  # though it came before it was taken
    while page.next:
        page = s3_store.list_page("", count_max=3, after=page.next, early=early)
        found += [info.key for info in page.objects]
    assert found == keys
    assert len(gateway.requests(mark)) == 4


@pytest.mark.gateway
def test_a_page_that_was_asked_for_early_in_vain_is_asked_for_again(
    gateway: Gateway, s3_store: S3Store
) -> None:
    for key in "abc":
        s3_store.put(key, b"", Attributes()).result()
    early = wanted()
    page = s3_store.list_page("", count_max=2)
    early.ask(page.next or "", lambda: Flight.failed(Unavailable("not now")))
    with pytest.raises(Unavailable):
        s3_store.list_page("", count_max=2, after=page.next, early=early)
    page = s3_store.list_page("", count_max=2, after=page.next, early=early)
    assert [info.key for info in page.objects] == ["c"]
