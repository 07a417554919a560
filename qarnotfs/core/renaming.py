"""Renames: files that are not uploaded yet, files that are, and whole directories.

Used by `filesystem`, which has found out what is to be renamed and that it may be. A file
whose bytes are owed is renamed by renaming the debt, without a request. An object is
copied on the server; its old key is owed deletion only once the copy is confirmed, so
dying in between leaves it under one name or under both, never under none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.core.inodes import Inode, descendants
from qarnotfs.errors import FileError, NoSuchEntry, NoSuchKey, NotUploaded
from qarnotfs.index.index import Index
from qarnotfs.store.base import UNCONDITIONAL, Attributes, Condition, ObjectInfo, Store
from qarnotfs.views import View
from qarnotfs.writeback.debts import Debt, Kind, State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.uploader import Uploader

COPIES_MAX = 16  # at once, of one directory


class Renamer:
    """Moves keys of one mount."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        index: Index,
        journal: Journal,
        uploader: Uploader,
        view: View,
    ) -> None:
        self._store, self._bridge, self._index = store, bridge, index
        self._journal, self._uploader, self._view = journal, uploader, view

    async def file(self, key: str, new_key: str, known: Condition, inode: Inode | None) -> None:
        """Move one file. ``known``: what the bucket has under the new key, as we believe."""
        copied = None
        await self._deleted([new_key])
        await self._untangle(key, new_key)
        with self._journal.holding((key, new_key)):
            if not self._is_owed(key):
                await self._settle(new_key)
                copied = await self._copy(key, new_key)
            # From here on one synchronous stretch. A program may have written meanwhile.
            if self._is_owed(key):
                if copied:  # a program wrote while it was copied
                    self._journal.drop(new_key)
                    known = Condition(etag=copied.etag)
                self._move_debt(key, new_key, known, inode, certain=copied is not None)
            elif copied is not None:
                self._moved_object(key, copied, inode)
        self._uploader.progressed()

    async def directory(self, prefix: str, new_prefix: str, inode: Inode | None) -> None:
        """Move every key of a visible directory: copies first, then the rest at once."""
        listed, directories = await self._keys_below(prefix)
        copied: dict[str, ObjectInfo | None] = {}
        with ExitStack() as held:
            targets: dict[str, str] = {}
            # Files are created meanwhile, and what was owed is paid until its key is held.
            while True:
                keys = [*listed, *self._known_below(prefix, inode)]
                new = {key: self._target(key, prefix, new_prefix) for key in dict.fromkeys(keys)}
                new = {key: target for key, target in new.items() if key not in targets}
                await self._deleted(new.values())
                for key, target in new.items():
                    await self._untangle(key, target)
                held.enter_context(self._journal.holding([*new, *new.values()]))
                targets |= new
                missing = {
                    k: t for k, t in targets.items() if not (k in copied or self._is_owed(k))
                }
                if not missing:
                    break
                copied |= await self._copy_all(missing)
            self._move_all(targets, copied, inode)
            for key in targets:
                directories |= _directories(prefix, key) if key.startswith(prefix) else set()
        for directory in sorted(directories, key=len, reverse=True):
            self._owe_delete(directory, UNCONDITIONAL, certain=True)
        if inode is not None:
            for below in descendants(inode):
                if below.is_directory:
                    below.key = new_prefix + below.key.removeprefix(prefix)
        self._uploader.progressed()

    def _move_all(
        self, targets: dict[str, str], copied: dict[str, ObjectInfo | None], inode: Inode | None
    ) -> None:
        known = {i.key: i for i in descendants(inode) if not i.is_directory} if inode else {}
        for key, new_key in targets.items():
            found = copied.get(key)
            if self._is_owed(key):
                if found:
                    self._journal.drop(new_key)
                there = Condition(etag=found.etag) if found else Condition(absent=True)
                # Some have been moved by now: to go on is better than half a rename.
                self._move_debt(key, new_key, there, known.get(key), certain=True)
            elif found:
                self._moved_object(key, found, known.get(key))

    def _known_below(self, prefix: str, inode: Inode | None) -> list[str]:
        """Keys below a directory that are owed, or that the kernel knows, at this moment."""
        keys = [below.key for below in descendants(inode)] if inode else []
        keys = [key for key in keys if not key.endswith("/")]
        for scope in self._view.scopes(prefix):
            keys += self._journal.overlay.keys_below(scope.prefix)
        return [key for key in keys if self._journal.overlay.get(key) is not False]

    def _target(self, key: str, prefix: str, new_prefix: str) -> str:
        visible = self._view.visible(key) or ""
        return self._view.stored(new_prefix + visible.removeprefix(prefix))

    # --- what is below a directory ------------------------------------------------------------

    async def _keys_below(self, prefix: str) -> tuple[list[str], set[str]]:
        """Every stored key of a visible directory, and every stored directory it has."""
        keys: dict[str, None] = {}
        directories: set[str] = set()
        for scope in self._view.scopes(prefix):
            keys.update(dict.fromkeys(await self._listed(scope.prefix)))
            keys.update(dict.fromkeys(self._journal.overlay.keys_below(scope.prefix)))
            directories.add(scope.prefix)
            for key in keys:
                if key.startswith(scope.prefix):
                    directories |= _directories(scope.prefix, key)
        present = [key for key in keys if self._journal.overlay.get(key) is not False]
        return present, directories

    async def _listed(self, prefix: str) -> list[str]:
        found: list[str] = []
        after: str | None = None
        while True:
            page = await self._bridge.patiently(
                lambda after=after: self._bridge.call(self._store.list_page, prefix, after=after)  # type: ignore[misc]  # a lambda's default has no type
            )
            found += [info.key for info in page.objects]
            after = page.next
            if after is None:
                return found

    # --- objects ------------------------------------------------------------------------------

    async def _copy_all(self, targets: dict[str, str]) -> dict[str, ObjectInfo | None]:
        """Copy on the server, some at a time; ``None``: it was deleted elsewhere meanwhile.

        The first failure is raised when all have ended.
        """
        copied: dict[str, ObjectInfo | None] = {}
        failures: list[Exception] = []
        slots = trio.CapacityLimiter(COPIES_MAX)

        async def copy(key: str, new_key: str) -> None:
            try:
                async with slots:
                    await self._settle(new_key)
                    copied[key] = await self._copy(key, new_key)
            except NoSuchEntry:
                copied[key] = None
            except Exception as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for key, new_key in targets.items():
                nursery.start_soon(copy, key, new_key)
        if failures:
            raise failures[0]
        return copied

    async def _copy(self, key: str, new_key: str) -> ObjectInfo:
        debt = self._journal.latest(key)
        attributes: Attributes | None = debt.attributes if debt else None  # of a META
        with self._index.doubting(new_key):
            try:
                info = await self._bridge.patiently(
                    lambda: self._bridge.call(self._store.copy, key, new_key, attributes)
                )
            except NoSuchKey:
                raise NoSuchEntry("The file was deleted from the bucket.") from None
            self._index.remember(info)
            return info

    async def _settle(self, key: str) -> None:
        """Nothing may be on its way to a key that is about to be copied to; it is held.

        Nor may a file that was renamed away from it still need what is there.
        """
        for debt in self._journal.builders(key):
            if not self._journal.is_held(debt.key):
                await self._uploader.settle(debt)
        if any(debt.state is State.OPEN for debt in self._journal.builders(key)):
            raise NotUploaded("What was renamed away from this name is still being written.")
        while self._journal.is_paying(key):
            await self._uploader.step()

    async def _deleted(self, keys: Iterable[str]) -> None:
        """A deletion without an answer may be carried out late: it must not meet a copy."""
        for key in keys:
            debt = self._journal.deletion_under_way(key)
            if debt is not None:
                await self._uploader.settle(debt)

    async def _untangle(self, key: str, new_key: str) -> None:
        """Files that change places need each other's old bytes: one is uploaded first."""
        debt = self._journal.latest(key)
        while debt and debt.kind is Kind.PUT and self._journal.closes_circle(debt, new_key):
            await self._uploader.settle(debt)
            if debt.state is State.OPEN:
                raise NotUploaded("It changes places with a file while it is being written.")
            debt = self._journal.latest(key)

    def _moved_object(self, key: str, copied: ObjectInfo, inode: Inode | None) -> None:
        late = self._journal.latest(key)
        self._journal.drop(copied.key)
        if late and late.kind is Kind.META and not copied.has(late.attributes):
            self._owe_late(copied.key, late.attributes)
        self._owe_delete(key, Condition(etag=copied.etag), certain=True)
        if inode is not None:
            if inode.staged is not None:  # its debt was paid, and the bucket has these bytes
                inode.staged.close()
            inode.staged = inode.debt = None
            if not copied.same_version(inode.info):  # somebody had replaced it: other pages
                inode.kernel_version = None
            inode.key, inode.info = copied.key, copied

    # --- debts --------------------------------------------------------------------------------

    def _is_owed(self, key: str) -> bool:
        debt = self._journal.latest(key)
        return debt is not None and debt.kind is Kind.PUT

    def _move_debt(
        self, key: str, new_key: str, known: Condition, inode: Inode | None, *, certain: bool
    ) -> None:
        debt = self._journal.latest(key)
        assert debt is not None
        was_sent = debt.begun or bool(debt.perhaps) or not debt.expected.absent
        expected = debt.expected
        moved: Debt = self._journal.move(debt, new_key, known, certain=certain)
        if was_sent or self._journal.latest(key):  # something older is still to be sent there
            self._owe_delete(key, expected, after=moved.id, perhaps=debt.perhaps)
        if inode is not None:
            inode.key = new_key
            if inode.debt is debt:
                inode.debt = moved

    def _owe_late(self, key: str, attributes: Attributes) -> None:
        """Attributes that were changed while the file was copied."""
        with suppress(FileError):  # a full disk: the rename has happened, with the older ones
            self._journal.owe_copy(key, attributes).not_before_sec = self._uploader.due_sec()

    def _owe_delete(
        self,
        key: str,
        expected: Condition,
        *,
        after: int = 0,
        perhaps: tuple[str, ...] = (),
        certain: bool = False,
    ) -> None:
        debt = self._journal.owe_delete(
            key, expected, after=after, perhaps=perhaps, certain=certain
        )
        if debt is not None:
            debt.not_before_sec = self._uploader.due_sec()


def _directories(prefix: str, key: str) -> set[str]:
    """Every directory between a prefix and a key below it, the key's own too if it is one."""
    found: set[str] = set()
    at = key.find("/", len(prefix))
    while at >= 0:
        found.add(key[: at + 1])
        at = key.find("/", at + 1)
    return found
