"""What a synchronisation costs in requests, as the gateway counts them: the SDK's and ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.rgw import Gateway, Request
from tests.s6_bucket.conftest import Content, Face, fill
from tests.support import eventually

pytestmark = pytest.mark.gateway

COUNT = 1050  # more than a page of a listing, and than a batch of deletions
PAGES = 2
SIZE = 4096  # a copy is a PUT whose bodies are shorter

# Whether a call makes so many requests of each kind, all of them answered well.
Asks = Callable[[Callable[[], object], dict[str, int]], None]


def kind(request: Request) -> str:
    is_bucket = "/" not in request.path.partition("?")[0].strip("/")
    if is_bucket:
        return {"GET": "LIST", "POST": "multi-DELETE"}[request.method]
    return "COPY" if request.method == "PUT" and request.size < SIZE else request.method


@pytest.fixture
def asks(gateway: Gateway) -> Asks:
    def asks(call: Callable[[], object], expected: dict[str, int]) -> None:
        mark = gateway.mark()
        call()
        # The gateway writes some lines of its log after it has answered.
        eventually(lambda: len(gateway.requests(mark)) >= sum(expected.values()))
        requests = gateway.requests(mark)
        assert Counter(map(kind, requests)) == expected
        assert {request.status // 100 for request in requests} == {2}

    return asks


def body(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


@pytest.mark.timeout(300)  # thousands of requests one after the other, by the SDK
def test_many_small_files(face: Face, one: Any, asks: Asks, tree: Path) -> None:
    """D24: the SDK lists twice, and asks for one deletion at a time."""
    fill(tree, {f"d/{number:04}": body(number) for number in range(COUNT)})
    sync = partial(one.sync_directory, str(tree))
    lists = 2 if face.is_sdk else 1
    asks(sync, {"PUT": COUNT, "LIST": lists})
    asks(sync, {"LIST": lists * PAGES})
    fill(tree, {"d/0007": body(COUNT)})
    deletion = {"DELETE": 1} if face.is_sdk else {}
    asks(sync, {"PUT": 1, "LIST": lists * PAGES} | deletion)
    (tree / "d").rename(tree / "e")
    deletions = {"DELETE": COUNT} if face.is_sdk else {"multi-DELETE": PAGES}
    asks(sync, {"COPY": COUNT, "LIST": lists * PAGES} | deletions)


def test_down_and_up_again(face: Face, one: Any, asks: Asks, tree: Path, content: Content) -> None:
    """D21: as above. No file is asked about by itself."""
    for number in range(50):
        content[f"d/{number:02}"] = body(number)
    down = partial(one.sync_remote_to_local, str(tree))
    asks(down, {"LIST": 1, "GET": 50})
    asks(down, {"LIST": 1, "GET": 50} if face.is_sdk else {"LIST": 1})
    asks(partial(one.sync_directory, str(tree)), {"LIST": 2 if face.is_sdk else 1})


def test_a_large_file(one: Any, face: Face, asks: Asks, tree: Path) -> None:
    """Three parts of 8 MiB, between a request that begins and one that ends it."""
    fill(tree, {"large": bytes(24 << 20)})
    sync = partial(one.sync_directory, str(tree))
    lists = {"LIST": 2 if face.is_sdk else 1}
    asks(sync, {"PUT": 3, "POST": 2} | lists)
    asks(sync, lists)
