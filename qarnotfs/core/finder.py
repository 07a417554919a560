"""What is under a name, and what is in a directory: debts first, then beliefs.

Used by `filesystem` and `renaming`. It changes nothing. Waits only where `index` must ask
the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from itertools import islice
from typing import NamedTuple

from qarnotfs.cache.reader import Reader
from qarnotfs.cache.warming import fetch_whole
from qarnotfs.core import names
from qarnotfs.core.browse import Browse
from qarnotfs.core.foresight import Foresight
from qarnotfs.core.kinds import Kinds, is_certain
from qarnotfs.core.shown import Shown
from qarnotfs.core.trail import Descents, Trail, Trails, further
from qarnotfs.core.tree import Node
from qarnotfs.core.walk import FILES_MAX, Walks, is_small
from qarnotfs.errors import InvalidName
from qarnotfs.index.index import Index
from qarnotfs.index.listing import PAGE_NAMES, Entry, Listing, parent_of
from qarnotfs.store.base import Attributes, ObjectInfo
from qarnotfs.views import Scope, View
from qarnotfs.writeback.debts import Debt, Kind
from qarnotfs.writeback.journal import Journal


class Owed:
    """What a journal adds to directories and takes away, as the tree wants to know it."""

    def __init__(self, journal: Journal) -> None:
        self._latest = journal.latest
        self.children, self.get = journal.overlay.children, journal.overlay.get

    def put_size(self, key: str) -> int | None:
        debt = self._latest(key)
        return debt.size if debt is not None and debt.kind is Kind.PUT else None


class Marker(NamedTuple):
    """What keeps a directory. ``modified_sec``: 0 of one that is owed, which has all its times."""

    key: str
    attributes: Attributes
    size: int
    modified_sec: int


class Finder:
    """Looks names up in one view of one bucket."""

    def __init__(
        self,
        index: Index,
        reader: Reader,
        journal: Journal,
        view: View,
        *,
        asks_attributes: bool,
    ) -> None:
        self._index, self._reader, self._journal, self._view = index, reader, journal, view
        self.asks_attributes = asks_attributes
        self._survivors: dict[str, str] = {}  # of the directory that was emptied last
        self._walks, self._descents, self._shown = Walks(), Descents(), Shown()
        self._trails, self._foresight = Trails(), Foresight()
        self._last_prefix = ""  # the directory of the file that was looked at last

    async def find(self, directory: str, name: bytes) -> Node | None:
        """What is under ``name`` in a visible directory; ``None``: nothing is."""
        try:
            segment = names.decode(name)
        except InvalidName:
            return None
        visible = directory + segment.text
        # As of now: what is owed may be paid while the bucket answers how it was before.
        owed = {scope: self._is_owed(scope) for scope in self._view.scopes(visible + "/")}
        entries: dict[str, tuple[ObjectInfo | None, bool]] = {}
        file = await self._find_file(visible, name, entries)
        if segment.clash and file is None:
            return None
        is_directory = await self._find_directory(owed, entries)
        if segment.clash and file is not None:
            # `rm -r` may have removed the directory first: the file then has its own name.
            return file if is_directory else file._replace(name=names.encode(segment.text))
        if is_directory:
            return Node(name, is_directory=True, key=visible + "/")
        return file

    async def _find_file(
        self, visible: str, name: bytes, entries: dict[str, tuple[ObjectInfo | None, bool]]
    ) -> Node | None:
        for key in filter(names.fits, self._view.candidates(visible)):
            debt = self._journal.latest(key)
            if debt is None or debt.kind is Kind.META:
                info, _ = await self._entry(key, entries)
            elif debt.kind is Kind.PUT and not (key.endswith("/") and not debt.size):
                return Node(name, is_directory=False, key=key)
            else:
                continue
            if info and (info.size or not key.endswith("/")):
                return Node(name, is_directory=False, key=key, info=info)
        return None

    async def _find_directory(
        self,
        owed: Mapping[Scope, bool | None],
        entries: dict[str, tuple[ObjectInfo | None, bool]],
    ) -> bool:
        for scope, was_owed in owed.items():
            is_owed = self._is_owed(scope)
            present = was_owed if is_owed is None else is_owed
            if present is None and names.fits(scope.prefix):
                if scope.admitted:
                    _, present = await self._entry(scope.prefix[:-1], entries)
                else:
                    present = await self._index.exists_below(scope.prefix)
            if present:
                return True
        return False

    def _is_owed(self, scope: Scope) -> bool | None:
        """Whether debts leave a directory there; ``None`` where none says so."""
        overlay = self._journal.overlay
        parent = scope.prefix[: scope.prefix.rfind("/") + 1]
        if parent and overlay.exists_below(parent):
            return True
        return False if scope.admitted and overlay.get(scope.prefix) is False else None

    async def _entry(
        self, key: str, entries: dict[str, tuple[ObjectInfo | None, bool]]
    ) -> tuple[ObjectInfo | None, bool]:
        if key not in entries:
            entries[key] = await self._index.entry(key)
        return entries[key]

    async def children(self, directory: str) -> dict[bytes, Node]:
        """Everything in a visible directory, by file name."""
        browse = self.browse(directory)
        found: dict[bytes, Node] = {}
        while nodes := await browse.page():
            found |= {node.name: node for node in nodes}
        return found

    def browse(self, directory: str) -> Browse:
        """A visible directory, to be read page by page."""
        if not self.asks_attributes:  # else whoever looked at it has told
            self._list_ahead(self.stored_prefix(directory))
        return Browse(self._index, self._view, directory, Owed(self._journal), self._shown)

    async def page(self, browse: Browse) -> list[Node]:
        """The next nodes; where nobody knows what one is, it is guessed if it may be."""
        if browse.again is not None:
            return next(browse.again, [])
        nodes = await browse.page()
        if self.asks_attributes:
            if browse.goes_on:
                self._index.foresee([browse.directory], lambda _: self._look_on(browse))
            nodes = await self._guessed(browse, nodes)
        browse.show(nodes)
        return nodes

    async def _look_on(self, browse: Browse) -> None:
        """Learn what is on the next page, while this one is looked at and shown."""
        entries = await browse.coming()  # first: meanwhile the reader may spend looks
        if browse.kinds.looks:
            await self._look(copy(browse.kinds), self._believed(entries))

    async def _guessed(self, browse: Browse, nodes: list[Node]) -> list[Node]:
        infos = [info for node in nodes if (info := self._listed(node))]
        seen = await self._look(browse.kinds, infos)
        if not browse.kinds.guesses:
            if self._walks.goes_on:
                unknown = (info for info in infos if is_small(info) and not is_certain(info))
                await fetch_whole(self._reader, list(islice(unknown, FILES_MAX)))
            return nodes
        guessed = {info.key for info in infos if not is_certain(info)} - seen
        return [
            Node(node.name, False, node.key, node.info, True) if node.key in guessed else node
            for node in nodes
        ]

    async def _look(self, kinds: Kinds, infos: list[ObjectInfo]) -> set[str]:
        """Learn what a page's objects are by looking at a few of them; at which ones."""
        smallest, spread = kinds.suspects(infos)
        asked = [info for info in smallest + spread if not is_certain(info)]
        if self._walks.goes_on and not await fetch_whole(self._reader, asked):
            return set()
        found = await self._index.infos([info.key for info in asked])
        seen = {info.key: info for info in found}
        kinds.learn(seen.get(info.key, info) for info in spread)
        return set(seen)

    async def _look_into(self, prefix: str) -> None:
        """Ask what a program will ask for that reads a directory."""
        listing = await self._index.begun(prefix)
        if self.asks_attributes:
            await self._look(Kinds(), self._believed(islice(listing.after(prefix), PAGE_NAMES)))

    def _believed(self, entries: Iterable[Entry]) -> list[ObjectInfo]:
        """The objects of a page of a listing that are not owed, as they are believed to be."""
        owed = self._journal.latest
        names = [name for name, info in entries if info and owed(name) is None]
        beliefs = map(self._index.believed, names)
        return [belief.info for belief in beliefs if belief and belief.info]

    def _listed(self, node: Node) -> ObjectInfo | None:
        """What is believed of a listed object now; ``None`` of what is no object, or owed."""
        if node.info is None or self._journal.latest(node.key) is not None:
            return None
        belief = self._index.believed(node.key)
        return belief.info if belief else node.info

    async def info(self, node: Node) -> ObjectInfo:
        """The version of a file with its metadata, or `NoSuchKey`; siblings' are fetched ahead."""
        if node.info and (node.info.metadata is not None or not self.asks_attributes):
            if (prefix := parent_of(node.key)) != self._last_prefix:
                self._last_prefix = prefix
                self._trails.at(prefix, self._index.fresh_listing)
            if self._foresight.is_far(node.key):
                self._foresee(node.key)
            return node.info
        await self._index.renew(node.key)  # the kernel may come by inode, without a look at names
        if not await self._fetched(node.key):
            self._foresee(node.key)
        return await self._index.info(node.key)

    async def _fetched(self, key: str) -> bool:
        """Fetch a file that will surely be read: its attributes come with its bytes."""
        listing = self._index.listing_around(key)
        info = listing.get(key) if listing else None
        if not listing or not info or not is_small(info):
            return False
        trail = self._trails.at(listing.prefix, self._index.fresh_listing)
        if not self._walks.looked(listing, key, comes=trail.goes_on):
            return False
        self._fetch_ahead(listing, trail)
        await fetch_whole(self._reader, [info])
        return True

    def opened(self, info: ObjectInfo) -> None:
        """A program opens this version: its bytes are as fresh as the belief in it."""
        belief = self._index.believed(info.key)
        if belief and info.same_version(belief.info):
            self._reader.validated(info, belief.validated_sec)

    def used(self, info: ObjectInfo, *, asks: bool) -> None:
        """A program reads a file from its beginning: fetch what it will read next.

        Before that the file itself, if it ``asks`` for it, and the kernel does not have it.
        """
        if not is_small(info):
            return
        listing = self._index.listing_around(info.key)
        if listing and info.key in listing:
            self._foresight.read()
            trail = self._trails.at(listing.prefix, self._index.fresh_listing)
            self._walks.used(listing, info.key, comes=trail.goes_on)
            self._fetch_ahead(listing, trail, info if asks else None)

    def _fetch_ahead(self, listing: Listing, trail: Trail, first: ObjectInfo | None = None) -> None:
        onward, bytes_max = self._onward(listing, trail), self._reader.ahead_bytes_max
        wanted = self._walks.wanted(listing, onward, bytes_max)
        for number, (there, info) in enumerate(wanted):
            if first is not None and not number:
                self._reader.fetch_ahead(first)
            if self._journal.latest(info.key) is None and not self._reader.fetch_ahead(info):
                return self._walks.refused(listing)
            self._walks.asked(there, info.key)

    def _onward(self, listing: Listing, trail: Trail) -> Iterable[Listing]:
        """The directories to which a program will come that is through with this one."""
        return further(trail, self._index.fresh_listing) if listing.complete else ()

    def _foresee(self, key: str) -> None:
        """A program looks at one file after the other: look at those that come next, too."""
        listing = self._index.listing_around(key)
        if listing is None or key not in listing:
            return
        trail = self._trails.at(listing.prefix, self._index.fresh_listing)
        onward = self._onward(listing, trail)
        wanted = self._foresight.wanted(listing, key, onward, comes=trail.goes_on)
        self._index.foresee(wanted)

    async def marker(self, directory: str, *, asks: bool = True) -> Marker | None:
        """The object that stands for a visible directory, if any.

        Where nobody ``asks``, only one that is known is found.
        """
        if not directory:
            return None
        for key in self._view.candidates(directory):
            debt = self._journal.latest(key)
            if debt is not None:
                if debt.present:
                    return Marker(key, debt.attributes, debt.size, 0)
                continue
            if asks:
                self._list_ahead(key)
                info = await self._index.find(key)
            else:
                belief = self._index.believed(key)
                info = belief.info if belief else None
            if info is not None:
                stored = Attributes(info.metadata or {}, info.content_type)
                return Marker(key, stored, info.size, info.modified_sec)
        return None

    def _list_ahead(self, prefix: str) -> None:
        """A program looks into a directory: list those that it will look into next."""
        listed = self._index.fresh_listing
        if self.asks_attributes and not self._index.is_listed(prefix):
            self._index.prepare_infos()
        parent = listed(parent_of(prefix[:-1]))
        if parent and prefix in parent:
            self._index.foresee(self._descents.entered(parent, prefix, listed), self._look_into)

    async def has_children(self, directory: str) -> bool:
        """Whether anything is in a visible directory; quick also while it is being emptied."""
        for scope in self._view.scopes(directory):
            listing = await self._index.begun(scope.prefix)
            while not (found := self._has_children(scope.prefix, listing)) and not listing.complete:
                await self._index.grow(listing)
            if found:
                return True
        return False

    def _has_children(self, prefix: str, listing: Listing) -> bool:
        overlay = self._journal.overlay
        survivor = self._survivors.get(prefix, "")
        if survivor in listing and overlay.get(survivor) is not False:
            return True
        # Programs delete in the order they list: the last ones live longest.
        for name, _ in listing.backwards():
            if overlay.get(name) is not False and name != prefix:
                self._survivors = {prefix: name}
                return True
        return any(present for child, present in overlay.children(prefix).items() if child)

    def stored_prefix(self, directory: str) -> str:
        """What is listed to learn a visible directory; of several prefixes, the one that wins."""
        scopes = self._view.scopes(directory)
        return scopes[0].prefix if scopes else directory

    def debt(self, key: str) -> Debt | None:
        return self._journal.latest(key)
