"""The crossing: what was given up is over, also for the thread that nobody waits for."""

from __future__ import annotations

import threading

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Unavailable
from qarnotfs.store.s3 import S3Store
from tests.faulty_server import Answer, FaultyServer, Request, s3_error
from tests.s1_store.conftest import access_to


@pytest.mark.parametrize(
    ("keys", "answers"),
    [
        (["key"], s3_error(503, "SlowDown")),  # which would be repeated
        (["\x01a", "\x01b"], Answer(204)),  # keys of a request each
    ],
)
def test_a_call_that_was_given_up_begins_no_other_request(keys: list[str], answers: Answer) -> None:
    """A deletion that is sent later would take away what was stored meanwhile."""
    given_up = threading.Event()

    def answer(_: Request) -> Answer:
        given_up.wait(30)
        return answers

    async def main(store: S3Store) -> None:
        bridge = Bridge(timeout_sec=0.3)
        with pytest.raises(Unavailable):
            await bridge.call(store.delete, keys)
        given_up.set()
        with trio.fail_after(30):
            while bridge._limiter.borrowed_tokens:
                await trio.sleep(0.01)

    with FaultyServer(answer) as server:
        access = access_to(server.url)
        store = S3Store("bucket", access)
        trio.run(main, store)
        store.close()
        access.close()
        assert len(server.requests) == 1
