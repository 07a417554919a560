"""What a bucket answers may be older than what was owed then, and is paid when the answer comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from qarnotfs.errors import NoSuchEntry
from qarnotfs.store.base import ListPage
from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from tests.s5_core.house import NEVER_SEC, entered, put

VIEWS = [View(), View(filter_prefix="job/", strip_prefix="job/")]


def answering_late(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]]
) -> None:
    """The next LIST is carried out at once, and answered when ``meanwhile`` is over."""
    real = store.list_page

    def list_page(prefix: str, **options: Any) -> ListPage:
        page = real(prefix, **options)
        monkeypatch.setattr(store, "list_page", real)
        trio.from_thread.run(meanwhile)
        return page

    monkeypatch.setattr(store, "list_page", list_page)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("filled", [False, True])
def test_a_directory_that_is_made_meanwhile_is_found(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, view: View, filled: bool
) -> None:
    async def main() -> None:
        options = {"cache_ttl_sec": 0, "upload_delay_sec": NEVER_SEC}
        async with entered(store, tmp_path, view, **options) as world:
            await world.mkdir("d")
            if filled:
                await world.write("d/f", b"1")
            answering_late(store, monkeypatch, world.drain)
            assert (await world.inode("d")).is_directory

    trio.run(main)


@pytest.mark.parametrize("view", VIEWS)
def test_a_directory_that_is_removed_meanwhile_is_not_found(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, view: View
) -> None:
    put(store, f"{view.filter_prefix}d/", b"")

    async def main() -> None:
        options = {"cache_ttl_sec": 0, "upload_delay_sec": NEVER_SEC}
        async with entered(store, tmp_path, view, **options) as world:
            await world.rmdir("d")
            answering_late(store, monkeypatch, world.drain)
            with pytest.raises(NoSuchEntry):
                await world.inode("d")

    trio.run(main)
