"""What a directory shows: a pure function of beliefs, debts and the view.

Used by `finder`. This is the one definition of the tree; the reference model of the tests
is this sentence: ``children(overlay(listings, debts), view, directory)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from qarnotfs.core import names
from qarnotfs.errors import NameTooLong
from qarnotfs.store.base import ObjectInfo
from qarnotfs.views import View


@dataclass(frozen=True, slots=True)
class Node:
    """What is under a name. ``key``: the stored key of a file, the visible prefix of a directory.

    ``info`` is the believed version of a file; ``None`` where only a debt knows of it.
    """

    name: bytes
    is_directory: bool
    key: str
    info: ObjectInfo | None = None


class Listed(Protocol):
    """A listing of one stored prefix, as `index` believes it."""

    @property
    def objects(self) -> Mapping[str, ObjectInfo]: ...
    @property
    def prefixes(self) -> Iterable[str]: ...


class Debts(Protocol):
    """What debts add and take away, as `writeback.overlay` keeps it."""

    def children(self, prefix: str) -> Mapping[str, bool]: ...
    def get(self, key: str) -> bool | None: ...


def children(
    view: View, directory: str, listed: Mapping[str, Listed], debts: Debts
) -> dict[bytes, Node]:
    """The entries of a visible directory (``""`` or ``a/b/``) by file name.

    ``listed`` has a listing for each of ``view.scopes(directory)``, by its prefix.
    """
    files: dict[str, Node] = {}
    directories: set[str] = set()
    for scope, listing in listed.items():
        objects, prefixes = _with_debts(scope, listing, debts)
        for key, info in objects.items():
            _place(view, key, info, directory, files, directories)
        for prefix in prefixes:
            _place(view, prefix, None, directory, {}, directories)
    return dict(_named(directory, files, directories))


def _with_debts(
    scope: str, listing: Listed, debts: Debts
) -> tuple[dict[str, ObjectInfo | None], set[str]]:
    """A listing as it will be once every debt is paid."""
    objects: dict[str, ObjectInfo | None] = dict(listing.objects)
    prefixes = set(listing.prefixes)
    parent = scope[: scope.rfind("/") + 1]  # the scope itself, but where it is a filter
    for child, present in debts.children(parent).items():
        path = parent + child
        if not path.startswith(scope) and not scope.startswith(path):
            continue
        if child.endswith("/"):
            if present:
                prefixes.add(path)
            elif debts.get(path) is False:  # its marker is to be deleted: it was removed
                prefixes.discard(path)
        elif present:
            objects.setdefault(path, None)
        else:
            objects.pop(path, None)
    return objects, prefixes


def _place(
    view: View,
    key: str,
    info: ObjectInfo | None,
    directory: str,
    files: dict[str, Node],
    directories: set[str],
) -> None:
    """File a stored key, or common prefix, under its first visible segment in the directory."""
    visible = view.visible(key)
    if visible is None or not visible.startswith(directory):
        return
    first, slash, _ = visible[len(directory) :].partition("/")
    if slash:
        directories.add(first)
    elif first or (info is not None and info.size):  # an empty ``dir/`` is the directory itself
        rival = files.get(first)
        if rival is None or _precedes(view, visible, key, rival.key):
            files[first] = Node(b"", is_directory=False, key=key, info=info)


def _precedes(view: View, visible: str, key: str, other: str) -> bool:
    """Of two stored keys that are seen under one name, whether the first one wins."""
    order = view.candidates(visible)
    return order.index(key) < order.index(other)


def _named(
    directory: str, files: Mapping[str, Node], directories: set[str]
) -> Iterator[tuple[bytes, Node]]:
    for segment in directories:
        node = Node(b"", is_directory=True, key=f"{directory}{segment}/")
        yield from _with_name(segment, node, clash=False)
    for segment, node in files.items():
        yield from _with_name(segment, node, clash=segment in directories)


def _with_name(segment: str, node: Node, *, clash: bool) -> Iterator[tuple[bytes, Node]]:
    try:
        name = names.encode(segment, clash)
    except NameTooLong:
        return  # no kernel can hold it; `Bucket` still reaches the key
    yield name, Node(name, node.is_directory, node.key, node.info)
