"""The bytes of one open file: reading, writing, and when they become a debt.

Used by `filesystem`, which owns names and attributes. A file that is only read has its
version (``inode.info``) and is read through the cache. The first write gives it a staged
file over that version and a debt; closing records the debt; the uploader pays it and
leaves the new version in ``debt.stored``, which is taken over at the next look.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import PatternCell
from qarnotfs.cache.reader import Reader
from qarnotfs.core.attributes import Posix
from qarnotfs.core.inodes import Inode
from qarnotfs.core.writable import QUICK_BYTES, Writable
from qarnotfs.errors import FileError, NotUploaded, Stale, StoreError, TooLarge
from qarnotfs.store.base import OBJECT_BYTES_MAX, ObjectInfo
from qarnotfs.writeback.debts import Debt, State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.plan import PART_BYTES
from qarnotfs.writeback.staging import Seal, Staged
from qarnotfs.writeback.uploader import Uploader


class Former(NamedTuple):
    """What an inode was before its file was cut or extended."""

    staged: Staged | None
    debt: Debt | None
    posix: Posix
    writers: int

    @classmethod
    def of(cls, inode: Inode) -> Former:
        return cls(inode.staged, inode.debt, inode.posix, inode.writers)


class Content(Writable):
    """Reads and writes the files of one mount. ``close_waits``: close uploads the file."""

    def __init__(
        self,
        bridge: Bridge,
        reader: Reader,
        journal: Journal,
        uploader: Uploader,
        *,
        close_waits: bool,
        now_ns: Callable[[], int],
    ) -> None:
        super().__init__(bridge, journal, uploader, now_ns)
        self._reader, self._close_waits = reader, close_waits

    # --- reading ------------------------------------------------------------------------------

    async def read(
        self, inode: Inode, offset: int, size: int, pattern: PatternCell | None
    ) -> bytes:
        """The file's bytes from ``offset``, fewer than ``size`` only at its end."""
        self.take_over(inode)
        if inode.staged is not None:
            with inode.staged.pinned() as staged:
                return await self._read_staged(inode, staged, offset, size)
        if inode.info is None:
            raise Stale("The file is no longer in the bucket.")
        if offset >= inode.info.size:
            return b""
        return await self._reader.read(inode.info, offset, size, pattern)

    async def _read_staged(self, inode: Inode, staged: Staged, offset: int, size: int) -> bytes:
        base = staged.base
        try:
            return await staged.read(offset, size, self.read_base)
        except Stale:
            if staged.base is base:  # else ours has arrived meanwhile
                if inode.debt is None:
                    raise
                with suppress(NotUploaded):
                    await self._uploader.sender.check_base(inode.debt)
        return await staged.read(offset, size, self.read_base)

    async def read_base(self, info: ObjectInfo, offset: int, size: int) -> bytes:
        """Bytes of the version a staged file builds upon, through the cache."""
        return await self._reader.read(info, offset, size, None)

    def needs_object(self, inode: Inode) -> bool:
        """Whether what is read of the file may have to be fetched."""
        return inode.info is not None and not (inode.staged and inode.staged.whole)

    # --- writing ------------------------------------------------------------------------------

    async def write(self, inode: Inode, offset: int, data: bytes) -> None:
        """Write all of ``data``, or raise. Waits while too much is owed to the bucket."""
        _check_size(offset + len(data))
        await self._uploader.room()
        staged = await self._writable(inode)
        try:
            staged.write(offset, data)
        finally:
            self._written(inode, offset + len(data))
        self._touched(inode)

    def _written(self, inode: Inode, end: int) -> None:
        if inode.debt is not None:
            self._uploader.written(inode.debt, end)

    async def truncate(self, inode: Inode, size: int) -> None:
        """Cut or extend the file; without a writer, the change is recorded at once."""
        _check_size(size)
        if size == inode.size and inode.staged is not None and inode.staged.sealed:
            return
        await self._gate_open(inode)
        self.take_over(inode)
        former, touched = Former.of(inode), inode.posix
        try:
            await self._truncate(inode, size)
            touched = inode.posix
            if not inode.writers:
                await self.release(inode)
        except BaseException:
            if inode.posix is touched:  # else somebody has changed it meanwhile
                self._undo(inode, former)
            raise

    async def _truncate(self, inode: Inode, size: int) -> None:
        if not size:
            self._begin_anew(inode)
        staged = await self._writable(inode)
        if inode.debt is not None:
            self._journal.truncating(inode.debt, size)
        staged.truncate(size)
        self._written(inode, size)
        self._touched(inode)

    def _undo(self, inode: Inode, former: Former) -> None:
        """The file is as it was, unless this is on record, or another program writes to it now."""
        debt = inode.debt
        if debt is None or debt is former.debt or debt.recorded or not self._journal.has(debt.id):
            return
        if inode.writers == former.writers:
            self._journal.undo(debt)
            inode.staged, inode.debt, inode.posix = former.staged, former.debt, former.posix
            inode.kernel_version = None  # somebody may have read it meanwhile
            self._uploader.progressed()

    async def create(self, inode: Inode) -> None:
        """A new, empty file: it is owed from now on, and seen, though nothing is recorded yet."""
        await self._writable(inode)

    def _touched(self, inode: Inode) -> None:
        at_ns = self._now_ns()
        inode.posix = inode.posix._replace(mtime_ns=at_ns, ctime_ns=at_ns, extra={})

    # --- closing ------------------------------------------------------------------------------

    async def commit(self, inode: Inode, *, completes: bool = True) -> None:
        """Put what was written on record: from here it survives the daemon (close)."""
        if completes and inode.staged is not None and inode.debt is not None:
            await self._complete(inode, inode.staged)
        while True:
            await self._gate_open(inode)
            self.take_over(inode)
            staged, debt = inode.staged, inode.debt
            if staged is None or debt is None:
                return
            if debt.state is State.FAILED:
                raise NotUploaded(debt.error or "The bucket refused this file.")
            if debt.state is not State.OPEN:
                return
            debt.attributes = self.attributes(inode)
            seal = await self._seal(inode, staged)
            if inode.debt is debt:  # else it was renamed, or deleted, while we read it
                return self._record(debt, staged, seal)

    async def _seal(self, inode: Inode, staged: Staged) -> Seal:
        if staged.sequential or staged.extents.total <= QUICK_BYTES:
            return staged.seal()
        async with self._closed_gate(inode):
            return await self._bridge.work(staged.seal)

    def _record(self, debt: Debt, staged: Staged, seal: Seal) -> None:
        try:
            self._journal.record(debt, seal)
        except FileError:
            staged.unseal()  # it stays open, and may be written and closed again
            raise

    async def _complete(self, inode: Inode, staged: Staged) -> None:
        """Fetch what a small file lacks of its base now: when it is sent, that may be gone.

        If it cannot be fetched, sending it will try again; with many gaps, nobody waits for each.
        """
        if staged.size >= PART_BYTES or staged.whole or staged.base is None:
            return
        for start, end in list(staged.extents.gaps(0, min(staged.size, staged.base_limit))):
            try:
                data = await self.read_base(staged.base, start, end - start)
            except (Stale, StoreError):
                return
            await self._gate_open(inode)
            if staged.sealed or inode.staged is not staged:
                return  # somebody else closed it meanwhile
            staged.fill(start, data)

    async def close(self, inode: Inode) -> None:
        """A file descriptor is closed: record, and with ``close_waits`` upload."""
        await self.commit(inode)
        if self._close_waits:
            await self.sync(inode)

    async def sync(self, inode: Inode) -> None:
        """Return when the bucket has the file (fsync), or raise `NotUploaded`."""
        while True:
            await self.commit(inode)
            debt = inode.debt or (None if inode.detached else self._journal.latest(inode.key))
            if debt is None or not debt.promised:
                break
            await self._uploader.settle(debt)
            is_gone = not (debt.paid or self._journal.has(debt.id))
            if is_gone if debt is inode.debt else debt.state is State.OPEN:
                break  # dropped; or another program's
            renamed = inode.debt not in (None, debt) and inode.staged is debt.staged
            if debt.paid and not renamed:
                break  # else its bytes are owed anew
        self.take_over(inode)

    async def release(self, inode: Inode, *, completes: bool = True) -> None:
        """Nobody writes to the file any more: what it holds may be sent."""
        try:
            with suppress(NotUploaded):  # it was said at close, and is in `status`
                await self.commit(inode, completes=completes)
            if inode.debt is not None:
                self._journal.release(inode.debt, self._uploader.due_sec(inode.debt))
                self._uploader.wake()
        finally:
            if inode.staged is not None and not inode.writers:
                inode.staged.close()


def _check_size(size: int) -> None:
    if size > OBJECT_BYTES_MAX:
        raise TooLarge("A file of more than 5 TiB cannot be an object.")
