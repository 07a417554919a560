"""Reading a directory page by page: what `readdir` shows, without ever holding all of it.

Used by `filesystem`, one for each time a directory is read from its start. Waits only where
`index` must ask the bucket for the next page.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from qarnotfs.core.kinds import Kinds
from qarnotfs.core.shown import NODES_MAX, Read, Shown
from qarnotfs.core.tree import Debts, Merge, Node
from qarnotfs.index.index import Index
from qarnotfs.index.listing import PAGE_NAMES, Entry, Listing
from qarnotfs.views import View


class Browse:
    """The nodes of one visible directory, each once, in an order that stays.

    Views that show several prefixes in one directory are put together as a whole: a name
    of one may hide that of another.
    """

    def __init__(
        self, index: Index, view: View, directory: str, debts: Debts, shown: Shown
    ) -> None:
        self._index, self.directory, self._shown = index, directory, shown
        self._scopes = [scope.prefix for scope in view.scopes(directory)]
        self._merge = Merge(view, directory, self._scopes, debts)
        self.kinds = Kinds()
        self._listing: Listing | None = None
        self._changes = 0  # of the listing, when it was begun
        self._at, self._page_count = "", 0  # the last name that was added, of so many pages
        self._ended = False
        self._pages: list[list[Node]] | None = []  # what was shown; None: it is not to be kept
        self.again = self._find_again()

    def _find_again(self) -> Iterator[list[Node]] | None:
        """What was shown the last time, if that is what is to be shown now."""
        if len(self._scopes) != 1 or self._merge.owes:
            self._pages = None
            return None
        listing = self._index.fresh_listing(self._scopes[0])
        pages = self._shown.find(self.directory, listing) if listing else None
        return iter(pages) if pages is not None else None

    def show(self, nodes: list[Node]) -> None:
        """This was shown; none: the end."""
        if self._pages is None or len(self._pages) * PAGE_NAMES > NODES_MAX:
            self._pages = None
        elif nodes:
            self._pages.append(nodes)
        elif self._listing is not None:
            self._shown.keep(self.directory, Read(self._listing, self._changes, self._pages))

    async def page(self) -> list[Node]:
        """The next nodes; none at the end."""
        nodes: list[Node] = []
        while not self._ended and not nodes:
            nodes = await (self._next() if len(self._scopes) == 1 else self._whole())
        return nodes

    @property
    def goes_on(self) -> bool:
        """Whether the next page may be asked for ahead: of who has come for a second one.

        Where nothing is believed, what is asked for ahead is of no use, and misses our own changes.
        """
        return self._page_count > 1 and not self._ended and self._index.ttl_sec > 0

    async def coming(self) -> list[Entry]:
        """What is listed on the next page, which is not taken yet."""
        listing = self._listing
        if listing is None:
            return []
        while not (entries := list(islice(listing.after(self._at), PAGE_NAMES))):
            if listing.complete:
                break
            await self._index.grow(listing)
        return entries

    async def _whole(self) -> list[Node]:
        for scope in self._scopes:
            self._merge.add(scope, await self._index.listing(scope))
        self._ended = True
        return self._merge.taken()

    async def _next(self) -> list[Node]:
        [scope] = self._scopes
        listing = self._listing or await self._index.begun(scope)
        if self._listing is None:
            self._listing, self._changes = listing, listing.changes
            self._index.read_on(listing)
        entries = await self.coming()
        self._page_count += 1
        last = entries[-1][0] if entries else ""
        self._ended = listing.complete and not (last and any(listing.after(last)))
        if self._ended:
            self._merge.add(scope, entries)
            return self._merge.taken()
        self._at = last
        self._merge.add(scope, entries, self._at)
        return self._merge.take(self._at)
