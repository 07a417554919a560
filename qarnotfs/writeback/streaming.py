"""Sends parts of large files while programs still write them, and aborts what was for nothing.

Used by `uploader`, which runs it and is told by the core of every write. A cell of the
file's grid is sent when it was written wholly and the writer is behind its end; the debt's
payment later takes the parts that are still right, and sends the rest. So nothing here must
succeed: failures are quiet. It takes only bytes of the budget that no payment waits for.

An upload that nobody needs (*stray*: its file was renamed, deleted, or became too small) is
aborted here. Until the server has answered that, nothing else of its key is paid: a request
to complete it that was given up could still be carried out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from qarnotfs.errors import NoSuchKey, QarnotfsError, Unavailable
from qarnotfs.writeback.debts import Debt, State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.multipart import Multipart
from qarnotfs.writeback.plan import PART_BYTES, Part, backoff_sec, full_cells, is_temporary
from qarnotfs.writeback.uploads import Upload

log = logging.getLogger(__name__)

DEFECT_SEC = 5.0
CELLS_MIN = 2  # with only one full cell the file may end here, and one PUT costs less


@dataclass(slots=True)
class _Writer:
    """How a file is being written: up to where, and what came of sending it."""

    end: int = 0
    attempts: int = 0
    not_before_sec: float = 0.0
    given_up: bool = False
    under_way: set[int] = field(default_factory=set)  # parts; 0: beginning the upload


class Streamer:
    """The task that sends early and aborts. ``paid_on``: called when a key may be paid again."""

    def __init__(
        self, journal: Journal, multipart: Multipart, *, paid_on: Callable[[], None]
    ) -> None:
        self._journal, self._multipart, self._paid_on = journal, multipart, paid_on
        self._budget, self._progress = multipart.budget, multipart.progress
        self._writers: dict[Debt, _Writer] = {}
        self._aborting: set[Upload] = set()
        self._pressed = False  # too much is dirty: every full cell counts, whatever the order

    # --- for the core and the uploader --------------------------------------------------------

    def written(self, debt: Debt, end: int) -> None:
        """A program wrote up to ``end``."""
        writer = self._writers.get(debt)
        if writer is None:
            if debt.size < PART_BYTES or is_temporary(debt.key):
                return
            writer = self._writers[debt] = _Writer()
        crossed = writer.end // PART_BYTES != end // PART_BYTES
        writer.end = end
        if crossed:
            self._progress.tell()

    def press(self) -> bool:
        """Send whatever is complete, to make room; whether that will make any."""
        if not self._pressed:
            self._pressed = True
            self._progress.tell()
        self._drop_others()
        return any(
            writer.under_way or (not writer.given_up and self._due(debt, writer))
            for debt, writer in self._writers.items()
        )

    def relax(self) -> None:
        """There is room again."""
        self._pressed = False

    def is_aborting(self) -> bool:
        """Whether uploads nobody needs are there, and it was not tried in vain to abort them."""
        return any(not upload.attempts for upload in self._journal.uploads.strays())

    # --- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Send and abort until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                next_sec = self._start_safely(nursery)
                with trio.move_on_at(next_sec):
                    await self._progress.wait()

    def _start_safely(self, nursery: trio.Nursery) -> float:
        """A defect here must not take the mount, and what programs still write, with it."""
        try:
            return min(self._start_streams(nursery), self._start_aborts(nursery))
        except Exception:
            log.exception("no parts could be sent early")
            return trio.current_time() + DEFECT_SEC

    def _start_streams(self, nursery: trio.Nursery) -> float:
        """Start what the budget allows; when to look again at the latest."""
        now_sec, next_sec = trio.current_time(), float("inf")
        self._drop_others()
        for debt, writer in self._writers.items():
            if writer.given_up:
                continue
            if writer.not_before_sec > now_sec:
                next_sec = min(next_sec, writer.not_before_sec)
                continue
            self._start_stream(nursery, debt, writer)
        return next_sec

    def _drop_others(self) -> None:
        """Only files that are open and owed are streamed."""
        for debt, writer in list(self._writers.items()):
            is_open = self._journal.has(debt.id) and debt.state is State.OPEN
            if not is_open and not writer.under_way:
                del self._writers[debt]

    def _start_stream(self, nursery: trio.Nursery, debt: Debt, writer: _Writer) -> None:
        due = self._due(debt, writer)
        if not due or 0 in writer.under_way:
            return
        upload = debt.upload
        if upload is None or not upload.serves(debt.key, debt.size):
            if len(due) >= CELLS_MIN or self._pressed:
                writer.under_way.add(0)
                nursery.start_soon(self._begin, debt, writer)
            return
        for number in due:
            if not self._budget.try_take(upload.part_bytes):
                return
            writer.under_way.add(number)
            nursery.start_soon(self._send, debt, writer, upload, number)

    def _due(self, debt: Debt, writer: _Writer) -> list[int]:
        """The numbers of the parts that may be sent now."""
        if debt.staged is None or debt.state is not State.OPEN or not self._journal.has(debt.id):
            return []
        upload = debt.upload
        cell = upload.part_bytes if upload else PART_BYTES
        end = debt.size if self._pressed else writer.end
        numbers = (cell_number + 1 for cell_number in full_cells(debt.staged.extents, cell, end))
        if upload is None:
            return list(numbers)
        skipped = upload.etags.keys() | writer.under_way
        if not self._pressed:
            skipped |= upload.restless
        return [number for number in numbers if number not in skipped]

    async def _begin(self, debt: Debt, writer: _Writer) -> None:
        try:
            async with self._quietly(debt, writer):
                await self._multipart.begin(debt, debt.key)
        finally:
            writer.under_way.discard(0)
            self._progress.tell()

    async def _send(self, debt: Debt, writer: _Writer, upload: Upload, number: int) -> None:
        part = Part((number - 1) * upload.part_bytes, number * upload.part_bytes, copied=False)
        try:
            if debt.upload is upload and debt.state is State.OPEN:  # else it is being paid
                async with self._quietly(debt, writer):
                    await self._multipart.send(debt, upload, number, part)
        finally:
            writer.under_way.discard(number)
            self._budget.give(upload.part_bytes)
            self._progress.tell()

    @asynccontextmanager
    async def _quietly(self, debt: Debt, writer: _Writer) -> AsyncIterator[None]:
        """What fails here is tried again when it is paid for, and said then."""
        try:
            yield
            writer.attempts = 0
        except Unavailable as error:
            pause_sec = backoff_sec(writer.attempts, random.random())
            log.info("%s is not sent early for %.1f s: %s", debt.key, pause_sec, error)
            writer.attempts += 1
            writer.not_before_sec = trio.current_time() + pause_sec
        except NoSuchKey:  # the server forgot the upload: it is begun anew
            self._journal.stray_upload(debt)
        except (QarnotfsError, OSError) as error:
            log.info("%s is not sent before it is closed: %s", debt.key, error)
            writer.given_up = True
        except Exception:
            log.exception("%s is not sent before it is closed", debt.key)
            writer.given_up = True

    # --- aborting -----------------------------------------------------------------------------

    def _start_aborts(self, nursery: trio.Nursery) -> float:
        now_sec, next_sec = trio.current_time(), float("inf")
        for upload in self._journal.uploads.strays():
            if upload in self._aborting:
                continue
            if upload.not_before_sec > now_sec:
                next_sec = min(next_sec, upload.not_before_sec)
                continue
            self._aborting.add(upload)
            nursery.start_soon(self._abort, upload)
        return next_sec

    async def _abort(self, upload: Upload) -> None:
        try:
            await self._multipart.abort(upload)
        except Unavailable:
            pause_sec = backoff_sec(upload.attempts, random.random())
            upload.attempts += 1
            upload.not_before_sec = trio.current_time() + pause_sec
        except QarnotfsError as error:
            log.warning("parts of %s stay in the bucket: %s", upload.key, error)
            self._journal.uploads.ended(upload)
        except Exception:
            log.exception("an upload of %s could not be aborted", upload.key)
            self._journal.uploads.ended(upload)
        else:
            self._journal.uploads.ended(upload)
        finally:
            self._aborting.discard(upload)
            self._progress.tell()
            self._paid_on()
