"""What is directly in one directory of the bucket, in little memory. Pure.

Used by `book` and `beliefs`, which keep it, and read by the core. A directory may hold
millions of names, so they lie in pages of some thousand: the ones used last as they are,
all others packed to some thirty bytes a name. A page is also what the database keeps.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from qarnotfs.store.base import ListPage, ObjectInfo

PAGE_NAMES = 1000  # what a server lists at once
OPEN_PAGES = 16  # of one listing: what a program lists, it looks at next
PACKED_SHARE = 10  # a packed name takes about a tenth of one that is not
FASTEST = 1  # zlib's; the next level takes twice the time for a tenth of the bytes


class Packed(NamedTuple):
    """A page for the database: its names from ``first`` to ``last``, with a CRC-32."""

    first: str
    last: str
    name_count: int
    checksum: int
    data: bytes


Entry = tuple[str, ObjectInfo | None]  # an object; or (``None``) a common prefix, ending in ``/``


class Listing:
    """A directory: its objects by key and its common prefixes, full, in byte order.

    ``prefix`` is what was listed with delimiter ``/``. Changed in place by `index` alone. It
    may still grow: ``next`` is what the server wants to hear to go on behind ``end``.
    """

    def __init__(
        self,
        prefix: str,
        validated_sec: float,
        entries: Iterable[Entry] = (),
        *,
        number: int = 0,
    ) -> None:
        self.prefix, self.validated_sec = prefix, validated_sec
        self.number = number  # under which the database keeps it
        self.complete, self.end = True, ""
        self.changes = 0  # of ours, since it was asked for
        self.count = 0  # of names. There is no ``len``: an empty listing is not a missing one
        self._pages: list[_Page] = []
        self._firsts: list[str] = []  # of each page: nothing in it is before that, but in page 0
        self._open: OrderedDict[_Page, None] = OrderedDict()  # the pages used last
        self._newest: _Page | None = None  # of these
        self.extend(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._page_of(name).entries

    def __iter__(self) -> Iterator[Entry]:
        return self.after("")

    def covers(self, name: str) -> bool:
        """Whether it tells of ``name``, that it is there or that it is not."""
        return self.complete or name <= self.end

    @property
    def weight(self) -> int:
        """How much memory it takes, in names that are not packed."""
        unpacked = min(self.count, OPEN_PAGES * PAGE_NAMES)
        return 1 + unpacked + (self.count - unpacked) // PACKED_SHARE

    def is_on_first_page(self, name: str) -> bool:
        """Whether one LIST would tell of ``name``."""
        return self._number(name) == 0 and (len(self._pages) > 1 or self.covers(name))

    def get(self, key: str) -> ObjectInfo | None:
        """The object ``key``."""
        return self._page_of(key).entries.get(key)

    def after(self, name: str) -> Iterator[Entry]:
        """Every entry behind ``name``, which need not be there. Not while it is changed."""
        for page in self._pages[self._number(name) :]:
            names, entries = self._opened(page).names, page.entries
            for number in range(bisect_right(names, name), len(names)):
                yield names[number], entries[names[number]]

    def backwards(self) -> Iterator[Entry]:
        """Every entry, the last one first. Not while it is changed."""
        for page in reversed(self._pages):
            names, entries = self._opened(page).names, page.entries
            for name in reversed(names):
                yield name, entries[name]

    # --- changes, for `index` -----------------------------------------------------------------

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add what comes behind everything that is there, in order."""
        rest = iter(entries)
        while chunk := dict(islice(rest, PAGE_NAMES)):
            self._append(_Page(self.prefix, chunk))

    def extend_packed(self, page: Packed) -> None:
        """Add a page as `packed` gave it; `ValueError` for anything else. It stays packed."""
        if self._firsts and page.first <= self._firsts[-1]:
            raise ValueError("pages out of order")
        if zlib.crc32(page.data) != page.checksum:
            raise ValueError("not a page of a listing")
        self._pages.append(_Page(self.prefix, None, page.data))
        self._firsts.append(page.first)
        self.count += page.name_count
        self.end = max(self.end, page.last)

    def put(self, name: str, info: ObjectInfo | None) -> None:
        """``name`` is there, at this version or as a common prefix."""
        self.changes += 1
        if not self._pages:
            return self.extend([(name, info)])
        page = self._page_of(name)
        if name not in page.entries:
            insort(page.names, name)
            self.count += 1
        page.entries[name] = info
        page.data = b""
        if len(page.names) > 2 * PAGE_NAMES:
            self._split(self._number(name))

    def drop(self, name: str) -> None:
        """``name`` is not there any more."""
        self.changes += 1
        page = self._page_of(name)
        if name in page.entries:
            del page.entries[name], page.names[bisect_left(page.names, name)]
            self.count -= 1
            page.data = b""

    def unread(self, key: str) -> list[ObjectInfo]:
        """The objects on the page of ``key``, once for as long as the page is in use."""
        page = self._page_of(key)
        if page.is_read:
            return []
        page.is_read = True
        return [info for info in page.entries.values() if info]

    def enrich(self, info: ObjectInfo) -> None:
        """The metadata of an object that is there; kept while its page is in use."""
        self._page_of(info.key).entries[info.key] = info

    # --- pages ----------------------------------------------------------------------------------

    @property
    def page_count(self) -> int:
        return len(self._pages)

    def packed(self, number: int) -> Packed:
        """One page, for `extend_packed`."""
        page = self._opened(self._pages[number])
        names, data = page.names, page.packed()
        last = names[-1] if names else ""
        return Packed(self._firsts[number], last, len(names), zlib.crc32(data), data)

    def _append(self, page: _Page) -> None:
        self._pages.append(page)
        self._firsts.append(page.names[0])
        self._opened(page)
        self.count += len(page.names)
        self.end = max(self.end, page.names[-1])

    def _split(self, number: int) -> None:
        names, entries = self._pages[number].names, self._pages[number].entries
        for at, half in ((number, names[:PAGE_NAMES]), (number + 1, names[PAGE_NAMES:])):
            page = _Page(self.prefix, {name: entries[name] for name in half})
            if at == number:
                self._open.pop(self._pages[number], None)
                self._pages[number], self._firsts[number] = page, half[0]
            else:
                self._pages.insert(at, page)
                self._firsts.insert(at, half[0])
            self._opened(page)

    def _number(self, name: str) -> int:
        return max(0, bisect_right(self._firsts, name) - 1)

    def _page_of(self, name: str) -> _Page:
        return self._opened(self._pages[self._number(name)]) if self._pages else _Page(self.prefix)

    def _opened(self, page: _Page) -> _Page:
        if page is not self._newest:  # the others are asked for once a page, not once a name
            self._newest = page
            self._open[page] = None
            self._open.move_to_end(page)
            page.unpack()
            while len(self._open) > OPEN_PAGES:
                self._open.popitem(last=False)[0].pack()
        return page


class _Page:
    """Some entries that follow one another, ``names`` in order; both empty while it is packed."""

    __slots__ = ("data", "entries", "is_open", "is_read", "names", "prefix")

    def __init__(
        self, prefix: str, entries: dict[str, ObjectInfo | None] | None = None, data: bytes = b""
    ) -> None:
        self.prefix, self.data = prefix, data  # empty: not packed since it was changed
        self.entries = entries or {}
        self.names = list(self.entries)
        self.is_open = not data
        self.is_read = False  # since it was opened: see `Listing.unread`

    def packed(self) -> bytes:
        self.data = self.data or _packed(self.prefix, self.names, self.entries)
        return self.data

    def pack(self) -> None:
        self.packed()
        self.entries, self.names = {}, []
        self.is_open = self.is_read = False

    def unpack(self) -> None:
        if not self.is_open:
            self.entries = _unpacked(self.prefix, self.data)
            self.names, self.is_open = list(self.entries), True


def _packed(prefix: str, names: Iterable[str], entries: Mapping[str, ObjectInfo | None]) -> bytes:
    """Metadata is not packed: the database keeps it with the version it belongs to."""
    cut = len(prefix)
    rows = [
        [name[cut:], info.size, info.etag, info.modified_sec] if info else [name[cut:]]
        for name, info in ((name, entries[name]) for name in names)
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), FASTEST)


def _unpacked(prefix: str, data: bytes) -> dict[str, ObjectInfo | None]:
    return {
        prefix + row[0]: ObjectInfo(prefix + row[0], *row[1:]) if row[1:] else None
        for row in json.loads(zlib.decompress(data))
    }


def entries_of(page: ListPage) -> list[Entry]:
    """What a server listed, in byte order, which is that of Python's text."""
    found: list[Entry] = [(info.key, info) for info in page.objects]
    found += [(prefix, None) for prefix in page.prefixes]
    return sorted(found, key=lambda entry: entry[0])


def parent_of(key: str) -> str:
    """The directory a key is listed in: ``a/b`` and ``a/`` -> ``a/``."""
    return key[: key.rfind("/") + 1]


def ancestors_of(key: str) -> Iterator[str]:
    """The directories a key lies in, innermost first: ``a/b`` -> ``a/``, ``""``."""
    prefix = parent_of(key)
    while prefix:
        yield prefix
        prefix = parent_of(prefix[:-1])
    yield ""


def child_of(prefix: str, key: str) -> tuple[str, bool]:
    """What a listing of ``prefix`` shows of ``key``: itself, or the common prefix it is in."""
    at = key.find("/", len(prefix))
    return (key, False) if at < 0 else (key[: at + 1], True)
