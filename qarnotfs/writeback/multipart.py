"""The parts of one file, on their way to the bucket: sent, copied, proven, aborted.

Used by `sending`, which needs them all and completes the upload, and by `streaming`, which
sends some early. Both may want the same part: it is sent by one, and the other waits. What
arrived is noted as it arrives; what changed under way is dropped.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Corrupt, FileError, NotUploaded, PreconditionFailed, Stale, StoreError
from qarnotfs.store.base import ObjectInfo, Store
from qarnotfs.writeback.budget import Budget, Progress
from qarnotfs.writeback.debts import Debt
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.plan import Part, part_bytes
from qarnotfs.writeback.staging import INLINE_BYTES_MAX, ReadBase, Staged
from qarnotfs.writeback.uploads import Upload

BYTES_IN_FLIGHT_MAX = 96 << 20  # 12 parts of 8 MiB, or one that is larger
COPIES_MAX = 8  # on the server at once: half of the bridge's threads
ABORT_SEC = 5.0  # to clean up behind a full disk
BYTES_PER_SEC_MIN = 256 << 10  # slower than this a transfer is given up and tried again


@dataclass(slots=True)
class _Flight:
    landed: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Multipart:
    """Sends parts to one store, for many uploads at once."""

    def __init__(self, store: Store, bridge: Bridge, journal: Journal, read_base: ReadBase) -> None:
        self.budget = Budget(BYTES_IN_FLIGHT_MAX)
        self.progress = Progress()  # a part arrived, or a debt was paid, failed or taken away
        self._store, self._bridge, self._journal = store, bridge, journal
        self._read_base = read_base
        self._copies = trio.CapacityLimiter(COPIES_MAX)
        self._beginning: dict[Debt, trio.Event] = {}  # set and removed by who begins an upload
        self._flights: dict[tuple[str, int], _Flight] = {}  # by (upload, part), see `send`

    # --- uploads ------------------------------------------------------------------------------

    async def begin(self, debt: Debt, key: str) -> Upload | None:
        """The debt's upload to ``key``, a new one where it has none that serves.

        ``None`` when the debt was taken away meanwhile.
        """
        assert debt.staged is not None
        while (beginning := self._beginning.get(debt)) is not None:
            await beginning.wait()
        if debt.upload and debt.upload.serves(key, debt.staged.size):
            return debt.upload
        self._journal.stray_upload(debt)
        self._beginning[debt] = trio.Event()
        try:
            return await self._begin(debt, debt.staged, key)
        finally:
            self._beginning.pop(debt).set()

    async def _begin(self, debt: Debt, staged: Staged, key: str) -> Upload | None:
        upload_id = await self._bridge.call(self._store.create_upload, key, debt.attributes)
        base_etag = staged.base.etag if staged.base else None
        upload = Upload(upload_id, key, staged.path.name, part_bytes(staged.size), base_etag)
        try:
            self._journal.uploads.begin(upload)
        except FileError:  # of what is not on record nobody would ever abort the parts
            with trio.move_on_after(ABORT_SEC, shield=True), suppress(StoreError):
                await self._bridge.call(self._store.abort_upload, key, upload_id)
            raise
        if not self._journal.has(debt.id) or debt.staged is not staged:
            return None
        self._journal.take_upload(debt, upload)
        return upload

    async def abort(self, upload: Upload) -> None:
        """End an upload that nobody needs, and what is under way for it."""
        for (upload_id, _), flight in list(self._flights.items()):
            if upload_id == upload.id:
                flight.scope.cancel()
                await flight.landed.wait()
        await self._bridge.call(self._store.abort_upload, upload.key, upload.id)

    # --- parts --------------------------------------------------------------------------------

    async def send_all(self, debt: Debt, upload: Upload, plan: list[Part]) -> list[str]:
        """Send the parts that have not arrived yet; the etags of all.

        After a failure no more are begun, but those under way may arrive: they count.
        """
        failures: list[Exception] = []

        async def attempt(number: int, part: Part, size: int) -> None:
            try:
                await self.send(debt, upload, number, part)
            except Exception as error:
                failures.append(error)
            finally:
                self.budget.give(size)

        async with trio.open_nursery() as nursery:
            for number in _missing(upload, plan):
                if (flight := self._flights.get((upload.id, number))) is not None:
                    await flight.landed.wait()  # streaming sends it
                part = plan[number - 1]
                size = 0 if part.copied else part.end - part.start
                await self.budget.take(size)
                if failures:
                    self.budget.give(size)
                    break
                if number in upload.etags:
                    self.budget.give(size)
                else:
                    nursery.start_soon(attempt, number, part, size)
        while failures:  # a list of errors whose frames have it would keep what was sent
            first = failures[0]
            failures.clear()
            try:
                raise first
            finally:
                del first
        return [upload.etags[number] for number in range(1, len(plan) + 1)]

    async def send(self, debt: Debt, upload: Upload, number: int, part: Part) -> None:
        """Send one part, unless somebody else does, within bytes the caller holds."""
        assert debt.staged is not None
        while (other := self._flights.get((upload.id, number))) is not None:
            await other.landed.wait()
        if number in upload.etags:
            return
        flight = self._flights[upload.id, number] = _Flight()
        upload.take_off(number)
        try:
            with ExitStack() as stack:
                stack.enter_context(debt.staged.pinned())
                stack.enter_context(flight.scope)
                try:
                    etag = await self._carry(debt.staged, upload, number, part)
                except Corrupt:
                    if not upload.is_spoilt(number):  # else it was cut while it was read
                        raise
                    return
                # One synchronous stretch: what arrived is what the file has now, or nothing.
                if not upload.is_spoilt(number):
                    self._note(debt, upload, number, part, etag)
        finally:
            upload.land(number)
            del self._flights[upload.id, number]
            flight.landed.set()
            self.progress.tell()

    def _note(self, debt: Debt, upload: Upload, number: int, part: Part, etag: str) -> None:
        assert debt.staged is not None
        written = debt.staged.extents.within(part.start, part.end)
        upload.arrived(number, etag, sum(high - low for low, high in written))
        self._journal.uploads.note_part(upload, number, copied=part.copied)
        self._journal.recount(debt)
        self.progress.took()

    async def _carry(self, staged: Staged, upload: Upload, number: int, part: Part) -> str:
        claim = upload.claims.get(number)
        if part.copied and staged.base:
            is_uncut = part.end % upload.part_bytes == 0 or part.end == staged.base.size
            if claim and claim.copied and upload.base_etag == staged.base.etag and is_uncut:
                return claim.etag
            return await self._copy(staged.base, upload, number, part)
        size = part.end - part.start
        body = await self.content(staged, part.start, size)
        if claim and await self._bridge.work(md5, body) == claim.etag:
            return claim.etag
        return await self._bridge.wait(
            self._store.upload_part(upload.key, upload.id, number, body),
            timeout_sec=self.limit_sec(size),
        )

    async def _copy(self, base: ObjectInfo, upload: Upload, number: int, part: Part) -> str:
        span = part.start, part.end - part.start
        try:
            async with self._copies:
                return await self._bridge.call(
                    self._store.copy_part, upload.key, upload.id, number, base, *span
                )
        except PreconditionFailed as error:
            raise replaced_elsewhere(base) from error

    # --- bytes --------------------------------------------------------------------------------

    async def content(self, staged: Staged, start: int, size: int) -> bytes:
        """Exactly these bytes of the file, or `Corrupt`; `NotUploaded` where the base is gone."""
        if list(staged.extents.within(start, start + size)) == [(start, start + size)]:
            body = await self._read(staged, start, start + size)
        else:
            body = await self._mixed(staged, start, size)
        if len(body) != size:
            raise Corrupt(f"The staged file {staged.path} ends too early.")
        return body

    async def _read(self, staged: Staged, start: int, end: int) -> bytes:
        if end - start <= INLINE_BYTES_MAX:
            return staged.read_apart(start, end)
        return await self._bridge.work(staged.read_apart, start, end)

    async def _mixed(self, staged: Staged, start: int, size: int) -> bytes:
        try:
            return await staged.read(start, size, self._read_base)
        except Stale as error:
            raise replaced_elsewhere(staged.base) from error

    def limit_sec(self, size: int) -> float:
        """How long a transfer of ``size`` bytes may take."""
        return self._bridge.timeout_sec + size / BYTES_PER_SEC_MIN


def replaced_elsewhere(base: ObjectInfo | None) -> NotUploaded:
    """What was changed here cannot be put together with the rest any more."""
    name = repr(base.key) if base else "The object"
    return NotUploaded(
        f"{name} was replaced elsewhere while a part of it was changed here; "
        "the changed part is kept."
    )


def md5(body: bytes) -> str:
    """As an etag has it."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _missing(upload: Upload, plan: list[Part]) -> list[int]:
    """The parts that have not arrived, those that somebody is sending already last."""
    missing = [number for number in range(1, len(plan) + 1) if number not in upload.etags]
    return sorted(missing, key=upload.is_flying)
