"""How many requests a synchronisation costs, counted by the gateway: ours exactly, the SDK's beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rgw import Gateway, Request
from tests.s6_bucket.conftest import Content, Face, fill

pytestmark = pytest.mark.gateway

COUNT = 1200  # more than a page of a listing, and than a batch of deletions
PAGES = 2
SIZE = 4096  # a copy is a PUT whose bodies are shorter


def kind(request: Request) -> str:
    is_bucket = "/" not in request.path.partition("?")[0].strip("/")
    if is_bucket:
        return {"GET": "LIST", "POST": "multi-DELETE"}[request.method]
    return "COPY" if request.method == "PUT" and request.size < SIZE else request.method


@pytest.fixture
def asked(gateway: Gateway) -> Callable[[Callable[[], object]], dict[str, int]]:
    """What one call asks of the gateway, by kind; every answer must be a good one."""

    def count(call: Callable[[], object]) -> dict[str, int]:
        mark = gateway.mark()
        call()
        requests = gateway.requests(mark)
        assert {request.status // 100 for request in requests} == {2}
        return dict(Counter(map(kind, requests)))

    return count


Asked = Callable[[Callable[[], object]], dict[str, int]]


def body(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


def test_many_small_files(face: Face, one: Any, asked: Asked, tree: Path) -> None:
    """D24: the SDK lists twice, and asks for one deletion at a time."""
    fill(tree, {f"d/{number:04}": body(number) for number in range(COUNT)})

    def sync() -> None:
        one.sync_directory(str(tree))

    lists = {"LIST": 1} if not face.is_sdk else {"LIST": 2}
    assert asked(sync) == {"PUT": COUNT} | lists
    lists = {"LIST": PAGES * lists["LIST"]}
    assert asked(sync) == lists
    fill(tree, {"d/0007": body(COUNT)})
    one_more = {"DELETE": 1} if face.is_sdk else {}
    assert asked(sync) == {"PUT": 1} | lists | one_more
    (tree / "d").rename(tree / "e")
    renamed = asked(sync)
    deletions = {"DELETE": COUNT} if face.is_sdk else {"multi-DELETE": 2}
    if face.is_sdk:
        renamed["LIST"] = lists["LIST"]  # its second listing sees more
    assert renamed == {"COPY": COUNT} | lists | deletions


def test_down_and_up_again(
    face: Face, one: Any, asked: Asked, tree: Path, content: Content
) -> None:
    """D21: as above. No file is asked about by itself."""
    for number in range(50):
        content[f"d/{number:02}"] = body(number)

    def down() -> None:
        one.sync_remote_to_local(str(tree))

    fetched = {"LIST": 1, "GET": 50}
    assert asked(down) == fetched
    assert asked(down) == (fetched if face.is_sdk else {"LIST": 1})
    assert asked(lambda: one.sync_directory(str(tree))) == {"LIST": 2 if face.is_sdk else 1}


def test_a_large_file(one: Any, face: Face, asked: Asked, tree: Path) -> None:
    """Three parts of 8 MiB, between one request that begins and one that ends it."""
    fill(tree, {"large": bytes(24 << 20)})
    up = asked(lambda: one.sync_directory(str(tree)))
    lists = 2 if face.is_sdk else 1
    assert up["PUT"] == 3
    assert up["POST"] == 2
    assert up["LIST"] == lists
    assert asked(lambda: one.sync_directory(str(tree))) == {"LIST": lists}
