"""Which local files go where in the bucket, and how they are read without being led astray.

Made by `Bucket` and the commands; `upward` sends them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from stat import S_ISREG
from typing import IO

from qarnotfs.bucket import transfer
from qarnotfs.bucket.local import Tree, printable, reading
from qarnotfs.bucket.report import Tally
from qarnotfs.store.base import Attributes
from qarnotfs.syncplan import directories_of, unstorable


@dataclass(frozen=True)
class Sources:
    """Local files under the keys they are to have: key -> path, and key -> size in bytes.

    ``base`` is the part of the bucket they are compared with: ``""`` or ending in ``/``.
    ``root``: the directory that all of them are in, or ``None`` for files that were named.
    ``directories`` are the keys of local directories without the ``/`` of their markers.
    ``tally`` names what could not be looked at; nothing of that name is deleted.
    """

    base: str = ""
    root: str | None = None
    paths: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    attributes: Callable[[str], Attributes] = transfer.attributes_of  # by key; may raise OSError

    @classmethod
    def of_tree(cls, root: str, tree: Tree, base: str) -> Sources:
        """A directory, whose names follow ``base`` in the bucket."""
        sources = cls(base, root, directories={base + name for name in tree.directories})
        for name, size in tree.files.items():
            sources._add(base + name, os.path.join(root, name), size)
        for found, told in (
            (tree.skipped, sources.tally.skipped),
            (tree.failed, sources.tally.failed),
        ):
            told.update((printable(base + name), reason) for name, reason in found.items())
        return sources

    @classmethod
    def of_files(
        cls,
        files: Mapping[str, str],
        base: str,
        attributes: Callable[[str], Attributes] = transfer.attributes_of,
    ) -> Sources:
        """Files that were named one by one: key -> path. Links among them are followed."""
        sources = cls(base, attributes=attributes)
        for key, path in files.items():
            try:
                found = os.stat(path)
            except OSError as error:
                sources.tally.fail(key, error)
                continue
            if S_ISREG(found.st_mode):
                sources._add(key, path, found.st_size)
            else:
                sources.tally.failed[key] = "It is not a file."
        return sources

    def _add(self, key: str, path: str, size: int) -> None:
        if reason := unstorable(key):
            self.tally.failed[printable(key)] = reason
        else:
            self.paths[key], self.sizes[key] = path, size

    def open(self, key: str) -> IO[bytes]:
        """The file for reading. Links are followed only to files that were named."""
        if self.root is None:
            return open(self.paths[key], "rb")
        return reading(self.root, key[len(self.base) :])

    def etag_of(self, key: str) -> Callable[[int], str]:
        """What computes the file's etag for a part size, each once."""
        return cache(partial(transfer.etag_of, partial(self.open, key)))

    def keeper(self) -> Callable[[str], bool]:
        """Whether a key is not to be deleted: the marker of a directory that is there, or
        what is, or may be, at the place of something that was not looked at."""
        markers = self.directories | directories_of(self.sizes)
        if self.base:
            markers.add(self.base[:-1])
        unknown = self.tally.skipped.keys() | self.tally.failed.keys()

        def is_kept(key: str) -> bool:
            if key.endswith("/") and key[:-1] in markers:
                return True
            return bool(unknown) and not unknown.isdisjoint({key, *directories_of([key])})

        return is_kept
