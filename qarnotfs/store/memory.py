"""`MemoryStore`: the object store's twin, in memory, for tests and models.

Passes the same conformance suite as `S3Store`, down to the quirks of the gateway it is held
against: a `start_after` inside a rolled-up prefix skips that prefix, and ``_`` in metadata
names comes back as ``-``. It never touches disk or network and keeps everything for ever.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from qarnotfs.errors import NoSuchBucket, NoSuchKey, PreconditionFailed, Refused, StoreError
from qarnotfs.store.base import (
    DELETE_COUNT_MAX,
    PART_BYTES_MIN,
    UNCONDITIONAL,
    Attributes,
    Capabilities,
    Condition,
    Fetched,
    Flight,
    ListPage,
    ObjectInfo,
    require_key,
)

T = TypeVar("T")

DEFAULT_TYPE = "binary/octet-stream"  # S3's, when none is given
Faults = Callable[[str, str], Exception | None]


@dataclass(slots=True)
class _Upload:
    key: str
    attributes: Attributes
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryStore:
    """Implements `Store`; every flight has landed when it is returned.

    Knobs for tests: ``faults(method, key)`` is asked before each call (the key is the prefix
    of a listing, and ``""`` where there is none) and its exception is what the call ends
    with; ``calls`` lists each ``(method, key)``; ``capabilities`` may be set, and a
    condition they do not honour is ignored; ``clock`` gives seconds since 1970.
    """

    def __init__(self, bucket: str = "memory", *, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self.clock = clock
        self.capabilities = Capabilities(put_if_absent=True, put_if_match="quoted")
        self.faults: Faults = lambda method, key: None
        self.calls: list[tuple[str, str]] = []
        self._lock = threading.RLock()  # guards everything below
        self._exists = True
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._uploads: dict[str, _Upload] = {}
        self._upload_count = 0

    # --- hot ---------------------------------------------------------------------------

    def head(self, key: str) -> Flight[ObjectInfo]:
        return self._fly("head", key, lambda: self._object(key)[0])

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        def get() -> Fetched:
            info, data = self._object(key)
            if etag is not None and etag != info.etag:
                raise PreconditionFailed(f"{key!r} is another version.")
            if start + size > info.size:
                raise Refused(f"{key!r} ends before what was asked of it.")
            return Fetched(info, data[start : start + size])

        return self._fly("get", key, get)

    def put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        condition: Condition = UNCONDITIONAL,
    ) -> Flight[str]:
        def put() -> str:
            made = self._made(key, bytes(body), _md5(body).hex(), attributes)
            if self._forbids(key, condition) and not self._is_stored(made):
                raise PreconditionFailed(f"{key!r} is not as it was taken for.")
            self._objects[key] = made, bytes(body)
            return made.etag

        return self._fly("put", key, put)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Flight[str]:
        def upload_part() -> str:
            self._upload(key, upload_id).parts[number] = bytes(body)
            return _md5(body).hex()

        return self._fly("upload_part", key, upload_part)

    # --- control -----------------------------------------------------------------------

    def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str | None = None,
        start_after: str | None = None,
        count_max: int = 1000,
    ) -> ListPage:
        with self._called("list_page", prefix):
            begin = _roll_up(after or start_after or "", prefix, delimiter)
            entries: dict[str, ObjectInfo | None] = {}  # None: a rolled-up prefix
            for key in sorted(self._objects):
                entry = _roll_up(key, prefix, delimiter)
                if not key.startswith(prefix) or key <= begin or entry <= begin:
                    continue
                if entry not in entries and len(entries) == count_max:
                    return _page(entries, more=True)
                entries[entry] = self._objects[key][0] if entry == key else None
            return _page(entries, more=False)
