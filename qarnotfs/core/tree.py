"""What a directory shows: a pure function of beliefs, debts and the view.

Used by `finder`. This is the one definition of the tree; the reference model of the tests
is this sentence: ``children(overlay(listings, debts), view, directory)``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from qarnotfs.core import names
from qarnotfs.errors import NameTooLong
from qarnotfs.index.listing import Entry
from qarnotfs.store.base import ObjectInfo
from qarnotfs.views import View


class Node(NamedTuple):
    """What is under a name. ``key``: the stored key of a file, the visible prefix of a directory;
    empty when nobody knows any more.

    ``info`` is the believed version of a file; ``None`` where only a debt knows of it.
    ``guessed``: nobody knows its type, and it is taken for a regular file (see `kinds`).
    """

    name: bytes
    is_directory: bool
    key: str
    info: ObjectInfo | None = None
    guessed: bool = False


class Debts(Protocol):
    """What debts add and take away. ``put_size``: bytes of a put that is owed for a key."""

    def children(self, prefix: str) -> Mapping[str, bool]: ...
    def get(self, key: str) -> bool | None: ...
    def put_size(self, key: str) -> int | None: ...


def children(
    view: View, directory: str, listed: Mapping[str, Iterable[Entry]], debts: Debts
) -> dict[bytes, Node]:
    """The entries of a visible directory (``""`` or ``a/b/``) by file name.

    ``listed`` has a listing for each of ``view.scopes(directory)``, by its prefix.
    """
    merge = Merge(view, directory, listed, debts)
    for scope, entries in listed.items():
        merge.add(scope, entries)
    return {node.name: node for node in merge.taken()}


class Merge:
    """A visible directory put together page by page, of listings of its scopes and of debts.

    ``add`` pages of each scope in order, and with one scope ``take`` what is certain; with
    several, or at the end, `taken` is everything that is left. Debts count as they were at
    the beginning: what is created or removed later may be seen or not, as POSIX has it.
    """

    def __init__(self, view: View, directory: str, scopes: Iterable[str], debts: Debts) -> None:
        self._view, self._directory, self._put_size = view, directory, debts.put_size
        self._debts = {scope: sorted(_debts_in(scope, debts)) for scope in scopes}
        # What is known and not taken yet. Invariant: files that a directory of the same
        # name may still follow, and whatever was added since the last `take`.
        self._files: dict[str, tuple[str, ObjectInfo | None]] = {}
        self._directories: dict[str, None] = {}
        self._last_directory: str | None = None  # the one taken last: its keys may go on

    @property
    def owes(self) -> bool:
        """Whether debts add anything, or take it away."""
        return any(self._debts.values())

    def add(self, scope: str, entries: Iterable[Entry], end: str | None = None) -> None:
        """One page of a scope's listing: up to the name ``end``, or to its end."""
        page = dict(entries)
        debts = self._debts[scope]
        count = len(debts) if end is None else bisect_right(debts, end, key=lambda debt: debt[0])
        for path, present in debts[:count]:
            if not present:
                page.pop(path, None)
            elif path == scope and self._put_size(path) is not None:
                page[path] = None  # bytes behind a directory's name may come or go
            else:
                page.setdefault(path, None)
        del debts[:count]
        for key, info in page.items():
            self._place(key, info)

    def take(self, end: str) -> list[Node]:
        """What is certain when the only scope was added up to the name ``end``."""
        visible = self._view.visible(end) or ""
        reached = visible[len(self._directory) :] if visible.startswith(self._directory) else ""
        held = {s: file for s, file in self._files.items() if f"{s}/" > reached}
        self._files = {s: file for s, file in self._files.items() if s not in held}
        nodes = self.taken()
        self._files = held
        return nodes

    def taken(self) -> list[Node]:
        """Everything that is known and was not taken yet, in the order of names."""
        found = dict(_named(self._directory, self._files, self._directories))
        if self._last_directory is not None:
            found = {n: node for n, node in found.items() if node.key != self._last_directory}
        if self._directories:
            self._last_directory = f"{self._directory}{max(self._directories)}/"
        self._files, self._directories = {}, {}
        return [found[name] for name in sorted(found)]

    def _place(self, key: str, info: ObjectInfo | None) -> None:
        """File a stored key, or common prefix, under its first visible segment."""
        visible = self._view.visible(key)
        if visible is None or not visible.startswith(self._directory):
            return
        first, slash, _ = visible[len(self._directory) :].partition("/")
        if slash:
            self._directories[first] = None
        elif first or (info.size if info else self._put_size(key)):
            # An empty ``dir/`` is the directory itself.
            rival = self._files.get(first)
            if rival is None or _precedes(self._view, visible, key, rival[0]):
                self._files[first] = key, info


def _debts_in(scope: str, debts: Debts) -> Iterator[tuple[str, bool]]:
    """Names directly in a scope, as they will be once every debt is paid."""
    parent = scope[: scope.rfind("/") + 1]  # the scope itself, but where it is a filter
    for child, present in debts.children(parent).items():
        path = parent + child
        if not path.startswith(scope) and not scope.startswith(path):
            continue
        # A directory goes when its marker is to be deleted: it was removed.
        if present or not child.endswith("/") or debts.get(path) is False:
            yield path, present


def _precedes(view: View, visible: str, key: str, other: str) -> bool:
    """Of two stored keys that are seen under one name, whether the first one wins."""
    order = view.candidates(visible)
    return order.index(key) < order.index(other)


def _named(
    directory: str,
    files: Mapping[str, tuple[str, ObjectInfo | None]],
    directories: Mapping[str, None],
) -> Iterator[tuple[bytes, Node]]:
    """What no kernel can hold is left out; `Bucket` still reaches the key."""
    for segment in directories:
        with suppress(NameTooLong):
            name = names.encode(segment, False)
            yield name, Node(name, True, f"{directory}{segment}/")
    for segment, (key, info) in files.items():
        try:
            name = names.encode(segment, segment in directories)
        except NameTooLong:
            continue
        yield name, Node(name, False, key, info)
