"""Reading a directory page by page: what `readdir` shows, without ever holding all of it.

Used by `filesystem`, one for each time a directory is read from its start. Waits only where
`index` must ask the bucket for the next page.
"""

from __future__ import annotations

from itertools import islice

from qarnotfs.core.kinds import Kinds
from qarnotfs.core.tree import Debts, Merge, Node
from qarnotfs.index.index import Index
from qarnotfs.index.listing import PAGE_NAMES, Listing
from qarnotfs.views import View


class Browse:
    """The nodes of one visible directory, each once, in an order that stays.

    Views that show several prefixes in one directory are put together as a whole: a name
    of one may hide that of another.
    """

    def __init__(self, index: Index, view: View, directory: str, debts: Debts) -> None:
        self._index = index
        self._scopes = [scope.prefix for scope in view.scopes(directory)]
        self._merge = Merge(view, directory, self._scopes, debts)
        self.kinds = Kinds()
        self._listing: Listing | None = None
        self._at = ""  # the last name that was added
        self._ended = False

    async def page(self) -> list[Node]:
        """The next nodes; none at the end."""
        nodes: list[Node] = []
        while not self._ended and not nodes:
            nodes = await (self._next() if len(self._scopes) == 1 else self._whole())
        return nodes

    async def _whole(self) -> list[Node]:
        for scope in self._scopes:
            self._merge.add(scope, await self._index.listing(scope))
        self._ended = True
        return self._merge.taken()

    async def _next(self) -> list[Node]:
        [scope] = self._scopes
        listing = self._listing = self._listing or await self._index.begun(scope)
        while not (entries := list(islice(listing.after(self._at), PAGE_NAMES))):
            if listing.complete:
                break
            await self._index.grow(listing)
        self._ended = listing.complete and len(entries) < PAGE_NAMES
        if self._ended:
            self._merge.add(scope, entries)
            return self._merge.taken()
        self._at = entries[-1][0]
        self._merge.add(scope, entries, self._at)
        return self._merge.take(self._at)
