"""The crossing: what was given up is over, also for the thread that nobody waits for.

A deletion that is sent later would take away what was stored meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Flight
from qarnotfs.store.s3 import S3Store
from qarnotfs.store.s3.transport import result_of
from tests.faulty_server import Answer, FaultyServer, Request
from tests.s1_store.conftest import access_to


async def given_up(bridge: Bridge, work: Callable[[], object]) -> None:
    with pytest.raises(Unavailable):
        await bridge.call(work)


async def ended(bridge: Bridge) -> None:
    with trio.fail_after(30):
        while bridge._limiter.borrowed_tokens:
            await trio.sleep(0.01)


def test_what_a_call_has_sent_is_given_up_with_it() -> None:
    aborted = list[bool]()
    flight = Flight[None](lambda: aborted.append(True))

    async def main() -> None:
        bridge = Bridge(timeout_sec=0.1)
        await given_up(bridge, lambda: result_of(flight))
        await ended(bridge)

    trio.run(main)
    assert aborted == [True]


@pytest.mark.parametrize(
    "keys",
    [["key"], ["\x01a", "\x01b"]],  # all in one request, and keys of a request each
)
def test_a_call_that_was_given_up_begins_no_other_request(
    keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, sent = threading.Event(), list[str]()
    document = S3Store._document

    def counted(self: S3Store, ask: Any, read: Any) -> Flight[Any]:
        sent.append(ask.operation)  # the server may not see it: it is aborted at once
        return document(self, ask, read)

    monkeypatch.setattr(S3Store, "_document", counted)

    def answer(request: Request) -> Answer:
        sent.append(request.method)
        return Answer(204)

    async def main(store: S3Store) -> None:
        bridge = Bridge(timeout_sec=0.1)

        def late() -> None:
            go_on.wait(30)
            store.delete(keys)

        await given_up(bridge, late)
        go_on.set()
        await ended(bridge)

    with FaultyServer(answer) as server:
        access = access_to(server.url)
        store = S3Store("bucket", access)
        trio.run(main, store)
        assert sent == []
        with suppress(Unavailable):  # the test can fail
            store.delete(keys)
        assert sent
        store.close()
        access.close()
