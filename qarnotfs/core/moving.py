"""Renames of whole directories: every key below one prefix moves below another.

Used by `namespace`, which has found out that it may be, and, for what a former life could not
finish (files, too), by `filesystem`. All is recorded first, then every object is copied, many
at a time; only when all copies are confirmed the old keys go, at once. A failure takes the
copies back. After a death in the middle the next life goes on (`resume`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.core import names
from qarnotfs.core.below import Below, directories_of
from qarnotfs.core.ends import look_at_ends
from qarnotfs.core.inodes import Inode, descendants
from qarnotfs.core.renaming import Renamer
from qarnotfs.errors import NoSuchEntry
from qarnotfs.index.index import Index
from qarnotfs.store.base import UNCONDITIONAL, Condition, ObjectInfo, Store
from qarnotfs.views import View
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import MoveRow
from qarnotfs.writeback.uploader import Uploader

log = logging.getLogger(__name__)

COPIES_MAX = 16  # at once, of one directory

_Copied = dict[str, ObjectInfo | None]
_Copy = Callable[[str, str], Awaitable[ObjectInfo | None]]


class Mover:
    """Moves the directories of one mount, with the `Renamer` of its files."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        index: Index,
        journal: Journal,
        uploader: Uploader,
        view: View,
    ) -> None:
        self.files = Renamer(store, bridge, index, journal, uploader)
        self._store, self._bridge, self._index = store, bridge, index
        self._journal, self._uploader, self._view = journal, uploader, view
        self._there = Below(store, bridge, index, journal, view)
        self._under_way: dict[tuple[str, str], trio.Event] = {}  # set when it has ended

    async def others_end(self, *prefixes: str) -> bool:
        """Wait for renames of directories above these or below; whether there were any.

        Of two at once each would move what the other has copied.
        """
        waited = False
        while others := [
            ended
            for theirs, ended in self._under_way.items()
            if any(a.startswith(b) or b.startswith(a) for a in theirs for b in prefixes)
        ]:
            await others[0].wait()
            waited = True
        return waited

    async def directory(
        self,
        prefix: str,
        new_prefix: str,
        inode: Inode | None,
        lost: list[Inode],
        *,
        replaces: bool,
    ) -> None:
        """Move every key of a visible directory; ``replaces``: there is an empty one already.

        ``lost``: files that are open and have lost their names, also in other directories.
        """
        ended = self._under_way[prefix, new_prefix] = trio.Event()
        try:
            await self._directory(prefix, new_prefix, inode, lost, replaces=replaces)
        finally:
            del self._under_way[prefix, new_prefix]
            ended.set()

    async def _directory(
        self,
        prefix: str,
        new_prefix: str,
        inode: Inode | None,
        lost: list[Inode],
        *,
        replaces: bool,
    ) -> None:
        await self._there.check_empty(new_prefix)
        listed, directories = await self._there.below(prefix)
        copied: _Copied = {}
        targets: dict[str, str] = {}
        tried: dict[str, str] = {}

        async def copy(key: str, new_key: str) -> ObjectInfo:
            tried[key] = new_key
            return await self.files.copy(key, new_key, listed.get(key))

        with ExitStack() as held, self.files.arrivals() as arrived:
            try:
                # Files are created meanwhile, and what was owed is paid until its key is held.
                while True:
                    keys = [*listed, *self._there.known_below(prefix, inode)]
                    new = {key: self._there.target(key, prefix, new_prefix) for key in keys}
                    new = {k: names.checked(new[k]) for k in new if k not in targets}
                    for key, target in new.items():
                        await self.files.untangle(key, target)
                    there = [*new.values(), *self._ending(new.values())]
                    await self.files.deleted(there)
                    held.enter_context(self._journal.holding([*new, *there]))
                    targets |= new
                    for key in new:
                        if key.startswith(prefix):
                            directories |= directories_of(prefix, key)
                    if new:
                        self._journal.begin_moves(self._rows(directories, new, listed))
                    self._copy_again(arrived, listed, copied)
                    if not (missing := self._missing(targets, copied)):
                        break
                    await self._copy_all(missing, copy, copied)
            except Exception:
                made = {self._there.target(one, prefix, new_prefix) for one in directories}
                made -= {self._view.stored(new_prefix)} if replaces else set()
                missing = self._missing(tried, copied)
                failed = {target: listed.get(key) for key, target in missing.items()}
                self._take_back(copied, failed, made, over=[*targets, *directories])
                raise
            self._move_all(targets, copied, inode, directories, lost)
        for below in descendants(inode) if inode else ():
            if below.is_directory:
                below.key = new_prefix + below.key.removeprefix(prefix)
        for clean in lost:
            if (self._view.visible(clean.key) or "").startswith(prefix):
                clean.key = self._there.target(clean.key, prefix, new_prefix)
        self._uploader.progressed()

    def _rows(
        self,
        directories: Iterable[str],
        targets: dict[str, str],
        listed: dict[str, ObjectInfo | None],
    ) -> Iterator[MoveRow]:
        """What is to be recorded; what has an object stands for more than a directory's name."""
        for directory in directories:
            yield MoveRow(directory, "", None)
        for key, target in targets.items():
            yield MoveRow(key, target, self.files.version(key, listed.get(key)))

    def _copy_again(self, arrived: _Copied, listed: _Copied, copied: _Copied) -> None:
        """Of what was copied, some was replaced by objects that were renamed."""
        for key in arrived.keys() & copied.keys():
            listed[key] = arrived[key]
            if not self.files.is_owed(key):
                del copied[key]
        arrived.clear()

    def _missing(self, targets: dict[str, str], copied: _Copied) -> dict[str, str]:
        return {
            key: target
            for key, target in targets.items()
            if key not in copied and not self.files.is_owed(key)
        }

    def _ending(self, targets: Iterable[str]) -> list[str]:
        """Directories of new keys whose end is still owed: until then nobody would see them."""
        above = {directory for key in targets for directory in directories_of("", key)}
        return [key for key in above if self._journal.overlay.get(key) is False]

    def _move_all(
        self,
        targets: dict[str, str],
        copied: _Copied,
        inode: Inode | None,
        directories: Iterable[str],
        lost: Iterable[Inode] = (),
    ) -> None:
        """All copies are confirmed: every key has its new name now, and its old one goes."""
        known = {i.key: i for i in descendants(inode) if not i.is_directory} if inode else {}
        owners = {i.debt: i for i in lost if i.debt}
        with self._journal.at_once():
            for key, new_key in targets.items():
                found = copied.get(key)
                if self.files.is_owed(key):
                    if found:
                        self._journal.drop(new_key)
                    there = Condition(etag=found.etag) if found else Condition(absent=True)
                    debt = self._journal.latest(key)
                    owner = (owners.get(debt) if debt else None) or known.get(key)
                    # Some have been moved by now: to go on is better than half a rename.
                    self.files.move_debt(key, new_key, there, owner, certain=True)
                elif found and self._journal.overlay.get(key) is False:  # removed meanwhile
                    self.files.owe_delete(new_key, Condition(etag=found.etag), certain=True)
                elif found:
                    self.files.moved_object(key, found, known.get(key))
            for directory in self._ending(targets.values()):
                self._journal.drop(directory)
            self._remove(directories)
            self._journal.moves.over.update([*targets, *directories])
        # Also what was removed there before: without its marker the directory would be seen again.
        below = (self._journal.overlay.keys_below(directory) for directory in directories)
        self.files.hurry([*directories, *(key for keys in below for key in keys)])

    def _remove(self, directories: Iterable[str]) -> None:
        for directory in sorted(directories, key=len, reverse=True):
            self.files.owe_delete(directory, UNCONDITIONAL, certain=True)

    def _take_back(
        self, copied: _Copied, failed: _Copied, directories: Iterable[str], over: Iterable[str]
    ) -> None:
        """It failed, and nothing has moved: the copies go, and the directories they made.

        ``failed``: by their new keys, what was to be copied, and perhaps was. The moves are
        ``over`` at the same moment: a life that goes on from here must not find half of it.
        """
        kept = {key for key in directories if self.files.is_owed(key)}
        copies = [info for info in copied.values() if info and not info.key.endswith("/")]
        with self._journal.at_once():
            for info in copies:
                if not self.files.is_owed(info.key):
                    self.files.owe_delete(info.key, Condition(etag=info.etag), certain=True)
            if copied:
                self._remove(set(directories) - kept)
            for target, source in failed.items():
                self.files.disown(target, source)
            self._journal.moves.over.update(over)
        self._uploader.wake()

    # --- after a death ------------------------------------------------------------------------

    async def resume(self) -> None:
        """Finish what former lives began; what others changed since stays as it is.

        Before anybody asks for names. What cannot be finished is left: see `Moves.give_up`.
        """
        try:
            await self._resume()
        except BaseException:  # also one that took too long
            self._journal.moves.give_up(self._journal.unsure)
            raise
        finally:
            self._journal.release_unmoved()
            self._uploader.progressed()

    async def _resume(self) -> None:
        left = self._journal.moves.left
        await look_at_ends(self.files, self._journal, [row for row in left if row.new_key])
        self._journal.release_ends()
        self._uploader.progressed()
        rows = [row for row in left if row.new_key and self._is_left(row)]
        if rows:
            log.info("A rename was cut off when its mount died: %d keys to go", len(rows))
        recorded = {row.key: row for row in rows}
        owed = {row.key for row in rows if self.files.is_owed(row.key)}  # and may be paid meanwhile

        async def copy(key: str, new_key: str) -> ObjectInfo | None:
            row = recorded[key]
            source, there = await self.files.current(key), await self.files.current(new_key)
            if source is None:
                return None
            if there is not None and there.etag != row.replaced_etag:
                # A copy, if it was made after what it would be a copy of.
                if not there.same_version(source) or there.modified_sec < source.modified_sec:
                    return None
                self._index.remember(there)  # the last life may have died before it could
                return there
            is_same = key in owed or row.etag in (None, source.etag)
            return await self.files.copy(key, new_key, source) if is_same else None

        async def met(key: str, new_key: str) -> ObjectInfo | None:
            """What a program wrote while it was copied comes upon the copy, or what was there."""
            row, there = recorded[key], await self.files.current(new_key)
            if there is None or there.etag == row.replaced_etag:
                return there
            source = await self.files.current(key)
            return there if source and there.same_version(source) else None

        copied: _Copied = {}
        targets = {row.key: row.new_key for row in rows}
        there = [*targets.values(), *self._ending(targets.values())]
        for debt in filter(None, map(self._journal.deletion_under_way, there)):
            if self._journal.waits_for_held(debt):  # for what we are to move: it was never begun
                debt.begun = False
        await self.files.deleted(there)
        with self._journal.holding([*targets, *there]):
            while missing := self._missing(targets, copied):
                await self._copy_all(missing, copy, copied)
            # Also what was owed when the rename began: it may have been paid then, and copied.
            written = {key: new for key, new in targets.items() if self.files.is_owed(key)}
            await self._copy_all(written, met, copied)
            self._move_all(targets, copied, None, [row.key for row in left if not row.new_key])
        self._journal.moves.end([row.key for row in left])
        left.clear()
        self._uploader.progressed()

    def _is_left(self, row: MoveRow) -> bool:
        """Whether neither a deletion of the old key nor any bytes under the new one are owed.

        A deletion of the new key is of what was there before: the copy, too, takes its place.
        Bytes owed under the new name of a single file are what it was renamed over.
        """
        old, new = self._journal.overlay.get(row.key), self._journal.overlay.get(row.new_key)
        return old is not False and (not new or row.replaced_etag is not None)

    # --- copies -------------------------------------------------------------------------------

    async def _copy_all(self, targets: dict[str, str], copy: _Copy, copied: _Copied) -> None:
        """Copy on the server, some at a time; ``None``: it was deleted elsewhere meanwhile.

        Directories' own objects come last. After a failure none is begun, and it is raised when
        all have ended.
        """
        for last in (False, True):
            keys = {k: new for k, new in targets.items() if k.endswith("/") is last}
            await self._copy_some(keys, copy, copied)

    async def _copy_some(self, targets: dict[str, str], copy: _Copy, copied: _Copied) -> None:
        failures: list[Exception] = []
        left = iter(targets.items())  # each is taken by the first who is free

        async def copy_one_by_one() -> None:
            for key, new_key in left:
                if failures:
                    return
                try:
                    await self.files.settle(new_key)
                    copied[key] = await copy(key, new_key)
                except NoSuchEntry:
                    copied[key] = None
                except Exception as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(COPIES_MAX):
                nursery.start_soon(copy_one_by_one)
        if failures:
            raise failures[0]
