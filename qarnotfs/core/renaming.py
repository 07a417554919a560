"""Renames of files, those that are not uploaded yet and those that are.

Used by `namespace`, which has found out what is to be renamed and that it may be, and by
`moving` for each key of a directory. A file whose bytes are owed is renamed by renaming the
debt, without a request. An object is copied on the server; its old key is owed deletion only
once the copy is confirmed, so dying in between leaves it under both names, never under none,
until the next life finishes the rename (`Mover.resume`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from qarnotfs.bridge import Bridge
from qarnotfs.core.inodes import Inode
from qarnotfs.core.tree import Node
from qarnotfs.errors import EntryExists, FileError, NoSuchEntry, NoSuchKey, NotUploaded
from qarnotfs.index.index import Index
from qarnotfs.store.base import Attributes, Condition, ObjectInfo, Store
from qarnotfs.writeback.copying import copy
from qarnotfs.writeback.debts import NO_TRIES, Debt, Kind, State, Tries
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import MoveRow
from qarnotfs.writeback.uploader import Uploader


class Way(NamedTuple):
    """What the renaming of one file meets, as its caller sees it.

    ``moved()``: whether a directory was renamed meanwhile, so that nothing is to happen.
    ``keep()`` is called when what the new name stands for is about to go. Unless it
    ``replaces``, nothing may be there, whatever we believe.
    """

    moved: Callable[[], bool]
    keep: Callable[[], None]
    replaces: bool


class Renamer:
    """Moves single keys of one mount; everything but `file` is a step of that."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        index: Index,
        journal: Journal,
        uploader: Uploader,
    ) -> None:
        self._store, self._bridge, self._index = store, bridge, index
        self._journal, self._uploader = journal, uploader
        self._arrivals: list[dict[str, ObjectInfo | None]] = []

    @contextmanager
    def arrivals(self) -> Iterator[dict[str, ObjectInfo | None]]:
        """Objects that get their names by `file` meanwhile, by key; who has seen them clears it.

        A directory may be renamed while files are renamed in it, and some have been copied.
        """
        arrived: dict[str, ObjectInfo | None] = {}
        self._arrivals.append(arrived)
        try:
            yield arrived
        finally:
            self._arrivals = [one for one in self._arrivals if one is not arrived]

    async def file(
        self, file: Node, new_key: str, known: Condition | None, inode: Inode | None, way: Way
    ) -> bool:
        """Move one file. ``known``: what the bucket has under the new key, as we believe; ``None``
        where something was owed for it, which may arrive meanwhile.

        False: nothing has happened, as ``way.moved()``.
        """
        key = file.key
        copied = None
        await self.untangle(key, new_key)
        await self.deleted([new_key])
        if not self.is_owed(key):
            await self._whole(new_key)
        with self._journal.holding((key, new_key)):
            if not self.is_owed(key):
                await self.settle(new_key)
                if not way.replaces and self._journal.overlay.get(new_key) is None:
                    await self._absent(new_key)
                copied = await self._copy_recorded(file, new_key, self._there(new_key, known))
            # From here on one synchronous stretch. A program may have written meanwhile.
            if way.moved():
                if copied:
                    self.owe_delete(new_key, Condition(etag=copied.etag), certain=True)
                    self._journal.moves.end([key])
                return False
            way.keep()
            if self.is_owed(key):
                there = self._there(new_key, known)
                if copied:  # a program wrote while it was copied
                    self._journal.drop(new_key)
                    there = Condition(etag=copied.etag)
                self.move_debt(key, new_key, there, inode, certain=copied is not None)
            elif copied is not None:
                self.moved_object(key, copied, inode)
                for arrived in self._arrivals:
                    arrived[new_key] = copied
            if copied:
                self._journal.moves.end([key])
        self._uploader.progressed()
        return True

    # --- objects ------------------------------------------------------------------------------

    def _there(self, key: str, known: Condition | None) -> Condition:
        """What the bucket has under a key, as we believe; see `file`."""
        if known is not None:
            return known
        heard = None if self._journal.latest(key) else self._index.heard(key)
        return Condition(etag=heard.info.etag) if heard and heard.info else Condition(absent=True)

    async def _absent(self, key: str) -> None:
        """`EntryExists` if somebody else has stored something under a new name."""
        with suppress(NoSuchKey):
            info = await self._bridge.patiently(lambda: self._bridge.wait(self._store.head(key)))
            self._index.remember(info)
            raise EntryExists("Another client has made a file of that name.")

    async def current(self, key: str) -> ObjectInfo | None:
        """What the bucket has under a key now."""
        try:
            return await self._bridge.patiently(lambda: self._bridge.wait(self._store.head(key)))
        except NoSuchKey:
            return None

    async def _whole(self, key: str) -> None:
        """A file changed in part needs what a copy to its key would replace: it is uploaded first.

        The copy may be carried out, and the rename fail.
        """
        debt = self._journal.latest(key)
        if debt and debt.staged and not debt.staged.whole and debt.state is not State.OPEN:
            with suppress(NotUploaded):
                await self._uploader.settle(debt)

    async def _copy_recorded(self, file: Node, new_key: str, known: Condition) -> ObjectInfo:
        etag = self.version(file.key, file.info)
        self._journal.begin_moves([MoveRow(file.key, new_key, etag, known.etag or "")])
        try:
            return await self.copy(file.key, new_key, file.info)
        except Exception:
            if known.absent:
                self.disown(new_key, file.info)
            self._journal.moves.end([file.key])
            raise

    def version(self, key: str, seen: ObjectInfo | None) -> str | None:
        """The etag of what is about to be copied; ``None``: whatever is there by then is ours.

        As of what is owed, or was until a moment ago, and is paid: a later version than was seen.
        """
        heard = self._index.heard(key)
        if seen is None or self.is_owed(key) or (heard and not seen.same_version(heard.info)):
            return None
        return seen.etag

    async def copy(self, key: str, new_key: str, source: ObjectInfo | None) -> ObjectInfo:
        """Copy on the server, with attributes that are owed; `NoSuchEntry` if it is gone.

        ``source``: what was last heard of it.
        """
        debt, belief = self._journal.latest(key), self._index.believed(key)
        if source and belief and source.same_version(belief.info):
            source = belief.info  # with its metadata, if that is known
        attributes: Attributes | None = debt.attributes if debt else None  # of a META
        with self._index.doubting(new_key):
            try:
                info = await self._bridge.patiently(
                    lambda: copy(self._store, self._bridge, key, new_key, attributes, source)
                )
            except NoSuchKey:
                raise NoSuchEntry("The file was deleted from the bucket.") from None
            self._index.remember(info)
            return info

    def disown(self, key: str, source: ObjectInfo | None) -> None:
        """A copy failed. It may have been carried out all the same: it goes, nothing else does.

        What is owed there takes its place.
        """
        if source is None or key.endswith("/"):
            return
        debt = self._journal.latest(key)
        if debt is not None and debt.kind is Kind.PUT:
            return self._journal.perhaps_copied(debt, source.etag)
        self.owe_delete(key, Condition(absent=True), perhaps={source.etag: ""}, certain=True)

    async def settle(self, key: str) -> None:
        """Nothing may be on its way to a key that is about to be copied to; it is held.

        Nor may a file that was renamed away from it still need what is there.
        """
        while debts := [d for d in self._journal.builders(key) if not self._journal.is_held(d.key)]:
            if any(debt.state is State.OPEN for debt in debts):
                raise NotUploaded("What was renamed away from this name is still being written.")
            if self._journal.waits_for_held(debts[0]):
                raise NotUploaded("What was renamed away from this name waits for another rename.")
            await self._uploader.settle(debts[0])
        while self._journal.is_paying(key):
            await self._uploader.step()

    async def deleted(self, keys: Iterable[str]) -> None:
        """A deletion without an answer may be carried out late: it must not meet a copy.

        When it returns there is none, and none begins before somebody else has had a turn.
        """
        keys = list(keys)
        while under_way := list(filter(None, map(self._journal.deletion_under_way, keys))):
            for debt in under_way:
                await self._uploader.settle(debt)

    async def untangle(self, key: str, new_key: str) -> None:
        """Files that change places need each other's old bytes: one is uploaded first."""
        debt = self._journal.latest(key)
        while debt and debt.kind is Kind.PUT and self._journal.closes_circle(debt, new_key):
            await self._uploader.settle(debt)
            if debt.state is State.OPEN:
                raise NotUploaded("It changes places with a file while it is being written.")
            debt = self._journal.latest(key)

    def moved_object(self, key: str, copied: ObjectInfo, inode: Inode | None) -> None:
        """The copy is confirmed: the old key goes, and its inode shows the new one."""
        late = self._journal.latest(key)
        self._journal.drop(copied.key)
        if late and late.kind is Kind.META and not copied.has(late.attributes):
            self._owe_late(copied.key, late.attributes)
        source = Condition(etag=self._source_of(key, copied, inode).etag)
        self.owe_delete(key, source, perhaps={copied.etag: ""}, certain=True)
        if inode is not None:
            if inode.staged is not None:  # its debt was paid, and the bucket has these bytes
                inode.staged.close()
                inode.info = inode.debt.stored if inode.debt else None
            inode.staged = inode.debt = None
            if not copied.same_version(inode.info):  # somebody had replaced it: other pages
                inode.kernel_version = None
            inode.key = copied.key
            if not (inode.info and inode.opens) or _may_be_copy(copied, inode.info):
                inode.info = copied  # else who reads keeps his version

    def _source_of(self, key: str, copied: ObjectInfo, inode: Inode | None) -> ObjectInfo:
        """What was copied, as far as is known: of parts, it has another etag."""
        belief = self._index.believed(key)
        known = (belief.info if belief else None, inode.info if inode else None)
        return next((info for info in known if info and _may_be_copy(copied, info)), copied)

    # --- debts --------------------------------------------------------------------------------

    def is_owed(self, key: str) -> bool:
        """Whether bytes are: then a rename needs no request."""
        debt = self._journal.latest(key)
        return debt is not None and debt.kind is Kind.PUT

    def move_debt(
        self, key: str, new_key: str, known: Condition, inode: Inode | None, *, certain: bool
    ) -> None:
        """What is owed for the old key is owed for the new one, and the old one's end."""
        debt = self._journal.latest(key)
        assert debt is not None
        moved: Debt = self._journal.move(debt, new_key, known, certain=certain)
        if not debt.attempts:  # a temporary file waits longer than what it becomes
            moved.not_before_sec = min(moved.not_before_sec, self._uploader.due_sec(moved))
        if (end := self._journal.latest(key)) and end.after == moved.id:
            end.not_before_sec = self._uploader.due_sec()
        if inode is not None:
            inode.key = new_key
            if inode.debt is debt:
                inode.debt, inode.taken = moved, False

    def _owe_late(self, key: str, attributes: Attributes) -> None:
        """Attributes that were changed while the file was copied."""
        with suppress(FileError):  # a full disk: the rename has happened, with the older ones
            self._journal.owe_copy(key, attributes).not_before_sec = self._uploader.due_sec()

    def hurry(self, keys: Iterable[str]) -> None:
        """What is to be deleted of these goes now: no program is about to use the names again.

        But not what a program has open.
        """
        for debt in map(self._journal.latest, keys):
            if debt and debt.kind is Kind.DELETE and debt.state is State.QUEUED:
                debt.urgent = True

    def owe_delete(
        self,
        key: str,
        expected: Condition,
        *,
        perhaps: Tries = NO_TRIES,
        certain: bool = False,
    ) -> None:
        """The end of a key, soon; see `Journal.owe_delete`."""
        debt = self._journal.owe_delete(key, expected, perhaps=perhaps, certain=certain)
        if debt is not None:
            debt.not_before_sec = self._uploader.due_sec()


def _may_be_copy(copied: ObjectInfo, source: ObjectInfo) -> bool:
    """Whether both hold the same bytes; of what is made of parts, a copy has another etag."""
    is_in_parts = "-" in source.etag + copied.etag and copied.size == source.size
    return is_in_parts or copied.same_version(source)
