"""``fsync`` of a directory: when it returns, its names are in the bucket as they are here."""

from __future__ import annotations

from collections.abc import Callable

from qarnotfs.store.memory import MemoryStore
from qarnotfs.views import View
from tests.s5_core.house import NEVER_SEC, World, bucket, put

Play = Callable[..., None]


async def sync(world: World, path: str) -> None:
    await world.fs.fsyncdir(world.fs.opendir(await world.inode(path)))


def test_directories_that_came_and_went_in_it(store: MemoryStore, play: Play) -> None:
    put(store, "p/x")
    put(store, "p/old/", b"")

    async def scene(world: World) -> None:
        await world.mkdir("p/new")
        await world.mkdir("p/new/below")
        await world.rmdir("p/old")
        await sync(world, "p")
        assert sorted(bucket(store)) == ["p/new/", "p/x"]

    play(scene, upload_delay_sec=NEVER_SEC)


def test_what_is_in_the_root_of_a_filtered_view(store: MemoryStore, play: Play) -> None:
    async def scene(world: World) -> None:
        await world.write("image", b"1")
        await world.mkdir("images")
        await world.write("images/2", b"2")
        await sync(world, "")
        assert sorted(bucket(store)) == ["image", "images/"]

    play(scene, view=View("im"), upload_delay_sec=NEVER_SEC)
