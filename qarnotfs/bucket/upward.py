"""Local files into the bucket: only what differs, with as few bytes as can be.

Used by `Bucket.sync_files`, `sync_directory` and `add_directory`. `syncplan` decides; this
reads, hashes and sends. Small files go a few dozen at a time through one thread, large ones
a few at a time in parts. Nothing here follows a link or deletes outside of ``Sources.base``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, TypeVar

from qarnotfs.bucket import crowd, transfer
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.progress import Told
from qarnotfs.bucket.report import SyncReport
from qarnotfs.bucket.sources import Sources
from qarnotfs.bucket.workers import each
from qarnotfs.errors import QarnotfsError, Stale, StoreError
from qarnotfs.store.base import DELETE_COUNT_MAX, PART_BYTES_MAX, Copied, ObjectInfo, Store
from qarnotfs.syncplan import (
    PART_BYTES,
    Content,
    Copy,
    Plan,
    Question,
    plan,
    question,
    questions,
)

T = TypeVar("T")

LARGE_AT_ONCE = 4  # files that are sent, or copied, in parts
HASHING_THREADS = 4  # MD5 runs without the GIL
BATCHES_AT_ONCE = 4


def sync(store: Store, sources: Sources, manner: Manner) -> SyncReport:
    """Make the bucket under ``sources.base`` hold these files. Raises `SyncFailed`."""
    stored = dict(_listed(store, sources))
    wanted = _contents(sources, stored)
    steps = plan(wanted, stored, under=sources.base, delete=manner.delete, is_kept=sources.keeper())
    return _carry_out(store, sources, wanted, steps, manner)


def add(store: Store, sources: Sources, manner: Manner) -> SyncReport:
    """Store all these files, whatever is in the bucket. Raises `SyncFailed`."""
    wanted = {key: Content(size, None) for key, size in sources.sizes.items()}
    return _carry_out(store, sources, wanted, plan(wanted, {}), manner)


def _listed(store: Store, sources: Sources) -> Iterator[tuple[str, Content]]:
    """What is to be made equal, and anything else that a copy may be made of."""
    sizes = set(sources.sizes.values())
    for info in transfer.objects(store, ""):
        if info.key.startswith(sources.base) or info.size in sizes:
            yield info.key, Content(info.size, info.etag)


def _contents(sources: Sources, stored: Mapping[str, Content]) -> dict[str, Content]:
    """The files with their etags, where these decide something."""
    wanted = {key: Content(size, None) for key, size in sorted(sources.sizes.items())}

    def look(asked: tuple[str, Question]) -> None:
        key, asking = asked
        try:
            etag = asking.answer(sources.etag_of(key))
        except OSError as error:
            sources.tally.fail(key, error)
        else:
            wanted[key] = Content(asking.size, etag)

    each(look, questions(sources.sizes, stored).items(), HASHING_THREADS)
    return {key: content for key, content in wanted.items() if key not in sources.tally.failed}


def _carry_out(
    store: Store, sources: Sources, wanted: Mapping[str, Content], steps: Plan, manner: Manner
) -> SyncReport:
    tally = sources.tally
    tally.unchanged += steps.unchanged
    if manner.dry_run:
        tally.uploaded += steps.uploads
        tally.copied += [
            copy.target for wave in (*steps.copies, steps.late_copies) for copy in wave
        ]
        tally.deleted += steps.deletes
        tally.moved += [wanted[key].size for key in steps.uploads]
        return tally.report()
    with manner.told(sum(wanted[key].size for key in steps.uploads)) as told:
        _Run(store, sources, wanted, manner.say, told).run(steps)
    return tally.report()


class _Run:
    """Carries a plan out. What cannot be copied is uploaded: the local file has it all."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        wanted: Mapping[str, Content],
        say: Callable[[str], object],
        told: Told,
    ) -> None:
        self._store = store
        self._sources = sources
        self._tally = sources.tally
        self._wanted = wanted
        self._say = say
        self._told = told
        self._outage = crowd.Outage()

    def run(self, steps: Plan) -> None:
        not_copied = [copy.target for wave in steps.copies for copy in self._copy(wave)]
        self._upload([*not_copied, *steps.uploads])
        self._copy_late(steps.late_copies)
        deletes = self._spared(steps)
        batches = range(0, len(deletes), DELETE_COUNT_MAX)
        each(
            self._delete,
            [deletes[start : start + DELETE_COUNT_MAX] for start in batches],
            BATCHES_AT_ONCE,
        )

    def _spared(self, steps: Plan) -> list[str]:
        """What to delete: not what is still the only object with the bytes of a lost copy."""
        lost = {
            copy.source: copy.target
            for wave in steps.copies
            for copy in wave
            if copy.target in self._tally.failed
        }
        spared = [key for key in steps.deletes if key in lost]
        self._tally.skipped.update(
            (key, f"it is kept, for {lost[key]!r} could not be made of it") for key in spared
        )
        return [key for key in steps.deletes if key not in lost]

    # --- copies ------------------------------------------------------------------------------

    def _copy(self, copies: Sequence[Copy]) -> list[Copy]:
        """Copy on the server; return what did not become what was wanted."""
        failed: list[Copy] = []

        def fail(copy: Copy, _error: Exception) -> None:
            failed.append(copy)

        def check(copy: Copy, made: Copied | ObjectInfo) -> None:
            if self._is_wanted(copy.target, made.etag):
                self._tally.copied.append(copy.target)
            else:  # the source was replaced meanwhile
                failed.append(copy)

        def copy_large(copy: Copy) -> None:
            attributes = transfer.attributes_of(copy.target)
            try:
                check(copy, transfer.calling(partial(self._store.copy, *copy, attributes)))
            except StoreError as error:
                fail(copy, error)

        for copy in copies:
            self._say(f"Copy {copy.source} to {copy.target}")
        small, large = _parted(copies, lambda copy: self._size(copy.target) <= PART_BYTES_MAX)
        errands = (
            crowd.Errand(
                0,
                # What is stored beside the bytes is that of the file, not of the source.
                partial(self._store.copy_object, *copy, transfer.attributes_of(copy.target)),
                partial(check, copy),
                partial(fail, copy),
            )
            for copy in small
        )
        crowd.run(errands, self._outage)
        each(copy_large, large, LARGE_AT_ONCE)
        return failed

    def _copy_late(self, copies: Sequence[Copy]) -> None:
        """Copy what was uploaded. Where that failed, the name still holds something else."""
        uploaded = set(self._tally.uploaded)
        not_copied = self._copy([copy for copy in copies if copy.source in uploaded])
        orphans = [copy for copy in copies if copy.source not in uploaded]
        self._upload([copy.target for copy in (*not_copied, *orphans)])

    def _is_wanted(self, key: str, etag: str) -> bool:
        """Whether an object with this etag has the file's content, however it was put together."""
        if etag == self._wanted[key].etag:
            return True
        try:
            return question(self._size(key), etag).answer(self._sources.etag_of(key)) == etag
        except OSError:  # the upload that follows says why
            return False

    def _size(self, key: str) -> int:
        return self._wanted[key].size

    # --- uploads -----------------------------------------------------------------------------

    def _upload(self, keys: Sequence[str]) -> None:
        small, large = _parted(keys, lambda key: self._size(key) < PART_BYTES)
        crowd.run((errand for key in small for errand in self._errand(key)), self._outage)
        each(self._upload_large, large, LARGE_AT_ONCE)

    def _errand(self, key: str) -> Iterator[crowd.Errand[str]]:
        self._say(f"Upload: {self._sources.paths[key]} -> {key}")
        try:
            with self._sources.open(key) as file:
                body = _read(file)
            attributes = self._sources.attributes(key)
        except (OSError, Stale) as error:
            self._tally.fail(key, error)
            return
        yield crowd.Errand(
            len(body),
            partial(self._store.put, key, body, attributes),
            lambda _: self._sent(key, len(body)),
            partial(self._tally.fail, key),
        )

    def _sent(self, key: str, size: int) -> None:
        self._tally.uploaded.append(key)
        self._tally.moved.append(size)
        self._told(size, size, key)

    def _upload_large(self, key: str) -> None:
        if self._outage.error is not None:
            self._tally.fail(key, self._outage.error)
            return
        self._say(f"Upload: {self._sources.paths[key]} -> {key}")
        begun_sec = time.monotonic()
        try:
            with self._sources.open(key) as file:
                attributes = self._sources.attributes(key)
                sent = transfer.upload(self._store, file, key, self._told, attributes)
        except (OSError, QarnotfsError) as error:
            self._outage.feared(error, begun_sec)
            self._tally.fail(key, error)
        else:
            self._outage.over()
            self._tally.uploaded.append(key)
            self._tally.moved.append(sent)

    # --- deletions ---------------------------------------------------------------------------

    def _delete(self, keys: Sequence[str]) -> None:
        if self._outage.error is not None:
            self._tally.failed.update(dict.fromkeys(keys, str(self._outage.error)))
            return
        for key in keys:
            self._say(f"Remove: {key}")
        failed = transfer.delete(self._store, keys)
        for key, error in failed.items():
            self._tally.fail(key, error)
        self._tally.deleted += [key for key in keys if key not in failed]


def _read(file: IO[bytes]) -> bytes:
    """A small file; `Stale` when it changes meanwhile."""
    state = transfer.state_of(file)
    body = file.read(PART_BYTES)
    transfer.require_unchanged(file, state)
    if len(body) == PART_BYTES:
        raise Stale("It has grown since it was looked at.")
    return body


def _parted(items: Iterable[T], is_small: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    small: list[T] = []
    large: list[T] = []
    for item in items:
        (small if is_small(item) else large).append(item)
    return small, large
