"""What was uploaded in parts and is copied on a server that gives the copy another etag.

So does AWS, and every server for more than 5 GiB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import trio

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback.plan import PART_BYTES
from tests.s5_core.house import World, bucket

Play = Callable[..., None]
BODY = b"x" * (2 * PART_BYTES + 1)


@pytest.fixture(autouse=True)
def copies_get_another_etag(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store._copied

    def copied(source: str, target: str, attributes: Attributes | None) -> ObjectInfo:
        made, data = real(source, target, attributes), store._objects[target][1]
        made = made._replace(etag=hashlib.md5(data).hexdigest())
        store._objects[target] = made, data
        return made

    monkeypatch.setattr(store, "_copied", copied)


def put_in_parts(store: MemoryStore, key: str, data: bytes) -> None:
    """As somebody else would."""
    upload = store.create_upload(key, Attributes())
    bodies = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    etags = [store.upload_part(key, upload, n, body).result() for n, body in enumerate(bodies, 1)]
    store.complete_upload(key, upload, etags)


@pytest.mark.decision(4)
@pytest.mark.parametrize("cache_ttl_sec", [0, 60])
def test_the_old_name_of_a_renamed_object_goes_though_late(
    cache_ttl_sec: int, store: MemoryStore, play: Play
) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        await world.inode("a")  # the kernel looks first
        await world.rename("a", "b")
        store.faults = lambda method, _: Unavailable("not now") if method == "delete" else None
        while ("delete", "") not in store.calls:
            await trio.sleep(0.001)
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene, cache_ttl_sec=cache_ttl_sec)
    assert bucket(store) == {"b": BODY}


@pytest.mark.decision(4)
def test_but_not_what_somebody_else_stored_there(store: MemoryStore, play: Play) -> None:
    put_in_parts(store, "a", BODY)

    async def scene(world: World) -> None:
        await world.rename("a", "b")
        store.faults = lambda method, _: Unavailable("not now") if method == "delete" else None
        while ("delete", "") not in store.calls:
            await trio.sleep(0.001)
        put_in_parts(store, "a", b"y" * len(BODY))
        store.faults = lambda *_: None
        assert await world.drain()

    play(scene)
    assert bucket(store) == {"a": b"y" * len(BODY), "b": BODY}
