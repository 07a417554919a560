"""`MemoryStore`: the object store's twin, in memory, for tests and models.

Passes the same conformance suite as `S3Store`, down to the quirks of the gateway it is held
against: a `start_after` inside a rolled-up prefix skips that prefix, and ``_`` in metadata
names comes back as ``-``. It never touches disk or network and keeps everything for ever.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from qarnotfs.errors import (
    Corrupt,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.base import (
    DELETE_COUNT_MAX,
    PART_BYTES_MIN,
    UNCONDITIONAL,
    Attributes,
    Capabilities,
    Condition,
    Copied,
    Fetched,
    Flight,
    ListPage,
    ObjectInfo,
    Room,
    named_metadata,
    require_key,
)
from qarnotfs.store.early import Early

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
    of a listing, the bucket of `room`, and ``""`` where there is none) and its exception is
    what the call ends with; ``calls`` lists each ``(method, key)``; ``capabilities`` may be
    set, and a condition they do not honour is ignored; ``clock`` gives seconds since 1970;
    ``limits`` are what `room` says.
    """

    def __init__(self, bucket: str = "memory", *, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self.clock = clock
        self.capabilities = Capabilities(put_if_absent=True, put_if_match="quoted")
        self.faults: Faults = lambda method, key: None
        self.calls: list[tuple[str, str]] = []
        self.limits: Room | None = None
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
                kind = Refused if start >= info.size else Unavailable
                raise kind(f"{key!r} ends before what was asked of it.")
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

    def copy_object(
        self, source: str, target: str, attributes: Attributes | None = None
    ) -> Flight[Copied]:
        def copy() -> Copied:
            made = self._copied(source, target, attributes)
            return Copied(made.etag, made.modified_sec)

        return self._fly("copy_object", source, copy)

    def room(self) -> Flight[Room | None]:
        return self._fly("room", self.bucket, lambda: self.limits)

    # --- control -----------------------------------------------------------------------

    def heads(self, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        found: dict[str, ObjectInfo | None] = {}
        for key in keys:
            with suppress(StoreError):  # one by one it is heard
                try:
                    found[key] = self.head(key).result()
                except NoSuchKey:
                    found[key] = None
        return found

    def prepare_heads(self) -> None:
        """There is nothing to connect to."""

    def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str | None = None,
        start_after: str | None = None,
        count_max: int = 1000,
        early: Early | None = None,  # a page takes no time here
    ) -> ListPage:
        with self._called("list_page", prefix):
            behind = after or start_after or ""
            skipped = _common_prefix(behind, prefix, delimiter)
            entries: dict[str, ObjectInfo | None] = {}  # None: a rolled-up prefix
            for key in sorted(self._objects):
                if not key.startswith(prefix) or key <= behind:
                    continue
                if skipped and key.startswith(skipped):
                    continue
                rolled = _common_prefix(key, prefix, delimiter)
                if (rolled or key) not in entries and len(entries) == count_max:
                    return _page(entries, more=True)
                info = self._objects[key][0].without_metadata()
                entries[rolled or key] = None if rolled else info
            return _page(entries, more=False)

    def copy(self, source: str, target: str, attributes: Attributes | None = None) -> ObjectInfo:
        with self._called("copy", source):
            return self._copied(source, target, attributes)

    def delete(self, keys: Sequence[str]) -> dict[str, Exception]:
        with self._called("delete", ""):
            if len(keys) > DELETE_COUNT_MAX:
                raise Refused(f"{len(keys)} keys are too many to delete at once.")
            failed: dict[str, Exception] = {}
            for key in keys:
                try:
                    with self._called("delete_key", key):
                        self._objects.pop(require_key(key), None)
                except Exception as error:  # whatever `faults` made up
                    failed[key] = error
            return failed

    # --- multipart -----------------------------------------------------------------------

    def create_upload(self, key: str, attributes: Attributes) -> str:
        with self._called("create_upload", key):
            named_metadata(attributes.metadata)
            self._upload_count += 1
            upload_id = f"upload-{self._upload_count}"
            self._uploads[upload_id] = _Upload(require_key(key), attributes)
            return upload_id

    def copy_part(
        self, key: str, upload_id: str, number: int, source: ObjectInfo, start: int, size: int
    ) -> str:
        with self._called("copy_part", key):
            upload = self._upload(key, upload_id)
            info, data = self._object(source.key)
            if info.etag != source.etag:
                raise PreconditionFailed(f"{source.key!r} is another version.")
            if start + size > info.size:
                raise Refused(f"{source.key!r} ends before what was asked of it.")
            upload.parts[number] = data[start : start + size]
            return _md5(upload.parts[number]).hex()

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        with self._called("complete_upload", key):
            upload = self._upload(key, upload_id)
            parts = [upload.parts.get(number, b"") for number in range(1, len(etags) + 1)]
            if not parts:
                raise Refused("An upload without parts cannot be completed.")
            if [_md5(part).hex() for part in parts] != list(etags):
                raise Corrupt("These are not the parts of the upload.")
            if upload.parts.keys() - range(len(parts) + 1):  # as RGW; AWS leaves them out
                raise Corrupt("The upload has parts that were not named.")
            if any(len(part) < PART_BYTES_MIN for part in parts[:-1]):
                raise Refused("A part that is not the last has less than 5 MiB.")
            etag = f"{_md5(b''.join(map(_md5, parts))).hex()}-{len(parts)}"
            data = b"".join(parts)
            self._objects[key] = self._made(key, data, etag, upload.attributes), data
            del self._uploads[upload_id]

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self._called("abort_upload", key):
            self._uploads.pop(upload_id, None)

    # --- the bucket ------------------------------------------------------------------------

    def probe(self) -> Capabilities:
        with self._called("probe", ""):
            return self.capabilities

    def check(self) -> None:
        with self._called("check", ""):
            pass

    def create_bucket(self) -> None:
        with self._called("create_bucket", "", needs_bucket=False):
            self._exists = True

    def empty_bucket(self) -> None:
        with self._called("empty_bucket", ""):
            self._objects.clear()

    def delete_bucket(self) -> None:
        with self._called("delete_bucket", ""):
            if self._objects:
                raise Refused(f"The bucket '{self.bucket}' is not empty.")
            self._exists = False

    def close(self) -> None:
        """Nothing to give back."""

    # --- inside ------------------------------------------------------------------------------

    @contextmanager
    def _called(self, method: str, key: str, *, needs_bucket: bool = True) -> Iterator[None]:
        """Log the call, raise the fault it is to meet, and keep other threads out."""
        with self._lock:
            self.calls.append((method, key))
            if error := self.faults(method, key):
                raise error
            if needs_bucket and not self._exists:
                raise NoSuchBucket(f"There is no bucket '{self.bucket}'.")
            yield

    def _fly(self, method: str, key: str, work: Callable[[], T]) -> Flight[T]:
        try:
            with self._called(method, key):
                require_key(key)
                return Flight.landed(work())
        except Exception as error:  # whatever `faults` made up
            return Flight.failed(error)

    def _object(self, key: str) -> tuple[ObjectInfo, bytes]:
        if require_key(key) not in self._objects:
            raise NoSuchKey(f"There is no object {key!r}.")
        return self._objects[key]

    def _copied(self, source: str, target: str, attributes: Attributes | None) -> ObjectInfo:
        require_key(target)
        old, data = self._object(source)
        if attributes is None:
            if source == target:
                return old
            attributes = Attributes(old.metadata or {}, old.content_type)
        self._objects[target] = self._made(target, data, old.etag, attributes), data
        return self._objects[target][0]

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise NoSuchKey(f"There is no such multipart upload of {key!r}.")
        return upload

    def _made(self, key: str, data: bytes, etag: str, attributes: Attributes) -> ObjectInfo:
        return ObjectInfo(
            key=require_key(key),
            size=len(data),
            etag=etag,
            modified_sec=int(self.clock()),
            metadata=_names(attributes.metadata),
            content_type=attributes.content_type or DEFAULT_TYPE,
        )

    def _forbids(self, key: str, condition: Condition) -> bool:
        stored = self._objects.get(key)
        if condition.etag and self.capabilities.put_if_match != "no":
            return stored is None or stored[0].etag != condition.etag
        return condition.absent and self.capabilities.put_if_absent and stored is not None

    def _is_stored(self, made: ObjectInfo) -> bool:
        """Whether the very same was put before: repeating a put is no conflict."""
        stored = self._objects.get(made.key)
        return stored is not None and stored[0]._replace(modified_sec=made.modified_sec) == made


def _names(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as the gateway gives it back."""
    return {name.replace("_", "-"): value for name, value in named_metadata(metadata).items()}


def _common_prefix(key: str, prefix: str, delimiter: str) -> str:
    """What ``key`` is rolled up into, ``""`` when it stands for itself."""
    if not delimiter or not key.startswith(prefix):
        return ""
    end = key.find(delimiter, len(prefix))
    return "" if end < 0 else key[: end + len(delimiter)]


def _page(entries: Mapping[str, ObjectInfo | None], *, more: bool) -> ListPage:
    return ListPage(
        objects=tuple(info for info in entries.values() if info is not None),
        prefixes=tuple(name for name, info in entries.items() if info is None),
        next=list(entries)[-1] if more else None,
    )


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
