"""What a bucket's view shows, page by page, and under which key a name is stored.

Used by ``ls``, ``get``, ``cat`` and ``rm``. Names are visible keys, as in `views`: a mount
shows the same but for the few that no path can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from qarnotfs.bucket import Bucket, transfer
from qarnotfs.errors import NoSuchKey
from qarnotfs.store.base import ListPage, ObjectInfo, Store

ASKING = 16  # names that are looked for at the same time


class Entry(NamedTuple):
    """A visible key and its object; a directory ends in ``/`` and has ``None``."""

    name: str
    info: ObjectInfo | None


def entries(bucket: Bucket, folder: str, *, recursive: bool) -> Iterator[Entry]:
    """What is seen below ``folder`` (empty, or ends in ``/``) in the order of keys.

    The directories in it, or with ``recursive`` every file at any depth. Of two keys that
    are seen under one name, it is the one a mount shows.
    """
    found = _found(bucket, folder, recursive)
    if bucket.view.strip_prefix:
        found = iter(_sorted(bucket, found))
    last = ""
    for entry in found:
        if entry.name != last:  # a directory may be met many times
            yield entry
        last = entry.name


def pages(store: Store, prefix: str, delimiter: str = "") -> Iterator[ListPage]:
    """Every page of a listing."""
    after = None
    while True:
        ask = partial(store.list_page, prefix, delimiter=delimiter, after=after)
        page = transfer.calling(ask)
        yield page
        after = page.next
        if after is None:
            return


def find(bucket: Bucket, name: str) -> ObjectInfo | None:
    """The object that is seen under this name."""
    for key in bucket.view.candidates(name):
        with suppress(NoSuchKey):
            return transfer.patiently(partial(bucket.store.head, key))
    return None


def find_all(bucket: Bucket, names: Iterable[str]) -> Iterator[tuple[str, ObjectInfo | None]]:
    """Each name with what `find` finds, in order; several are looked for at the same time."""
    with ThreadPoolExecutor(ASKING) as pool:
        yield from pool.map(lambda name: (name, find(bucket, name)), names)


def _found(bucket: Bucket, folder: str, recursive: bool) -> Iterator[Entry]:
    view = bucket.view
    for scope in view.scopes(folder):
        for page in pages(bucket.store, scope.prefix, "" if recursive else "/"):
            seen: list[tuple[str | None, ObjectInfo | None]] = [
                (view.visible(info.key), info) for info in page.objects
            ]
            seen += [(view.visible_prefix(prefix), None) for prefix in page.prefixes]
            for name, info in sorted(seen, key=lambda pair: pair[0] or ""):
                if name is not None and name.startswith(folder):
                    yield Entry(name, info) if recursive else _child(folder, name, info)


def _child(folder: str, name: str, info: ObjectInfo | None) -> Entry:
    """The entry of ``folder`` that ``name`` is, or is below."""
    head, slash, _ = name[len(folder) :].partition("/")
    return Entry(folder + head + slash, None if slash else info)


def _sorted(bucket: Bucket, found: Iterator[Entry]) -> list[Entry]:
    best: dict[str, Entry] = {}
    for entry in found:
        rival = best.get(entry.name)
        if rival is None or _wins(bucket, entry, rival):
            best[entry.name] = entry
    return sorted(best.values())


def _wins(bucket: Bucket, entry: Entry, rival: Entry) -> bool:
    if entry.info is None or rival.info is None:
        return False
    order = bucket.view.candidates(entry.name)
    return order.index(entry.info.key) < order.index(rival.info.key)
