"""A program that works in one directory as programs do, and says what it was promised.

    python -I tests/writer.py DIRECTORY SEED < state.json

Used by `load`, which runs several on a mount whose daemon is killed under them, and keeps
the books. One JSON line is written before each change, ``{"kind", "changes", "renamed"}``, and
``{"ok"}`` when the system calls, close() included, returned 0. ``changes`` maps paths to what
will be there: null for nothing, [] for a directory's path (it ends in ``/``), else the writes
``[offset, seed, size]`` that make the file; ``renamed`` maps old paths to new ones. It ends at
the first error, which it names.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import NoReturn

Writes = list[list[int]]
State = dict[str, Writes]

FILES = [f"f{number:02}" for number in range(16)]
TREES = ["t0/", "t1/", "t2/"]
LARGE = ["large0", "large1"]
PIECE_BYTES = 1 << 20
SMALL_BYTES = 64 << 10
LARGE_BYTES = (16 << 20, 22 << 20)
WRITES_MAX = 12  # then a file is written anew


def render(writes: Writes) -> bytes:
    """The bytes that these writes make, one after the other."""
    body = bytearray()
    for offset, seed, size in writes:
        body[offset:offset] = bytes(max(0, offset - len(body)))
        body[offset : offset + size] = random.Random(seed).randbytes(size)
    return bytes(body)


class Writer:
    """Does random things to the files of ``state`` in the current directory."""

    def __init__(self, seed: int, state: State) -> None:
        self.dice = random.Random(seed)
        self.state = state

    def run(self) -> NoReturn:
        """Until something fails."""
        kinds = [self.create] * 6 + [self.append, self.patch, self.replace, self.remove] * 3
        kinds += [self.rename] * 3 + [self.look] * 3 + [self.rename_tree, self.do_large]
        while True:
            self.dice.choice(kinds)()

    # --- what programs do ---------------------------------------------------------------

    def create(self) -> None:
        path = self.new_path()
        self.put(path, self.dice.randint(0, SMALL_BYTES))

    def do_large(self) -> None:
        """Something to a file that goes in parts."""
        self.dice.choice([self.write_large, self.patch_large, self.replace_large])()

    def write_large(self) -> None:
        self.put(self.dice.choice(LARGE), self.dice.randint(*LARGE_BYTES))

    def patch_large(self) -> None:
        """Change a few bytes of what goes in parts, wherever it has been renamed to."""
        found = [path for path, writes in self.state.items() if _end(writes) >= LARGE_BYTES[0]]
        if found:
            path = self.dice.choice(found)
            self.change(path, self.dice.randrange(_end(self.state[path])))

    def replace_large(self) -> None:
        """As a browser does: begun under a name of its own, sent under another."""
        self.put("large.part", self.dice.randint(*LARGE_BYTES))
        self.move("large.part", self.dice.choice(LARGE))

    def append(self) -> None:
        if path := self.old_path():
            self.change(path, _end(self.state[path]))

    def patch(self) -> None:
        if path := self.old_path():
            self.change(path, self.dice.randint(0, _end(self.state[path])))

    def replace(self) -> None:
        """As rsync does: a temporary of its own, then the name."""
        path = self.new_path()
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.Ab12Cd" if folder else f".{name}.Ab12Cd"
        self.put(temporary, self.dice.randint(0, SMALL_BYTES))
        self.move(temporary, path)

    def rename(self) -> None:
        old, new = self.old_path(), self.new_path()
        if old and old != new:
            self.move(old, new)

    def remove(self) -> None:
        if path := self.old_path():
            self.begin("remove", {path: None})
            os.unlink(path)
            self.done()

    def rename_tree(self) -> None:
        here = [tree for tree in TREES if tree in self.state]
        free = [tree for tree in TREES if tree not in self.state]
        if here and free:
            self.move(self.dice.choice(here), self.dice.choice(free))

    def look(self) -> None:
        """Reading must give what was written, also while it is on its way."""
        if (path := self.old_path()) and _end(self.state[path]) < LARGE_BYTES[0]:
            with open(path, "rb") as file:
                if file.read() != render(self.state[path]):
                    say({"wrong": path})

    # --- how ------------------------------------------------------------------------------

    def new_path(self) -> str:
        """A file's path that may be taken or not; its directory exists."""
        if self.dice.random() < 0.7:
            return self.dice.choice(FILES)
        tree = self.dice.choice([tree for tree in TREES if tree in self.state] or TREES[:1])
        if tree not in self.state:
            self.begin("mkdir", {tree: []})
            os.mkdir(tree)
            self.done()
        return tree + self.dice.choice(FILES[:4])

    def old_path(self) -> str | None:
        found = [path for path in self.state if not path.endswith("/")]
        return self.dice.choice(found) if found else None

    def put(self, path: str, size: int) -> None:
        seed = self.dice.getrandbits(32)
        self.begin("create", {path: [[0, seed, size]]})
        body = memoryview(random.Random(seed).randbytes(size))
        with open(path, "wb", buffering=0) as file:
            for start in range(0, size, PIECE_BYTES):
                file.write(body[start : start + PIECE_BYTES])
        self.done()

    def change(self, path: str, offset: int) -> None:
        if len(self.state[path]) > WRITES_MAX:
            return self.put(path, self.dice.randint(0, SMALL_BYTES))
        seed, size = self.dice.getrandbits(32), self.dice.randint(1, SMALL_BYTES)
        self.begin("change", {path: [*self.state[path], [offset, seed, size]]})
        with open(path, "r+b", buffering=0) as file:
            file.seek(offset)
            file.write(random.Random(seed).randbytes(size))
        self.done()

    def move(self, old: str, new: str) -> None:
        """A file, or a tree with what is in it."""
        moved = {path: w for path, w in self.state.items() if path == old or _in(path, old)}
        changes: dict[str, Writes | None] = dict.fromkeys(moved)
        renamed = {path: new + path.removeprefix(old) for path in moved}
        changes |= {renamed[path]: writes for path, writes in moved.items()}
        self.begin("rename", changes, renamed)
        os.rename(old.rstrip("/"), new.rstrip("/"))
        self.done()

    def begin(
        self, kind: str, changes: dict[str, Writes | None], renamed: dict[str, str] | None = None
    ) -> None:
        self.changes = changes
        say({"kind": kind, "changes": changes, "renamed": renamed or {}})

    def done(self) -> None:
        for path, writes in self.changes.items():
            if writes is None:
                self.state.pop(path, None)
            else:
                self.state[path] = writes
        say({"ok": True})


def _end(writes: Writes) -> int:
    return max((offset + size for offset, _, size in writes), default=0)


def _in(path: str, tree: str) -> bool:
    return tree.endswith("/") and path.startswith(tree)


def say(message: dict[str, object]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    directory, seed = sys.argv[1:]
    state = json.load(sys.stdin)
    try:
        os.chdir(directory)
        Writer(int(seed), state).run()
    except OSError as error:
        say({"error": error.errno, "text": str(error)})


if __name__ == "__main__":
    main()
