"""How one file gets into the bucket: one PUT or a multipart upload, and its conflicts.

Used by `uploader`, for one debt at a time but for many at once. Of a debt it changes only
the multipart upload under way.

Every put says which version it replaces. Where the server cannot check that (as the
probe found out), a HEAD just before does, as well as it can. If somebody else changed the
object, ours is stored beside it. What is in the bucket already, because an earlier try
succeeded without our hearing of it, is recognised by its etag and is a success.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import Corrupt, NoSuchKey, NotUploaded, PreconditionFailed, Stale, StoreError
from qarnotfs.store.base import (
    UNCONDITIONAL,
    Capabilities,
    Condition,
    ObjectInfo,
    Store,
)
from qarnotfs.writeback.debts import Debt
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.plan import Part, parts
from qarnotfs.writeback.staging import ReadBase, Staged

PARTS_MAX = 4  # of one upload at once: 4 x 8 MiB in memory
BYTES_PER_SEC_MIN = 256 << 10  # slower than this a transfer is given up and tried again


@dataclass(frozen=True, slots=True)
class Sent:
    """The version that holds our bytes and, after a conflict, the one that has the name."""

    ours: ObjectInfo
    theirs: ObjectInfo | None = None


class Sender:
    """Sends files to one store. ``overwrite``: the last writer wins, conflicts are not kept."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        journal: Journal,
        read_base: ReadBase,
        capabilities: Callable[[], Capabilities],
        *,
        overwrite: bool,
    ) -> None:
        self._store, self._bridge, self._journal = store, bridge, journal
        self._read_base, self._capabilities = read_base, capabilities
        self._overwrite = overwrite
        self._parts = trio.CapacityLimiter(4 * PARTS_MAX)

    async def send(self, debt: Debt) -> Sent:
        """Store the debt's bytes under its key, or beside it when somebody else was there."""
        expected = UNCONDITIONAL if self._overwrite else debt.expected
        try:
            return Sent(await self._send_to(debt, debt.key, expected))
        except PreconditionFailed:
            theirs = await self._current(debt.key)
        if theirs is None:  # deleted elsewhere while we changed it: ours is all there is
            return Sent(await self._send_to(debt, debt.key, Condition(absent=True)))
        if debt.staged is None:  # a directory that somebody else made too
            return Sent(theirs)
        beside = conflict_key(debt.key, socket.gethostname(), time.time())
        return Sent(await self._send_to(debt, beside, Condition(absent=True)), theirs)

    async def _send_to(self, debt: Debt, key: str, expected: Condition) -> ObjectInfo:
        plan = parts(debt.staged.layers) if debt.staged else None
        if plan is None or debt.staged is None:
            info = await self._put(debt, key, expected)
        else:
            info = await self._multipart(debt, debt.staged, plan, key, expected)
        attributes = debt.attributes
        return replace(
            info, metadata=dict(attributes.metadata), content_type=attributes.content_type
        )

    # --- one request --------------------------------------------------------------------------

    async def _put(self, debt: Debt, key: str, expected: Condition) -> ObjectInfo:
        staged = debt.staged
        body = await self._content(staged, 0, staged.size) if staged else b""
        await self._check_by_head(key, expected, body)
        try:
            etag = await self._bridge.wait(
                self._store.put(key, body, debt.attributes, expected),
                timeout_sec=self._limit_sec(len(body)),
            )
        except PreconditionFailed:
            current = await self._current(key)
            if current is None or current.etag != _md5(body):
                raise
            return current  # an earlier try of ours, whose answer was lost
        # The answer does not say when; a second too many only costs a HEAD some day.
        return ObjectInfo(key, len(body), etag, int(time.time()))

    async def _check_by_head(self, key: str, expected: Condition, body: bytes) -> None:
        """The fallback for servers that ignore conditions; best effort, as a race remains."""
        able = self._capabilities()
        honoured = able.put_if_absent if expected.absent else able.put_if_match != "no"
        if honoured or expected == UNCONDITIONAL:
            return
        current = await self._current(key)
        if not _holds(expected, current) and not (current and current.etag == _md5(body)):
            raise PreconditionFailed(f"{key!r} was changed by somebody else.")

    # --- many requests ------------------------------------------------------------------------

    async def _multipart(
        self, debt: Debt, staged: Staged, plan: list[Part], key: str, expected: Condition
    ) -> ObjectInfo:
        await self._abort_leftover(debt)
        upload_id = await self._bridge.call(self._store.create_upload, key, debt.attributes)
        self._journal.note_upload(debt, (key, upload_id))
        try:
            etags = await self._send_parts(staged, plan, key, upload_id)
            whole = composite_etag(etags)
            there = await self._already_there(staged, key, expected, whole)
            if there:
                await self._abort_leftover(debt)
                return there
            with suppress(NoSuchKey):  # completed by a try whose answer was lost, or really gone
                await self._bridge.call(self._store.complete_upload, key, upload_id, etags)
            made = await self._completed(key, whole, staged.size)
            debt.upload = None  # its record goes with the debt
            return made
        except BaseException:
            with trio.CancelScope(shield=True), trio.move_on_after(5), suppress(StoreError):
                await self._abort_leftover(debt)
            raise

    async def _abort_leftover(self, debt: Debt) -> None:
        """Parts that no object was made of are paid for until somebody aborts their upload."""
        if debt.upload is not None:
            await self._bridge.call(self._store.abort_upload, *debt.upload)
            self._journal.note_upload(debt, None)

    async def _send_parts(
        self, staged: Staged, plan: list[Part], key: str, upload_id: str
    ) -> list[str]:
        etags = [""] * len(plan)

        async def send(index: int, part: Part) -> None:
            async with self._parts:
                etags[index] = await self._send_part(staged, part, key, upload_id, index + 1)

        failures: list[Exception] = []

        async def attempt(index: int, part: Part, nursery: trio.Nursery) -> None:
            try:
                await send(index, part)
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for index, part in enumerate(plan):
                nursery.start_soon(attempt, index, part, nursery)
        if failures:
            raise failures[0]
        return etags

    async def _send_part(
        self, staged: Staged, part: Part, key: str, upload_id: str, number: int
    ) -> str:
        size = part.end - part.start
        if part.copied and staged.base:
            source = staged.base
            return await self._bridge.call(
                self._store.copy_part, key, upload_id, number, source, part.start, size
            )
        body = await self._content(staged, part.start, size)
        return await self._bridge.wait(
            self._store.upload_part(key, upload_id, number, body),
            timeout_sec=self._limit_sec(size),
        )

    async def _already_there(
        self, staged: Staged, key: str, expected: Condition, whole: str
    ) -> ObjectInfo | None:
        """The last look before the parts become the object; servers ignore conditions here.

        Raises `PreconditionFailed` when somebody else's version has the name, and
        `NotUploaded` when parts may have been copied from a version that is not our base.
        """
        current = await self._current(key)
        if current and current.etag == whole and current.size == staged.size:
            return current
        if staged.base and staged.base_limit and list(staged.layers.extents) != [(0, staged.size)]:
            source = await self._current(staged.base.key)
            if not staged.base.same_version(source):
                raise NotUploaded(
                    f"{key!r} was replaced elsewhere while a part of it was changed here; "
                    "the changed part is kept."
                )
        if expected != UNCONDITIONAL and not _holds(expected, current):
            raise PreconditionFailed(f"{key!r} was changed by somebody else.")
        return None

    async def _completed(self, key: str, etag: str, size: int) -> ObjectInfo:
        """Complete answers before, or without, saying what it made: look."""
        found = await self._current(key)
        if found is None or (found.etag, found.size) != (etag, size):
            raise Corrupt(f"{key!r} is not in the bucket as it was sent.")
        return found

    # --- helpers ------------------------------------------------------------------------------

    async def _content(self, staged: Staged, start: int, size: int) -> bytes:
        try:
            body = await staged.read(start, size, self._read_base)
        except Stale as error:
            raise NotUploaded(
                "The object was replaced elsewhere while a part of it was changed here; "
                "the changed part is kept."
            ) from error
        if len(body) != size:
            raise Corrupt(f"The staged file {staged.path} ends too early.")
        return body

    async def _current(self, key: str) -> ObjectInfo | None:
        try:
            return await self._bridge.wait(self._store.head(key))
        except NoSuchKey:
            return None

    def _limit_sec(self, size: int) -> float:
        return self._bridge.timeout_sec + size / BYTES_PER_SEC_MIN


def conflict_key(key: str, host: str, now_sec: float) -> str:
    """Where ours goes when the name is taken: ``report.txt.conflict-host-20260131T235959``."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_sec))
    return f"{key}.conflict-{host}-{stamp}"


def composite_etag(etags: list[str]) -> str:
    """The etag S3 gives an object made of parts: MD5 of the parts' MD5s, and their number."""
    digest = hashlib.md5(b"".join(bytes.fromhex(etag) for etag in etags), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _holds(expected: Condition, current: ObjectInfo | None) -> bool:
    if expected.absent:
        return current is None
    return expected.etag is None or (current is not None and current.etag == expected.etag)
