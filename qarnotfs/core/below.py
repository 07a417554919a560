"""What is below a directory that is about to be renamed, and where it goes.

Used by `moving`. Asks the bucket itself, whatever we believe: what is forgotten here would
stay behind under the old name.
"""

from __future__ import annotations

from qarnotfs.bridge import Bridge
from qarnotfs.core.inodes import Inode, descendants
from qarnotfs.errors import DirectoryNotEmpty
from qarnotfs.index.index import Index
from qarnotfs.store.base import ObjectInfo, Store
from qarnotfs.views import View
from qarnotfs.writeback.journal import Journal


class Below:
    """The keys below the visible directories of one mount."""

    def __init__(
        self, store: Store, bridge: Bridge, index: Index, journal: Journal, view: View
    ) -> None:
        self._store, self._bridge, self._index = store, bridge, index
        self._journal, self._view = journal, view

    async def check_empty(self, prefix: str) -> None:
        """`DirectoryNotEmpty` if somebody else has stored something there, whatever we believe."""
        for scope in self._view.scopes(prefix):
            # What is deleted while the server lists may be listed, and not be owed any more.
            overlay = self._journal.overlay
            going = {key for key in overlay.keys_below(scope.prefix) if overlay.get(key) is False}
            page = await self._bridge.patiently(
                lambda scope=scope: self._bridge.call(self._store.list_page, scope.prefix)  # type: ignore[misc]  # a lambda's default has no type
            )
            for info in page.objects:
                is_going = info.key in going or overlay.get(info.key) is False
                if info.key != scope.prefix and not is_going:
                    self._index.remember(info)
                    raise DirectoryNotEmpty("Another client has made a directory of that name.")

    def known_below(self, prefix: str, inode: Inode | None) -> list[str]:
        """Keys below a directory that are owed, or that the kernel knows, at this moment."""
        keys = [below.key for below in descendants(inode)] if inode else []
        keys = [key for key in keys if not key.endswith("/")]
        for scope in self._view.scopes(prefix):
            keys += self._journal.overlay.keys_below(scope.prefix)
        return [key for key in keys if self._journal.overlay.get(key) is not False]

    def target(self, key: str, prefix: str, new_prefix: str) -> str:
        visible = self._view.visible(key) or ""
        return self._view.stored(new_prefix + visible.removeprefix(prefix))

    async def below(self, prefix: str) -> tuple[dict[str, ObjectInfo | None], set[str]]:
        """Every stored key of a visible directory, and every stored directory it has."""
        keys: dict[str, ObjectInfo | None] = {}
        directories: set[str] = set()
        for scope in self._view.scopes(prefix):
            # What is paid while we list may be neither on the list nor owed any more.
            owed = self.known_below(prefix, None)
            keys |= await self._listed(scope.prefix)
            for key in [*owed, *self._journal.overlay.keys_below(scope.prefix)]:
                keys.setdefault(key, None)
            directories.add(scope.prefix)
            for key in keys:
                if key.startswith(scope.prefix):
                    directories |= directories_of(scope.prefix, key)
        overlay = self._journal.overlay
        present = {key: info for key, info in keys.items() if overlay.get(key) is not False}
        return present, directories

    async def _listed(self, prefix: str) -> dict[str, ObjectInfo | None]:
        found: dict[str, ObjectInfo | None] = {}
        after: str | None = None
        while True:
            page = await self._bridge.patiently(
                lambda after=after: self._bridge.call(self._store.list_page, prefix, after=after)  # type: ignore[misc]  # a lambda's default has no type
            )
            found |= {info.key: info for info in page.objects}
            after = page.next
            if after is None:
                return found


def directories_of(prefix: str, key: str) -> set[str]:
    """Every directory between a prefix and a key below it, the key's own too if it is one."""
    found: set[str] = set()
    at = key.find("/", len(prefix))
    while at >= 0:
        found.add(key[: at + 1])
        at = key.find("/", at + 1)
    return found
