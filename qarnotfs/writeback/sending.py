"""How one file gets into the bucket: one PUT or a multipart upload, and its conflicts.

Used by `uploader`, for one debt at a time but for many at once. The parts that arrived are
kept through failures and crashes: a new try sends the rest.

Every put says which version it replaces. Where the server cannot check that (as the
probe found out), a HEAD just before does, as well as it can. If somebody else changed the
object, ours is stored beside it. What is in the bucket already, because an earlier try
succeeded without our hearing of it, is recognised by its etag and is a success.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from qarnotfs.bridge import Bridge
from qarnotfs.errors import (
    Corrupt,
    NoSuchKey,
    NotUploaded,
    PreconditionFailed,
    QarnotfsError,
    Unavailable,
)
from qarnotfs.store.base import (
    UNCONDITIONAL,
    Attributes,
    Capabilities,
    Condition,
    ObjectInfo,
    Store,
)
from qarnotfs.writeback.copying import copy, may_be_copy
from qarnotfs.writeback.debts import Debt, Kind, conflict_key
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.multipart import Multipart, md5, replaced_elsewhere
from qarnotfs.writeback.plan import Part, parts
from qarnotfs.writeback.staging import ReadBase, Staged
from qarnotfs.writeback.uploads import Upload

BESIDE_MAX = 100  # names for conflicts of one second; more is no accident


@dataclass(frozen=True, slots=True)
class Sent:
    """The version that holds our bytes, if any is to, and, after a conflict, what has the name.

    A multipart upload has the attributes it was begun with, which may be older.
    """

    ours: ObjectInfo | None
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
        self._capabilities, self._overwrite = capabilities, overwrite
        self.multipart = Multipart(store, bridge, journal, read_base)

    async def send(self, debt: Debt) -> Sent:
        """Store the debt's bytes under its key, or beside it when somebody else was there."""
        expected = debt.expected
        if self._overwrite and debt.staged and not debt.beside:  # see `look_at_ends`
            expected = UNCONDITIONAL
        try:
            return Sent(await self._send_to(debt, debt.key, expected))
        except PreconditionFailed:
            theirs = await self._current(debt.key)
            if theirs is not None and theirs.etag in debt.perhaps:  # older bytes of ours
                ours = Condition(etag=theirs.etag)
                return Sent(await self._send_to(debt, debt.key, ours))
        if theirs is None:  # deleted elsewhere while we changed it: ours is all there is
            return Sent(await self._send_to(debt, debt.key, Condition(absent=True)))
        younger = self._journal.behind(debt)
        if younger and younger.kind is Kind.DELETE:  # renamed or removed: nobody wants ours here
            return Sent(None, theirs)
        if debt.staged is None:  # a directory that somebody else made too
            return Sent(theirs)
        if younger and younger.kind is Kind.PUT and not debt.attempts:
            raise Unavailable("Younger bytes are stored beside instead.")
        return Sent(await self._send_beside(debt), theirs)

    async def with_newest(self, debt: Debt, stored: ObjectInfo, sent: Attributes) -> ObjectInfo:
        """Store attributes, too, that were changed while it was ``sent`` with others.

        An upload has those it was begun with, and a file of an earlier try, or a marker that was
        there already, its own.
        """
        copied = sent if debt.yields else None
        while True:
            wanted, younger = debt.attributes, self._journal.latest(debt.key)
            if stored.has(wanted) or wanted is copied:
                return stored
            if stored.key == debt.key and younger and younger is not debt and younger.recorded:
                return stored  # which brings its own
            try:
                described = await self.describe(stored.key, wanted, stored)
            except NoSuchKey:  # deleted elsewhere since
                return stored
            if not may_be_copy(described, stored):  # replaced elsewhere since
                return stored
            stored, copied = described, wanted

    async def describe(
        self, key: str, attributes: Attributes, known: ObjectInfo | None
    ) -> ObjectInfo:
        """Store attributes alone; ``known``: what was last heard of the object."""
        return await copy(self._store, self._bridge, key, key, attributes, known)

    async def _send_beside(self, debt: Debt) -> ObjectInfo:
        """Store it under a name of its own, which is the same one at each try."""
        if debt.upload and debt.upload.key != debt.key:
            debt.beside = debt.upload.key  # a try that did not get to its end
        for number in range(1, BESIDE_MAX):
            try:
                if not debt.beside:  # known to the next life, too, which finds what arrived
                    key = conflict_key(debt.key, time.time(), number)
                    self._journal.sends_beside(debt, key)
                return await self._send_to(debt, debt.beside, Condition(absent=True))
            except PreconditionFailed:  # another conflict of the same second has it
                debt.beside = ""
        raise NotUploaded(f"There are too many conflicts of {debt.key!r} already.")

    async def _send_to(self, debt: Debt, key: str, expected: Condition) -> ObjectInfo:
        plan = parts(debt.staged.layers) if debt.staged else None
        try:
            if plan is not None and debt.staged is not None:
                return await self._send_parts(debt, debt.staged, plan, key, expected)
            self._journal.stray_upload(debt)  # begun when the file was larger
            return await self._put(debt, key, expected)
        except NotUploaded:  # what it builds upon is gone
            await self.check_base(debt)
            raise Unavailable("An earlier try has arrived: the file builds upon that.") from None

    # --- one request --------------------------------------------------------------------------

    async def _put(self, debt: Debt, key: str, expected: Condition) -> ObjectInfo:
        staged = debt.staged
        size, attributes = staged.size if staged else 0, debt.attributes
        async with self.multipart.budget.taken(size):
            body = await self._body(debt)
            await self._check_by_head(key, expected, body)
            if key == debt.key:
                in_part = staged is not None and not staged.whole  # the next life has not the rest
                self._journal.perhaps_stored(debt, md5(body), recorded=in_part)
            try:
                etag = await self._bridge.wait(
                    self._store.put(key, body, attributes, expected),
                    timeout_sec=self.multipart.limit_sec(size),
                )
            except PreconditionFailed:
                current = await self._current(key)
                if current is None or current.etag != md5(body):
                    raise
                return current  # an earlier try of ours, whose answer was lost
        # The answer does not say when; a second too many only costs a HEAD some day.
        made = ObjectInfo(key, size, etag, int(time.time()))
        return made._replace(
            metadata=dict(attributes.metadata), content_type=attributes.content_type
        )

    async def _body(self, debt: Debt) -> bytes:
        staged = debt.staged
        if staged is None or not staged.size:
            return b""
        if debt.seal and staged.small and not staged.verified:
            return staged.checked(debt.seal)
        return await self.multipart.content(staged, 0, staged.size)

    async def _check_by_head(self, key: str, expected: Condition, body: bytes) -> None:
        """The fallback for servers that ignore conditions; best effort, as a race remains."""
        able = self._capabilities()
        honoured = able.put_if_absent if expected.absent else able.put_if_match != "no"
        if honoured or expected == UNCONDITIONAL:
            return
        current = await self._current(key)
        if not _holds(expected, current) and not (current and current.etag == md5(body)):
            raise PreconditionFailed(f"{key!r} was changed by somebody else.")

    # --- many requests ------------------------------------------------------------------------

    async def _send_parts(
        self, debt: Debt, staged: Staged, plan: list[Part], key: str, expected: Condition
    ) -> ObjectInfo:
        """Send what has not arrived yet, and make the object of it.

        A failure that may pass (`Unavailable`) leaves the upload as it is, to be gone on
        with. After any other one it is aborted: it would never become this object.
        """
        await self._check_early(debt, staged, plan, key, expected)
        try:
            upload = await self.multipart.begin(debt, key)
            if upload is None:
                raise Unavailable(f"{key!r} became another file.")
            return await self._complete(debt, staged, upload, plan, expected)
        except Unavailable:
            raise
        except NoSuchKey:
            self._journal.stray_upload(debt)
            raise Unavailable(
                f"The server lost the parts of {key!r}: they are sent anew."
            ) from None
        except QarnotfsError:
            self._journal.stray_upload(debt)
            raise

    async def _complete(
        self,
        debt: Debt,
        staged: Staged,
        upload: Upload,
        plan: list[Part],
        expected: Condition,
    ) -> ObjectInfo:
        key = upload.key
        etags = await self.multipart.send_all(debt, upload, plan)
        whole = composite_etag(etags)
        there = await self._already_there(debt, staged, key, expected, whole)
        if there:
            self._journal.stray_upload(debt)
            return there
        lost = False
        if key == debt.key:
            self._journal.perhaps_stored(debt, whole, recorded=True)
        try:
            await self._bridge.call(self._store.complete_upload, key, upload.id, etags)
        except NoSuchKey:  # completed by a try whose answer was lost, or really gone
            lost = True
        found = await self._current(key)
        if found is not None and (found.etag, found.size) == (whole, staged.size):
            return found
        if lost:
            raise NoSuchKey(f"There is no such multipart upload of {key!r}.")
        raise Corrupt(f"{key!r} is not in the bucket as it was sent.")

    async def _check_early(
        self, debt: Debt, staged: Staged, plan: list[Part], key: str, expected: Condition
    ) -> None:
        """A conflict that can be seen now is not worth sending the parts for."""
        current = await self._current(key)
        alike = current and current.size == staged.size and current.etag.endswith(f"-{len(plan)}")
        if current and alike and current.etag not in debt.perhaps:
            return  # perhaps ours, of a former life
        await self.check_base(debt)
        if not _holds(expected, current):
            raise PreconditionFailed(f"{key!r} was changed by somebody else.")

    async def check_base(self, debt: Debt) -> None:
        """`NotUploaded` where what was not changed here is no longer in the bucket.

        A try of ours may have arrived without our hearing of it: then it is the base. What
        is not changed here by now was not changed in it. Its file may have been renamed since.
        """
        staged = debt.staged
        base = staged.base if staged else None
        if staged is None or base is None or not staged.base_limit or staged.whole:
            return
        source = await self._current(base.key)
        if staged.base is not base:  # ours arrived while we asked
            return await self.check_base(debt)
        if source and source.etag in self._journal.perhaps_at(base.key, staged.lineage):
            if debt.upload and debt.upload.base_etag == base.etag:  # its copies are good still
                debt.upload.base_etag = source.etag
            self._journal.rebase(staged, source)  # what was changed since builds upon it, too
            staged.base = source
        elif not base.same_version(source):
            staged.gone = base
            raise replaced_elsewhere(base)

    async def _already_there(
        self, debt: Debt, staged: Staged, key: str, expected: Condition, whole: str
    ) -> ObjectInfo | None:
        """The last look before the parts become the object; servers ignore conditions here.

        Raises `PreconditionFailed` when somebody else's version has the name, and
        `NotUploaded` when parts may have been copied from a version that is not our base.
        """
        current = await self._current(key)
        if current and current.etag == whole and current.size == staged.size:
            return current
        await self.check_base(debt)
        if not _holds(expected, current):
            raise PreconditionFailed(f"{key!r} was changed by somebody else.")
        return None

    # --- helpers ------------------------------------------------------------------------------

    async def _current(self, key: str) -> ObjectInfo | None:
        try:
            return await self._bridge.wait(self._store.head(key))
        except NoSuchKey:
            return None


def composite_etag(etags: list[str]) -> str:
    """The etag S3 gives an object made of parts: MD5 of the parts' MD5s, and their number."""
    digest = hashlib.md5(b"".join(bytes.fromhex(etag) for etag in etags), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


def _holds(expected: Condition, current: ObjectInfo | None) -> bool:
    if expected.absent:
        return current is None
    return expected.etag is None or (current is not None and current.etag == expected.etag)
