"""Bytes of one file to the store and back, in parallel parts, with patience.

Used by `Bucket`. It holds a few parts in memory and never a whole file.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from mimetypes import guess_type
from typing import IO, TypeVar

from qarnotfs.bucket.progress import Told
from qarnotfs.errors import Stale, Unavailable
from qarnotfs.store.base import Attributes, Flight, ObjectInfo, Store
from qarnotfs.syncplan import PART_BYTES, part_bytes
from qarnotfs.writeback.plan import backoff_sec

T = TypeVar("T")

AHEAD_BYTES = 32 << 20  # parts of one file on their way; never less than one part
CALL_SEC = 60.0  # for one request, and what its bytes and its neighbours' take
BYTES_PER_SEC_MIN = 256 << 10  # slower than this a transfer is given up and tried again
TRIES = 5
HASH_BYTES = 1 << 20


# --- up ------------------------------------------------------------------------------------


def upload(store: Store, file: IO[bytes], key: str, told: Told) -> int:
    """Store what is left of ``file`` under ``key``: at once, or in parts from 8 MiB on.

    Returns the bytes sent. Of a pipe, whose size is not known, the progress tells what was
    sent so far. `Stale`: the file changed meanwhile; the object is then as it was before.
    """
    state, size = state_of(file), _left(file)
    part = part_bytes(size or 0)
    first = _read(file, part)
    if len(first) < part:
        require_unchanged(file, state)
        patiently(lambda: store.put(key, first, attributes_of(key)))
        told(len(first), len(first), key)
        return len(first)
    upload_id = calling(lambda: store.create_upload(key, attributes_of(key)))
    try:
        parts = enumerate(_parts(first, file, part), start=1)
        sends = (partial(store.upload_part, key, upload_id, number, data) for number, data in parts)
        sent, etags = 0, []
        for etag in in_order(sends, part):
            etags.append(etag)
            sent = min(sent + part, size or sent + part)
            told(sent, size or sent, key)
        require_unchanged(file, state)
        calling(lambda: store.complete_upload(key, upload_id, etags))
    except BaseException:
        store.abort_upload(key, upload_id)
        raise
    return sent


def attributes_of(key: str) -> Attributes:
    """What is stored beside the bytes: the type that the name speaks of."""
    return Attributes(content_type=guess_type(key)[0])


def state_of(file: IO[bytes]) -> tuple[int, int] | None:
    """Size and time of change of a regular file; ``None`` for what is none."""
    try:
        stat = os.fstat(file.fileno())
    except OSError:  # io.UnsupportedOperation, too
        return None
    return stat.st_size, stat.st_mtime_ns


def require_unchanged(file: IO[bytes], state: tuple[int, int] | None) -> None:
    """`Stale` when a file is not as it was: what was read may be neither old nor new."""
    if state_of(file) != state:
        raise Stale("It changed while it was read.")


def etag_of(path: str | os.PathLike[str], grid: int) -> str:
    """The etag of a local file sent in parts of ``grid`` bytes; 0: all at once."""
    with open(path, "rb") as file:
        if not grid:
            return hashlib.file_digest(file, _md5).hexdigest()
        digests = []
        while (digest := _part_digest(file, grid)) is not None:
            digests.append(digest)
    return f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def _part_digest(file: IO[bytes], grid: int) -> bytes | None:
    """The MD5 of the next ``grid`` bytes; ``None`` at the end."""
    digest, left = _md5(), grid
    while left and (piece := file.read(min(left, HASH_BYTES))):
        digest.update(piece)
        left -= len(piece)
    return digest.digest() if left < grid else None


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def _left(file: IO[bytes]) -> int | None:
    """How many bytes there are to the end; ``None`` for a pipe."""
    if not file.seekable():
        return None
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return size


def _parts(first: bytes, file: IO[bytes], size: int) -> Iterator[bytes]:
    part = first
    while part:
        yield part
        part = _read(file, size)


def _read(file: IO[bytes], count: int) -> bytes:
    """Exactly ``count`` bytes, or what there is to the end: a pipe gives less at a time."""
    pieces: list[bytes] = []
    while count and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


# --- down ----------------------------------------------------------------------------------


def download(store: Store, info: ObjectInfo, file: IO[bytes], told: Told) -> None:
    """Write this version of an object; `PreconditionFailed` when there is another by now."""
    told(0, info.size, info.key)
    read = 0
    for data in pieces(store, info):
        file.write(data)
        read += len(data)
        told(read, info.size, info.key)


def pieces(store: Store, info: ObjectInfo) -> Iterator[bytes]:
    """The bytes of this version in order, the next few parts on their way."""
    calls = (
        partial(store.get, info.key, start, min(PART_BYTES, info.size - start), etag=info.etag)
        for start in range(0, info.size, PART_BYTES)
    )
    for fetched in in_order(calls, PART_BYTES):
        yield fetched.data


# --- patience ------------------------------------------------------------------------------


def in_order(calls: Iterable[Callable[[], Flight[T]]], size: int) -> Iterator[T]:
    """The results of hot calls of ``size`` bytes each, a few of them under way."""
    flying: deque[tuple[Callable[[], Flight[T]], Flight[T]]] = deque()
    ahead = max(1, AHEAD_BYTES // size)
    try:
        for call in calls:
            flying.append((call, call()))
            if len(flying) >= ahead:
                yield _landed(*flying.popleft(), bytes_in_flight=AHEAD_BYTES + size)
        while flying:
            yield _landed(*flying.popleft(), bytes_in_flight=AHEAD_BYTES + size)
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
    return calling(lambda: _result(next(flights), limit_sec))


def _result(flight: Flight[T], limit_sec: float) -> T:
    try:
        return flight.result(timeout=limit_sec)
    except TimeoutError:
        raise Unavailable(f"The object store did not answer within {limit_sec:g} s.") from None
    finally:
        flight.abort()  # as also after Ctrl-C; what has landed does not mind


def calling(call: Callable[[], T]) -> T:
    """The result of a call that blocks, repeated a few times when that may help."""
    for attempt in range(TRIES - 1):
        try:
            return call()
        except Unavailable:
            time.sleep(backoff_sec(attempt, random.random()))
    return call()


# --- listings ------------------------------------------------------------------------------


def objects(store: Store, prefix: str) -> Iterator[ObjectInfo]:
    """Every object whose key starts with ``prefix``, in key order."""
    after = None
    while True:
        page = calling(partial(store.list_page, prefix, after=after))
        yield from page.objects
        after = page.next
        if after is None:
            return
