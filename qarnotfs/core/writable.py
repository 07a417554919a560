"""Which staged file an open file is written to, and when it changes hands.

Used by `content`, which reads and writes the bytes. A program never writes to bytes that are
being sent: it gets a copy of them. What was closed stays until what takes its place is closed.

Between two awaits nothing else runs. Work on a staged file that takes long (copying it,
checksumming a file written in no order) is done off the loop behind ``_gates``: whoever
wants to change the file meanwhile waits until the gate opens.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.core import attributes
from qarnotfs.core.inodes import Inode
from qarnotfs.store.base import Attributes, Condition
from qarnotfs.writeback.debts import Debt, State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.staging import Staged
from qarnotfs.writeback.uploader import Uploader

log = logging.getLogger(__name__)

QUICK_BYTES = 8 << 20  # checksummed or copied on the loop: some 8 ms


class Writable:
    """The staged files of the open files of one mount, and what is owed for them."""

    def __init__(
        self, bridge: Bridge, journal: Journal, uploader: Uploader, now_ns: Callable[[], int]
    ) -> None:
        self._bridge, self._journal, self._uploader = bridge, journal, uploader
        self._now_ns = now_ns
        self._gates: dict[Inode, trio.Event] = {}  # set and removed by who closed the gate

    # --- changing hands -----------------------------------------------------------------------

    def take_over(self, inode: Inode) -> None:
        """If the staged bytes have arrived in the bucket, they are the file's version now."""
        debt = inode.debt
        if debt is None or debt.stored is None:
            return
        if inode.kernel_version is not None:
            inode.kernel_version = debt.stored.etag  # its pages are what we uploaded
        inode.info = inode.told = debt.stored  # the kernel knows their size: it sent them
        inode.key, inode.taken = debt.stored.key, False
        self.let_go(inode)

    def let_go(self, inode: Inode) -> None:
        """The inode needs its staged file no more. It is kept by its debt, if it has one."""
        if inode.staged is not None:
            inode.staged.close()
            if inode.detached and inode.debt is None:  # `displace` pinned it, or it is its own
                inode.staged.unpin()
        inode.staged = inode.debt = None

    def displace(self, inode: Inode) -> None:
        """The inode is about to lose its name, and what is owed for that: keep its open bytes."""
        self.take_over(inode)
        if inode.staged is not None:
            if inode.opens:
                self._journal.keep_base(inode.staged.pin())
            else:
                inode.staged = None
        inode.debt = None

    # --- for writing --------------------------------------------------------------------------

    async def _writable(self, inode: Inode) -> Staged:
        """The staged file to write to, which nobody is sending."""
        while True:
            await self._gate_open(inode)
            self.take_over(inode)
            staged, debt = inode.staged, inode.debt
            if staged is None:
                return self._stage(inode)
            sending = (
                debt is None or debt.state is State.PAYING or staged.shared or staged.sends > 0
            )
            if staged.sealed and sending:
                await self._replace_by_clone(inode, staged, debt)
                continue
            if debt is not None and debt.state is not State.OPEN:
                self._journal.reopen(debt)
                if debt.urgent:  # somebody waits for it: whoever does records it again
                    self._uploader.progressed()
            return staged

    def _stage(self, inode: Inode) -> Staged:
        staged = inode.staged = self._journal.staging.create(inode.info)
        # The kernel sees every write: if its pages are those of the base, they stay right.
        is_right = inode.info is None or inode.kernel_version == inode.info.etag
        inode.kernel_version = "staged" if is_right else None
        self._owe(inode, staged, None)
        return staged

    def _owe(self, inode: Inode, staged: Staged, own: Debt | None) -> None:
        """The file's bytes are owed from now on; ``own``: what was owed for it so far."""
        if inode.detached and not inode.replaced:
            return self._journal.keep_base(staged)
        key, latest = inode.key, self._journal.latest(inode.key)
        expected = Condition(etag=inode.info.etag) if inode.info else Condition(absent=True)
        others = latest if latest is not own else None
        if inode.detached and own and own.key != key:
            key, expected = own.key, Condition(absent=True)  # what is beside already goes on there
        elif inode.taken or (others and (inode.detached or others.staged)):
            now_sec = self._now_ns() / attributes.NS  # neither takes the other's place
            key, expected = self._journal.beside(key, now_sec), Condition(absent=True)
            log.warning("%s was replaced while it was open: stored as %s", inode.key, key)
            self._uploader.conflicts.append(key)
        inode.debt = self._journal.open(key, staged, self.attributes(inode), expected)

    async def _replace_by_clone(self, inode: Inode, staged: Staged, debt: Debt | None) -> None:
        """A program writes to bytes that are being sent: it gets a copy, they stay as they are."""
        async with self._closed_gate(inode):
            with staged.pinned():
                twin = await self._clone(staged)
                twin.base = staged.base  # of which we may have heard meanwhile
        debt = inode.debt or debt  # another one, if it was renamed: it owes its bytes again
        if debt is not None and debt.stored is not None:  # paid meanwhile: its base is gone
            twin.base = debt.stored if twin.base else None
            if inode.debt is debt:
                inode.info, inode.key = debt.stored, debt.stored.key
        self.let_go(inode)
        inode.staged = twin
        self._owe(inode, twin, debt)

    async def _clone(self, staged: Staged) -> Staged:
        if staged.extents.total <= QUICK_BYTES:
            return self._journal.staging.clone(staged)
        return await self._bridge.work(self._journal.staging.clone, staged)

    def _begin_anew(self, inode: Inode) -> None:
        """What was closed is kept, on disk, until what takes its place is closed too."""
        debt = inode.debt
        if inode.staged is None or debt is None or not debt.promised:
            return
        if not self._journal.has(debt.id):
            return
        inode.staged.close()
        inode.staged = self._journal.staging.create(None)
        self._owe(inode, inode.staged, debt)
        if debt.urgent:  # somebody waits for it: whoever does waits for the new one
            self._uploader.progressed()

    # --- attributes ---------------------------------------------------------------------------

    def attributes(self, inode: Inode) -> Attributes:
        """What is stored beside the file's bytes."""
        return Attributes(
            attributes.encode(inode.posix),
            attributes.content_type(inode.key, inode.posix.mode),
        )

    # --- gates --------------------------------------------------------------------------------

    async def _gate_open(self, inode: Inode) -> None:
        while (gate := self._gates.get(inode)) is not None:
            await gate.wait()

    @asynccontextmanager
    async def _closed_gate(self, inode: Inode) -> AsyncIterator[None]:
        gate = self._gates[inode] = trio.Event()
        try:
            yield
        finally:
            del self._gates[inode]
            gate.set()
