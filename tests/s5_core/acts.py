"""What a program does to a mount in memory, act by act, and the lives made of it.

An `Act` is one thing a program does, with what it means for a dictionary of files: the
model. Contents differ from file to file, so that each can be told wherever it turns up.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from qarnotfs.core.filesystem import Changes
from tests.s5_core.house import World

MIB = 1 << 20

Files = dict[str, bytes]  # visible path -> content, of files alone


@dataclass(frozen=True)
class Act:
    """``play`` is what the program calls; ``means`` what has changed once that returned.

    ``whole``: when it failed, the program can do it again.
    """

    play: Callable[[World], Awaitable[object]]
    means: Callable[[Files], None]
    whole: bool = True


def write(path: str, data: bytes) -> Act:
    return Act(lambda world: world.write(path, data), lambda files: files.update({path: data}))


def patch(path: str, offset: int, data: bytes) -> Act:
    """Change a part of a file in place."""

    def means(files: Files) -> None:
        old = files[path].ljust(offset, b"\0")
        files[path] = old[:offset] + data + old[offset + len(data) :]

    return Act(lambda world: world.write(path, data, offset), means)


def rewrite(path: str, data: bytes) -> Act:
    """As an editor or a shell does: open for writing anew (O_TRUNC), write, close."""

    async def play(world: World) -> None:
        handle = await world.open(path, os.O_WRONLY)
        await world.fs.setattr(await world.inode(path), Changes(size=0))
        await world.fs.write(handle, 0, data)
        await world.close(handle)

    return Act(play, lambda files: files.update({path: data}))


def rename(old: str, new: str, *, whole: bool = True) -> Act:
    def means(files: Files) -> None:
        for path in [path for path in files if path == old or path.startswith(f"{old}/")]:
            files[new + path.removeprefix(old)] = files.pop(path)

    return Act(lambda world: world.rename(old, new), means, whole)


def unlink(path: str) -> Act:
    return Act(lambda world: world.unlink(path), lambda files: void(files.pop(path, None)))


def void(_: object) -> None:
    """Only for its effect."""


def nothing(_: Files) -> None:
    """The act changes no file."""


def mkdir(path: str) -> Act:
    return Act(lambda world: world.mkdir(path), nothing)


def unclosed(path: str, data: bytes) -> Act:
    """A file that is being written when the life ends."""

    async def play(world: World) -> None:
        handle = await world.create(path)
        await world.fs.write(handle, 0, data)

    return Act(play, nothing)


def chmod(path: str) -> Act:
    async def play(world: World) -> None:
        await world.fs.setattr(await world.inode(path), Changes(mode=0o600))

    return Act(play, nothing)


def large(seed: int) -> bytes:
    """The size of the smallest file that is sent in parts: two of them."""
    return random.Random(seed).randbytes(8 * MIB + 1000)


MULTIPART: Sequence[Act] = [
    write("large", large(1)),
    Act(lambda world: world.drain(), nothing),
    patch("large", 8 * MIB + 10, b"PATCHED"),
    Act(lambda world: world.drain(), nothing),
]


DRAIN = Act(lambda world: world.drain(), nothing)

ENDING = unclosed("half", b"half")

STORED: Files = {"old": b"old", "gone": b"gone", "dir/a": b"in a", "dir/sub/b": b"in b"}

LIVES: dict[str, Sequence[Act]] = {
    "writing": [
        write("new", b"new"),
        patch("old", 1, b"PATCHED"),
        DRAIN,
        patch("new", 1, b"EW AND LONGER"),
        write("other", b"other"),
        DRAIN,
        ENDING,
    ],
    "rewriting": [
        write("new", b"first"),
        rewrite("new", b"second"),
        patch("new", 0, b"S"),
        DRAIN,
        rewrite("new", b"third"),
        rewrite("old", b"old, anew"),
        DRAIN,
    ],
    "renaming": [
        write("temporary", b"temporary"),
        rename("temporary", "final"),
        rename("old", "renamed"),
        write("second", b"second"),
        DRAIN,
        rename("second", "final"),
        rename("renamed", "old", whole=False),  # whose deletion may have been refused for good
        DRAIN,
    ],
    "deleting": [
        write("new", b"new"),
        unlink("new"),
        unlink("gone"),
        write("new", b"newer"),
        write("gone", b"here again"),
        DRAIN,
        unlink("new"),
        unlink("gone"),
        DRAIN,
    ],
    "directories": [
        mkdir("made"),
        write("made/file", b"made"),
        rename("made", "moved"),
        rename("dir", "tree"),
        DRAIN,
        rename("tree", "moved/tree"),
        DRAIN,
    ],
    "attributes": [
        chmod("old"),
        write("new", b"new"),
        chmod("new"),
        DRAIN,
        chmod("new"),
        rename("new", "newer"),
        DRAIN,
    ],
}
