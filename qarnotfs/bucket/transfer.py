"""Bytes of one file to the store and back, in parallel parts, with patience.

Used by `Bucket`. It holds a few parts in memory and never a whole file.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from mimetypes import guess_type
from pathlib import Path
from typing import IO, TypeVar

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import PART_COUNT_MAX, Attributes, Flight, ObjectInfo, Store
from qarnotfs.writeback.plan import backoff_sec

T = TypeVar("T")
Progress = Callable[[int, int, str], object]  # (bytes so far, bytes in all, key)

PART_BYTES = 8 << 20  # the SDK's: its etags depend on it, and its synchronisation on them
PARTS_IN_FLIGHT = 4
CALL_SEC = 60.0  # for one request
TRIES = 5


def upload(store: Store, file: IO[bytes], key: str) -> None:
    """Store what is left of ``file`` under ``key``: at once, or in parts from 8 MiB on."""
    attributes = Attributes(content_type=guess_type(key)[0])
    part_bytes = _part_bytes(file)
    first = _read(file, part_bytes)
    if len(first) < part_bytes:
        patiently(lambda: store.put(key, first, attributes))
        return
    upload_id = store.create_upload(key, attributes)
    try:
        sends = (
            partial(patiently, partial(store.upload_part, key, upload_id, number, part))
            for number, part in enumerate(_parts(first, file, part_bytes), start=1)
        )
        store.complete_upload(key, upload_id, list(_in_order(sends)))
    except BaseException:
        store.abort_upload(key, upload_id)
        raise


def download(store: Store, key: str, target: Path, progress: Progress | None) -> None:
    """Write one version of an object to ``target``, which appears whole or not at all."""
    info = patiently(lambda: store.head(key))
    unfinished = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            for data in _in_order(_ranges(store, info)):
                file.write(data)
                if progress is not None:
                    progress(file.tell(), info.size, key)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def patiently(send: Callable[[], Flight[T]]) -> T:
    """The result of a request, repeated a few times when that may help."""
    for attempt in range(TRIES):
        flight = send()
        try:
            return flight.result(timeout=CALL_SEC)
        except TimeoutError:
            flight.abort()
            error = Unavailable(f"The object store did not answer within {CALL_SEC:g} s.")
        except Unavailable as unavailable:
            error = unavailable
        time.sleep(backoff_sec(attempt, random.random()))
    raise error


def _part_bytes(file: IO[bytes]) -> int:
    """8 MiB, doubled until the file has no more than 10,000 parts. A pipe is taken as small."""
    size = 0
    if file.seekable():
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    part_bytes = PART_BYTES
    while size > part_bytes * PART_COUNT_MAX:
        part_bytes *= 2
    return part_bytes


def _parts(first: bytes, file: IO[bytes], part_bytes: int) -> Iterator[bytes]:
    part = first
    while part:
        yield part
        part = _read(file, part_bytes)


def _read(file: IO[bytes], count: int) -> bytes:
    """Exactly ``count`` bytes, or what there is to the end: a pipe gives less at a time."""
    pieces: list[bytes] = []
    while count and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _ranges(store: Store, info: ObjectInfo) -> Iterator[Callable[[], bytes]]:
    for start in range(0, info.size, PART_BYTES):
        yield partial(_range, store, info, start, min(PART_BYTES, info.size - start))


def _range(store: Store, info: ObjectInfo, start: int, size: int) -> bytes:
    return patiently(lambda: store.get(info.key, start, size, etag=info.etag)).data


def _in_order(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results of ``calls``, a few of which run at the same time."""
    with ThreadPoolExecutor(PARTS_IN_FLIGHT) as pool:
        running: deque[Future[T]] = deque()
        for call in calls:
            running.append(pool.submit(call))
            if len(running) >= PARTS_IN_FLIGHT:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
