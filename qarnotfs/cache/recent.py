"""Verified blocks in memory: the last few, so that two reads of one block verify it once.

Used by `disk`. Where nothing can be kept on disk it is the whole cache, and what was
fetched ahead waits here. Never larger than its limit; never reads or checks anything.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable


class Recent:
    """A least-recently-used map of (file name, block number) to bytes. Safe in threads."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0  # sum of what is in _blocks

    def get(self, name: str, number: int) -> bytes | None:
        with self._lock:
            block = self._blocks.get((name, number))
            if block is not None:
                self._blocks.move_to_end((name, number))
            return block

    def present(self, name: str, numbers: Iterable[int]) -> set[int]:
        """Those of some blocks that are here; that is no use of them."""
        with self._lock:
            return {number for number in numbers if (name, number) in self._blocks}

    def put(self, name: str, number: int, block: bytes) -> None:
        """Keep ``block``, which must own its memory: a slice would hold all it was cut from."""
        with self._lock:
            self._drop((name, number))
            self._blocks[name, number] = block
            self._bytes += len(block)
            while self._bytes > self.bytes_max:
                self._drop(next(iter(self._blocks)))

    def spend(self, name: str, number: int) -> None:
        """That block was read to its end: it goes before those that still wait for it."""
        with self._lock:
            if (name, number) in self._blocks:
                self._blocks.move_to_end((name, number), last=False)

    def forget(self, name: str) -> None:
        with self._lock:
            for key in [key for key in self._blocks if key[0] == name]:
                self._drop(key)

    def _drop(self, key: tuple[str, int]) -> None:
        self._bytes -= len(self._blocks.pop(key, b""))
