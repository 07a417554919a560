"""Bytes of one file to the store and back, in parallel parts, with patience.

Used by `Bucket`. It holds a few parts in memory and never a whole file.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from mimetypes import guess_type
from stat import S_ISREG
from typing import IO, TypeVar

from qarnotfs.bucket import workers
from qarnotfs.bucket.progress import Told
from qarnotfs.errors import Stale, StoreError, Unavailable
from qarnotfs.store.base import Attributes, Fetched, Flight, ObjectInfo, Store
from qarnotfs.syncplan import PART_BYTES, part_bytes
from qarnotfs.writeback.plan import backoff_sec

T = TypeVar("T")

AHEAD_BYTES = 32 << 20  # parts of one file on their way; never less than one part
CALL_SEC = 60.0  # for one request, and what its bytes and its neighbours' take
BYTES_PER_SEC_MIN = 256 << 10  # slower than this a transfer is given up and tried again
TRIES = 5
ABORT_SEC_MAX = 3.0
HASH_BYTES = 1 << 20


# --- up ------------------------------------------------------------------------------------


def upload(
    store: Store, file: IO[bytes], key: str, told: Told, attributes: Attributes | None = None
) -> int:
    """Store what is left of ``file`` under ``key``: at once, or in parts from 8 MiB on.

    Returns the bytes sent. Of a pipe, whose size is not known, the progress tells what was
    sent so far. `Stale`: the file changed meanwhile; the object is then as it was before.
    """
    attributes = attributes or attributes_of(key)
    state, size = state_of(file), _left(file)
    part = part_bytes(size or 0)
    first = _read(file, part)
    if len(first) < part:
        require_unchanged(file, state)
        patiently(lambda: store.put(key, first, attributes))
        told(len(first), len(first), key)
        return len(first)
    upload_id = calling(lambda: store.create_upload(key, attributes))
    try:
        etags, sent = [], 0
        parts = _parts(first, file, part, grows=size is None)
        for etag, count in _send_parts(store, key, upload_id, parts):
            etags.append(etag)
            sent += count
            told(sent, size or sent, key)
        require_unchanged(file, state)
        calling(lambda: store.complete_upload(key, upload_id, etags))
    except BaseException:
        _forget(store, key, upload_id)
        raise
    return sent


def _send_parts(
    store: Store, key: str, upload_id: str, parts: Iterator[bytes]
) -> Iterator[tuple[str, int]]:
    """Etag and size in bytes of each part, once it has arrived."""
    sizes: list[int] = []

    def sends() -> Iterator[tuple[int, Callable[[], Flight[str]]]]:
        for number, data in enumerate(parts, start=1):
            sizes.append(len(data))
            yield len(data), partial(store.upload_part, key, upload_id, number, data)

    for number, etag in enumerate(in_order(sends())):
        yield etag, sizes[number]


def _forget(store: Store, key: str, upload_id: str) -> None:
    """Abort an upload; a server that hangs is waited for no longer than a moment."""

    def abort() -> None:
        with suppress(StoreError):  # the parts stay; what made us give up says more
            store.abort_upload(key, upload_id)

    aborting = threading.Thread(target=abort, name="qarnotfs-bucket-abort", daemon=True)
    aborting.start()
    aborting.join(ABORT_SEC_MAX)


def attributes_of(key: str) -> Attributes:
    """What is stored beside the bytes: the type that the name speaks of."""
    return Attributes(content_type=guess_type(key)[0])


def state_of(file: IO[bytes]) -> tuple[int, int] | None:
    """Size and time of change of a regular file; ``None`` for what is none."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, AttributeError):  # io.UnsupportedOperation, too
        return None
    return (found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else None


def require_unchanged(file: IO[bytes], state: tuple[int, int] | None) -> None:
    """`Stale` when a file is not as it was: what was read may be neither old nor new."""
    if state_of(file) != state:
        raise Stale("It changed while it was read.")


def etag_of(opened: Callable[[], IO[bytes]], grid: int) -> str:
    """The etag of a local file sent in parts of ``grid`` bytes; 0: all at once."""
    with opened() as file:
        if not grid:
            return _digest(file, sys.maxsize)[0].hex()
        digests: list[bytes] = []
        while (digest := _digest(file, grid))[1]:
            digests.append(digest[0])
    return f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def _digest(file: IO[bytes], count: int) -> tuple[bytes, int]:
    """The MD5 of the next ``count`` bytes, and how many there were."""
    digest, left = _md5(), count
    while left and (piece := file.read(min(left, HASH_BYTES))):
        workers.go_on()
        digest.update(piece)
        left -= len(piece)
    return digest.digest(), count - left


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def _left(file: IO[bytes]) -> int | None:
    """How many bytes there are to the end; ``None`` for a pipe, or less than a file."""
    if not (hasattr(file, "seekable") and file.seekable()):
        return None
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return size


def _parts(first: bytes, file: IO[bytes], size: int, *, grows: bool) -> Iterator[bytes]:
    """``grows``: nobody knows where the file ends, and there are no more than 10,000 parts."""
    part, number = first, 1
    while part:
        yield part
        number += 1
        part = _read(file, grown(size, number) if grows else size)


def grown(size: int, number: int) -> int:
    """The size of a part, so that half a TiB fits. The first 39 GiB are cut as the SDK does it."""
    return size << max(0, number // 1000 - 4)


def _read(file: IO[bytes], count: int) -> bytes:
    """Exactly ``count`` bytes, or what there is to the end: a pipe gives less at a time."""
    pieces: list[bytes] = []
    while count and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


# --- down ----------------------------------------------------------------------------------


def download(store: Store, info: ObjectInfo, file: IO[bytes], told: Told) -> ObjectInfo:
    """Write this version of an object; `PreconditionFailed` when there is another by now.

    Returns it with its metadata, as far as the bytes brought it along.
    """
    if not info.size:
        told(0, 0, info.key)
    read, version = 0, info
    for fetched in _fetched(store, info):
        file.write(fetched.data)
        read, version = read + len(fetched.data), fetched.info
        told(read, info.size, info.key)
    return version


def pieces(store: Store, info: ObjectInfo) -> Iterator[bytes]:
    """The bytes of this version in order, the next few parts on their way."""
    for fetched in _fetched(store, info):
        yield fetched.data


def _fetched(store: Store, info: ObjectInfo) -> Iterator[Fetched]:
    spans = (
        (start, min(PART_BYTES, info.size - start)) for start in range(0, info.size, PART_BYTES)
    )
    calls = ((span[1], partial(store.get, info.key, *span, etag=info.etag)) for span in spans)
    yield from in_order(calls)


# --- patience ------------------------------------------------------------------------------


def in_order(calls: Iterable[tuple[int, Callable[[], Flight[T]]]]) -> Iterator[T]:
    """The results of hot calls, each with the bytes it moves; a few of them are under way."""
    flying: deque[tuple[Callable[[], Flight[T]], Flight[T]]] = deque()
    largest = 0
    try:
        for size, call in calls:
            largest = max(largest, size)
            flying.append((call, call()))
            while len(flying) * largest >= AHEAD_BYTES:
                yield _landed(*flying.popleft(), bytes_in_flight=AHEAD_BYTES + largest)
        while flying:
            yield _landed(*flying.popleft(), bytes_in_flight=AHEAD_BYTES + largest)
    finally:
        for _, flight in flying:
            flight.abort()


def patiently(send: Callable[[], Flight[T]]) -> T:
    """The result of a hot call, repeated a few times when that may help."""
    return _landed(send, send(), PART_BYTES)


def _landed(send: Callable[[], Flight[T]], flight: Flight[T], bytes_in_flight: int) -> T:
    """The result of ``flight``, or of another that ``send`` starts."""
    limit_sec = CALL_SEC + bytes_in_flight / BYTES_PER_SEC_MIN
    flights = chain([flight], (send() for _ in range(TRIES - 1)))
    try:
        return calling(lambda: _result(next(flights), limit_sec))
    finally:
        flight.abort()  # we may have been stopped before we looked; what landed does not mind


def _result(flight: Flight[T], limit_sec: float) -> T:
    try:
        with workers.stop().watching(flight):
            return flight.result(timeout=limit_sec)
    except TimeoutError:
        raise Unavailable(f"The object store did not answer within {limit_sec:g} s.") from None
    finally:
        flight.abort()  # as also after Ctrl-C


def calling(call: Callable[[], T]) -> T:
    """The result of a call that blocks, repeated a few times when that may help."""
    for attempt in range(TRIES - 1):
        workers.go_on()
        try:
            return call()
        except Unavailable:
            workers.pause(backoff_sec(attempt, random.random()))
    return call()


# --- listings and deletions ------------------------------------------------------------------


def delete(store: Store, keys: Sequence[str]) -> dict[str, Exception]:
    """Delete at most 1000 keys; what failed, and did so again where that might have helped."""
    failed: dict[str, Exception] = {}
    left = keys

    def attempt() -> None:
        nonlocal left
        errors = store.delete(left)
        left = [key for key, error in errors.items() if isinstance(error, Unavailable)]
        failed.update((key, error) for key, error in errors.items() if key not in left)
        if left:
            raise errors[left[0]]

    try:
        calling(attempt)
    except StoreError as error:
        failed.update(dict.fromkeys(left, error))
    return failed


def objects(store: Store, prefix: str) -> Iterator[ObjectInfo]:
    """Every object whose key starts with ``prefix``, in key order."""
    after = None
    while True:
        page = calling(partial(store.list_page, prefix, after=after))
        yield from page.objects
        after = page.next
        if after is None:
            return
