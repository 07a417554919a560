"""One file exercised at random against a `bytearray`: what fsx does to file systems.

Used by `test_mount_stress`. It reads, writes, appends, cuts, extends and maps the file through
several descriptors at once, opened and closed as it goes, and compares after each step. A seed
decides everything; a failure names the seed and the last steps.
"""

from __future__ import annotations

import mmap
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

PIECE_BYTES = 100_000
HANDLES_MAX = 3
STEPS_SHOWN = 12
ALIGNMENT_BYTES = 4096


class Exerciser:
    """``path`` has this ``content``, or is not there yet; `model` is what it should hold.

    ``size_max`` and ``piece_bytes``: of the file, about, and of one read or write.
    ``between``: called now and then in the middle of everything, such as an upload.
    """

    def __init__(
        self,
        path: Path,
        seed: int,
        size_max: int,
        *,
        piece_bytes: int = PIECE_BYTES,
        content: bytes | bytearray | None = None,
        between: Sequence[Callable[[], object]] = (),
    ) -> None:
        self.model = bytearray(content or b"")
        self.handles: list[int] = []
        self._path, self._seed, self._size_max = path, seed, size_max
        self._piece_bytes, self._is_new = piece_bytes, content is None
        self._dice = random.Random(seed)
        self._last: deque[str] = deque(maxlen=STEPS_SHOWN)
        self._between = between
        self._kinds: list[Callable[[], None]] = [
            *[self.read] * 5 + [self.write] * 5 + [self.map_read] * 2 + [self.map_write] * 3,
            *[self.append, self.cut, self.extend, self.copy, self.open, self.close] * 2,
            *(self.sync, self.drop_pages, self.read_whole, self.rename, self.open_anew),
        ]

    def run(self, steps: int) -> None:
        """Do that many steps and compare everything in the end, through a new descriptor too."""
        if self._is_new:
            self._path.touch(exist_ok=False)
        try:
            for _ in range(steps):
                if self._between and self._dice.random() < 0.01:
                    self._note("between")
                    self._dice.choice(self._between)()
                self._dice.choice(self._kinds)()
                self._compare_size()
            self.read_whole()
            for descriptor in self.handles:
                os.close(descriptor)
            self.handles.clear()
            assert self._path.read_bytes() == self.model
        except Exception as error:
            error.add_note(f"seed {self._seed}: " + "; ".join(self._last))
            raise

    # --- steps ------------------------------------------------------------------------------

    def read(self) -> None:
        at, size = self._place(), self._size()
        self._note(f"read {at}+{size}")
        self._same(os.pread(self._handle(), size, at), at, size)

    def read_whole(self) -> None:
        self._note("read whole")
        self._same(os.pread(self._handle(), self._size_max * 2, 0), 0, self._size_max * 2)

    def write(self) -> None:
        at, data = self._place(), self._data()
        self._note(f"write {at}+{len(data)}")
        assert os.pwrite(self._handle(), data, at) == len(data)
        self._put(at, data)

    def append(self) -> None:
        data = self._data()
        if len(self.model) + len(data) > self._size_max:
            return
        self._note(f"append {len(self.model)}+{len(data)}")
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        assert os.write(descriptor, data) == len(data)
        os.close(descriptor)
        self._put(len(self.model), data)

    def cut(self) -> None:
        self._truncate(self._dice.randrange(len(self.model) + 1))

    def extend(self) -> None:
        if len(self.model) < self._size_max:
            self._truncate(self._dice.randint(len(self.model), len(self.model) + self._piece_bytes))

    def map_read(self) -> None:
        if not self.model:
            return
        at = self._dice.randrange(len(self.model))
        size = self._size()
        self._note(f"map read {at}+{size}")
        with mmap.mmap(self._handle(), 0, access=mmap.ACCESS_READ) as view:
            assert len(view) == len(self.model)
            self._same(view[at : at + size], at, size)

    def map_write(self) -> None:
        if not self.model:
            return
        at = self._dice.randrange(len(self.model))
        data = self._data()[: len(self.model) - at]
        self._note(f"map write {at}+{len(data)}")
        with mmap.mmap(self._handle(), 0) as view:
            view[at : at + len(data)] = data
            if self._dice.random() < 0.3:
                view.flush()
        self._put(at, data)

    def copy(self) -> None:
        """Within the file, as `cp --reflink=auto` and databases do."""
        source, target = self._place(), self._place()
        size = min(self._size(), abs(target - source))
        self._note(f"copy {source}+{size} to {target}")
        done = os.copy_file_range(self._handle(), self._handle(), size, source, target)
        data = bytes(self.model[source : source + done])
        assert len(data) == done
        assert done or source >= len(self.model) or not size
        if done:
            self._put(target, data)

    def open(self) -> None:
        if len(self.handles) < HANDLES_MAX:
            self._open(0)

    def open_anew(self) -> None:
        if len(self.handles) < HANDLES_MAX and self._dice.random() < 0.1:
            self._open(os.O_TRUNC)
            self.model.clear()

    def close(self) -> None:
        if self.handles:
            self._note("close")
            os.close(self.handles.pop(self._dice.randrange(len(self.handles))))

    def sync(self) -> None:
        self._note("sync")
        os.fsync(self._handle())

    def drop_pages(self) -> None:
        """The kernel forgets what it can, and asks the mount again."""
        self._note("drop pages")
        descriptor = self._handle()
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self) -> None:
        self._note("rename")
        new = self._path.with_name(self._path.name + "~")
        self._path.rename(new)
        new.rename(self._path)

    # --- how ----------------------------------------------------------------------------------

    def _truncate(self, size: int) -> None:
        self._note(f"truncate {len(self.model)} to {size}")
        if self._dice.random() < 0.5:
            os.ftruncate(self._handle(), size)
        else:
            os.truncate(self._path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def _open(self, flags: int) -> None:
        self._note(f"open {flags}")
        self.handles.append(os.open(self._path, os.O_RDWR | flags))

    def _handle(self) -> int:
        if not self.handles:
            self._open(0)
        return self._dice.choice(self.handles)

    def _place(self) -> int:
        """An offset, aligned every other time, and in the file or just behind it."""
        at = self._dice.randrange(min(len(self.model) + 10_000, self._size_max))
        return at - at % ALIGNMENT_BYTES if self._dice.random() < 0.5 else at

    def _size(self) -> int:
        size = self._dice.randrange(1, self._piece_bytes)
        return self._dice.choice([size, size % ALIGNMENT_BYTES + 1])

    def _data(self) -> bytes:
        return self._dice.randbytes(self._size())

    def _put(self, at: int, data: bytes) -> None:
        self.model.extend(bytes(max(0, at - len(self.model))))
        self.model[at : at + len(data)] = data

    def _note(self, step: str) -> None:
        self._last.append(step)

    def _same(self, found: bytes, at: int, size: int) -> None:
        expected = self.model[at : at + size]
        if found != expected:
            assert len(found) == len(expected), f"{len(found)} bytes read, {len(expected)} there"
            wrong = next(n for n, byte in enumerate(found) if byte != expected[n])
            raise AssertionError(f"byte {at + wrong} is not what it should be")

    def _compare_size(self) -> None:
        assert os.stat(self._path).st_size == len(self.model)
        for descriptor in self.handles:
            assert os.fstat(descriptor).st_size == len(self.model)
