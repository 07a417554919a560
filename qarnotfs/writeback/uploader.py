"""Pays the debts: sends staged bytes, new attributes and deletions to the bucket.

Used by the core (which wakes it and waits for single debts) and `session` (which runs
and drains it). It decides when and in which order; `sending` knows how one file is sent.
A debt is forgotten only after the bucket confirmed it. After an upload the new version is
posted in `index`, below; nothing here calls upwards.

Order: debts of one key are paid one after the other, a debt that names another in
``after`` waits for it, everything else goes in parallel. Deletions that are due go out
together, at most 1000 in one request.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import (
    Corrupt,
    FileError,
    NoSpace,
    NoSuchKey,
    NotUploaded,
    PreconditionFailed,
    QarnotfsError,
    Unavailable,
)
from qarnotfs.index.index import Index
from qarnotfs.store.base import DELETE_COUNT_MAX, ObjectInfo, Store
from qarnotfs.writeback.budget import Patience, may_get_room
from qarnotfs.writeback.debts import Debt, Kind, State
from qarnotfs.writeback.deleting import LATE_SEC, Deleted, delete
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.looks import Looks
from qarnotfs.writeback.plan import Agenda, Haste, backoff_sec
from qarnotfs.writeback.sending import Sender
from qarnotfs.writeback.staging import INLINE_BYTES_MAX
from qarnotfs.writeback.streaming import Streamer
from qarnotfs.writeback.tally import Totals, Transfer, transfers

log = logging.getLogger(__name__)

UPLOADS_MAX = 32  # at once; each holds one small file or a few parts in memory
DEFECT_SEC = 5.0
CORRUPT_MAX = 5  # tries of what arrives damaged, or meets yet another; then it is no accident

Adopt = Callable[[ObjectInfo, Path], Awaitable[None]]
"""``await adopt(version, file)``: a complete local file holds this version."""


class Uploader:
    """The task that pays the debts of one mount."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        journal: Journal,
        index: Index,
        sender: Sender,
        *,
        adopt: Adopt,
        delay_sec: float,
        dirty_bytes_max: int,
        patience_sec: float,
    ) -> None:
        self.totals = Totals()
        self.conflicts: list[str] = []
        self._store, self._bridge, self._journal, self._index = store, bridge, journal, index
        self.sender, self._adopt = sender, adopt
        self._delay_sec, self._patience_sec = delay_sec, patience_sec
        self._dirty_bytes_max = dirty_bytes_max
        self._deleting = False  # one batch at a time: a directory's marker goes after its files
        self._all_urgent = False  # while somebody waits for room or for the end
        self._draining = False  # while somebody waits for the end: also of what is still read
        self._is_full = False  # all slots were taken when the debts were last looked through
        self._looks = Looks()
        self.streamer = Streamer(journal, sender.multipart, paid_on=self._looks.ask)
        self._incurred_sec = 0.0
        self._slots = trio.CapacityLimiter(UPLOADS_MAX)
        self._progress = sender.multipart.progress  # `settle`, `room` and `drain` wait for it

    # --- for the core -------------------------------------------------------------------------

    def due_sec(self, debt: Debt | None = None) -> float:
        """When a debt that is incurred now should be paid: soon, but not before its rename."""
        self._incurred_sec = now_sec = trio.current_time()
        return now_sec + self._delay_sec * (debt.delays if debt else 1)

    def wake(self) -> None:
        """The journal has changed."""
        self._looks.hear()

    def written(self, debt: Debt, end: int) -> None:
        """A program wrote up to ``end`` of a file, or cut it there."""
        self._journal.recount(debt)
        self.streamer.written(debt, end)

    def transfers(self) -> list[Transfer]:
        """What is on its way to the bucket now."""
        return transfers(self._journal.all())

    async def settle(self, debt: Debt) -> None:
        """Pay this debt now and return when the bucket has it.

        `NotUploaded` when it refuses, or takes nothing at all for longer than is patient.
        Returns too, with ``debt.paid`` false, when it became another debt or a file that is
        being written: the caller looks again.
        """
        patience = Patience(self._progress, self._patience_sec)
        while self._journal.has(debt.id) and debt.state is not State.OPEN:
            self._journal.urge(debt)  # and what is before it by now
            self._looks.ask()
            if debt.state is State.FAILED:
                raise NotUploaded(debt.error or "The bucket refused the file.")
            if self._journal.waits_for_next_life(debt):
                raise NotUploaded("A rename that was cut off comes first, with the next mount.")
            stuck = self._journal.stuck_behind(debt)
            if stuck and (debt.kind is Kind.DELETE or stuck.state is State.FAILED):
                raise NotUploaded(f"{stuck.key!r} must be uploaded first, and cannot be now.")
            await patience.wait(stuck.key if stuck else None)

    async def room(self) -> None:
        """Return when so little is dirty that a program may write on (back-pressure).

        Debts are paid and open files are sent as far as they are complete. What can neither
        be paid nor sent is not waited for: the disk has the last word. What programs still read
        is not deleted for that: it would make no room.
        """
        if self._journal.bytes_dirty <= self._dirty_bytes_max:
            return
        while self._journal.bytes_dirty > self._dirty_bytes_max:
            if not self.streamer.press() and not may_get_room(self._journal):
                self._relax()
                if self._journal.bytes_failed > self._dirty_bytes_max:
                    raise NoSpace("The bucket refuses what is owed to it: no more is accepted.")
                return
            self._all_urgent = True
            self._looks.ask()
            await self._progress.wait()
        self._relax()

    def _relax(self) -> None:
        self._all_urgent = False
        self.streamer.relax()

    async def drain(self) -> bool:
        """Pay everything now; whether nothing is left (failed debts stay)."""
        while any(self._journal.payable(lingering=True)) or self.streamer.is_aborting():
            self._all_urgent = self._draining = True
            self._looks.ask()
            await self._progress.wait()
        self._all_urgent = self._draining = False
        return not self._journal.count

    def progressed(self) -> None:
        """Debts were taken away or let go: who waits for one looks again."""
        self._progress.tell()
        self._looks.hear()

    async def step(self) -> None:
        """Return when the next payment has ended, whichever it is."""
        await self._progress.wait()

    # --- the task -----------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pay debts as they fall due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.streamer.run)
            task_status.started()
            while True:
                self._looks.begin()
                next_sec = self._start_safely(nursery)
                await self._looks.wait(next_sec, self._journal.debt_count)

    def _start_safely(self, nursery: trio.Nursery) -> float:
        """A defect here must not take the mount, and what programs still write, with it."""
        try:
            return self._start_due(nursery)
        except Exception:
            log.exception("the debts could not be looked through")
            return trio.current_time() + DEFECT_SEC

    def _start_due(self, nursery: trio.Nursery) -> float:
        """Start what is due and has a free slot; when the next debt falls due."""
        agenda = Agenda(trio.current_time(), self._incurred_sec, self._delay_sec)
        free, deletions = int(self._slots.available_tokens), list[Debt]()
        for debt in self._journal.each() if free else ():  # who gives a slot back wakes us
            is_deletion = debt.kind is Kind.DELETE
            haste = Haste.DELETION if is_deletion else Haste.NONE
            if debt.urgent or self._all_urgent:
                haste = Haste.URGENT
            at_once = haste is Haste.URGENT and not debt.attempts
            if not at_once and not agenda.is_due(debt.not_before_sec, haste, UPLOADS_MAX - free):
                continue  # as most, of thousands: no more is asked of them
            if is_deletion and (self._deleting or len(deletions) == DELETE_COUNT_MAX):
                continue  # the end of a batch wakes us
            if not (free or is_deletion) or not self._payable(debt):
                continue
            if is_deletion:
                free -= not deletions  # the batch has its turn, too
                deletions.append(debt)
            else:
                self._start(nursery, self._pay, [debt])
                free -= 1
            if not free and len(deletions) in (0, DELETE_COUNT_MAX):
                break
        if deletions:
            self._deleting = True
            self._start(nursery, self._pay_deletions, deletions)
        self._is_full = not free
        return agenda.next_sec()

    def _start(
        self, nursery: trio.Nursery, pay: Callable[[list[Debt]], Awaitable[None]], debts: list[Debt]
    ) -> None:
        slot = object()
        self._slots.acquire_on_behalf_of_nowait(slot)
        for debt in debts:
            self._journal.begin(debt)

        async def pay_in_slot() -> None:
            try:
                await pay(debts)
            finally:
                self._slots.release_on_behalf_of(slot)
                self._progress.tell()
                self._looks.ask() if self._is_full else self._looks.hear_payment()

        nursery.start_soon(pay_in_slot)

    def _payable(self, debt: Debt) -> bool:
        makes_room = self._all_urgent and debt.kind is not Kind.DELETE
        urgent = debt.urgent or self._draining or makes_room
        ready = debt.state is State.QUEUED or (debt.state is State.HELD and urgent)
        return ready and self._journal.is_next(debt)

    # --- paying -------------------------------------------------------------------------------

    async def _pay(self, debts: list[Debt]) -> None:
        (debt,) = debts
        try:
            if debt.kind is Kind.META:
                await self._pay_attributes(debt)
            else:
                await self._pay_put(debt)
        except Unavailable as error:
            self._postpone(debt, error)
        except (Corrupt, PreconditionFailed) as error:
            if debt.attempts < CORRUPT_MAX:
                self._postpone(debt, error)
            else:
                self._fail(debt, error)
        except NotUploaded as error:
            self._fail(debt, error)
        except (FileError, OSError) as error:  # the disk here is full, or failing
            self._postpone(debt, error)
        except QarnotfsError as error:
            self._fail(debt, error)
        except Exception:
            log.exception("%s could not be uploaded and is kept", debt.key)
            self._journal.fail(debt, "An unexpected error; the log has it.")

    async def _pay_put(self, debt: Debt) -> None:
        if debt.staged and debt.seal and not (debt.staged.verified or debt.staged.small):
            if debt.dirty_bytes <= INLINE_BYTES_MAX:
                debt.staged.verify(debt.seal)
            else:
                await self._bridge.work(debt.staged.verify, debt.seal)
        attributes, sent = debt.attributes, await self.sender.send(debt)
        if sent.ours is None:
            return self._paid(debt, None)  # and the deletion behind it spares theirs
        if debt.staged and debt.staged.whole and sent.ours.size:
            await self._adopt(sent.ours, debt.staged.path)
        ours = await self.sender.with_newest(debt, sent.ours, attributes)
        # One synchronous stretch: the file changes from owed to believed in between nobody's steps.
        if sent.theirs:
            self.totals.conflicts += 1
            self.conflicts.append(ours.key)
            self._index.remember(sent.theirs)
        self._index.remember(ours)
        self._paid(debt, ours)
        debt.stored = ours
        self.totals.files += 1
        self.totals.bytes += debt.dirty_bytes

    async def _pay_attributes(self, debt: Debt) -> None:
        try:
            belief = self._index.believed(debt.key)
            known = belief.info if belief else None
            if known is None or "-" in known.etag:  # of parts: the copy may have another etag
                known = await self._bridge.wait(self._store.head(debt.key))
            info = await self.sender.describe(debt.key, debt.attributes, known)
        except NoSuchKey:
            log.warning("%s was deleted elsewhere before its attributes were stored", debt.key)
            return self._paid(debt, None)
        self._journal.copies.note(known, info)
        self._index.remember(info)
        self._paid(debt, info)

    async def _pay_deletions(self, batch: list[Debt]) -> None:
        try:
            long_ago_sec = trio.current_time() + self._delay_sec - LATE_SEC
            done = await delete(self._store, self._bridge, batch, long_ago_sec)
        except Exception as error:
            log.exception("a batch of deletions failed")
            done = Deleted(failed=dict.fromkeys((debt.key for debt in batch), error))
        try:
            self._deleted([debt for debt in batch if debt.key not in done.failed], done)
        except FileError as error:  # once more, then
            done.failed = {debt.key: error for debt in batch} | done.failed
        for debt in batch:
            error_of_key = done.failed.get(debt.key)
            if isinstance(error_of_key, (Unavailable, FileError)):
                self._postpone(debt, error_of_key)
            elif error_of_key is not None:
                self._fail(debt, error_of_key)
        self._deleting = False
        if len(batch) == DELETE_COUNT_MAX:  # there are more, surely
            self._looks.ask()

    def _deleted(self, debts: list[Debt], done: Deleted) -> None:
        done.tell(self._index, debts)
        self._journal.deleted(debts)
        self._progress.took()
        self.totals.deletions += len(debts) - len(done.spared)

    def _paid(self, debt: Debt, info: ObjectInfo | None) -> None:
        self._journal.paid(debt, info)
        self._progress.took()

    def _fail(self, debt: Debt, error: Exception) -> None:
        log.error("%s could not be uploaded and is kept: %s", debt.key, error)
        self._journal.fail(debt, str(error))

    def _postpone(self, debt: Debt, error: Exception) -> None:
        pause_sec = backoff_sec(debt.attempts, random.random())
        log.info("%s is tried again in %.1f s: %s", debt.key, pause_sec, error)
        self._journal.postpone(debt, trio.current_time() + pause_sec, str(error))
