"""The object store as the rest of the house sees it: one bucket, named by keys.

Used by `bridge`'s callers (index, cache, writeback) and by `Bucket`. Implemented by
`store.s3` (the real one) and `store.memory` (its twin for tests and models); both pass
the same conformance suite. This module does no I/O.

Two kinds of method:

- *Hot* ones (`head`, `get`, `put`, `upload_part`, `copy_object`, `room`) return at once with a
  `Flight`, which completes from another thread. They never block the caller.
- *Control* ones (everything else) block, are safe to call from several threads at the
  same time, and are called through a thread by anyone who has an event loop.

What errors mean, for every method: `NoSuchKey` is a certain 404 for that key;
`NoSuchBucket` that the bucket is gone; `PreconditionFailed` a 412; `Refused` (and its
children) will fail again; `Unavailable` is worth repeating, and the request may or may
not have been carried out. No other exception leaves a store.

Etags are unquoted lower-case hexadecimal, ``md5`` or ``md5-N`` for N parts.
Repeating any call is safe but for `create_upload`, which makes one more upload.
User metadata may hold any text. Its names come back in lower case, and RGW gives ``_`` back
as ``-``: use neither capitals nor ``_``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, Protocol, TypeVar

from qarnotfs.errors import Refused

if TYPE_CHECKING:
    from qarnotfs.store.early import Early

T = TypeVar("T")

PART_BYTES_MIN = 5 << 20  # S3: every part of a multipart upload but the last
PART_BYTES_MAX = 5 << 30  # S3: a part, a single PUT, a single server-side copy
PART_COUNT_MAX = 10_000  # S3
DELETE_COUNT_MAX = 1000  # S3: keys of one batch delete
KEY_BYTES_MAX = 1024  # S3: UTF-8 bytes of a key
OBJECT_BYTES_MAX = 5 << 40  # S3
# When (`time.monotonic`) who called a blocking method stops waiting for it: later than that
# no request may be begun, for it would be carried out behind the caller's back.
give_up_sec: ContextVar[float] = ContextVar("give_up_sec", default=float("inf"))

_METADATA_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 token


def require_key(key: str) -> str:
    """``key`` itself; `Refused` when no server takes it: it is 1 to 1024 bytes without NUL."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Refused(f"The key {key!r} is not Unicode text.") from None
    if not 0 < size <= KEY_BYTES_MAX or "\0" in key:
        raise Refused(f"The key {key[:64]!r} has {size} bytes; 1 to 1024 without NUL are possible.")
    return key


def named_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """``metadata`` with lower-case names; `Refused` for one that no header can have."""
    return {_metadata_name(name): value for name, value in metadata.items()}


@lru_cache  # programs use a handful, in each request
def _metadata_name(name: str) -> str:
    if not _METADATA_NAME.fullmatch(name.lower()):
        raise Refused(f"The object store cannot keep metadata under the name {name!r}.")
    return name.lower()


class ObjectInfo(NamedTuple):
    """One version of one object.

    ``size`` in bytes; ``modified_sec`` is LastModified in whole seconds since 1970 (HEAD
    tells no more, so listings are rounded down to it). ``metadata`` is the user metadata
    with lower-case names, or ``None`` where it is not known (listings do not carry it).
    """

    key: str
    size: int
    etag: str
    modified_sec: int
    metadata: Mapping[str, str] | None = None
    content_type: str | None = None

    def same_version(self, other: ObjectInfo | None) -> bool:
        """Whether both hold the same bytes."""
        return other is not None and (self.etag, self.size) == (other.etag, other.size)

    def has(self, attributes: Attributes) -> bool:
        """Whether these are stored beside the bytes, as far as is known."""
        return Attributes(dict(self.metadata or {}), self.content_type) == attributes

    def without_metadata(self) -> ObjectInfo:
        return self._replace(metadata=None, content_type=None)


class Copied(NamedTuple):
    """What the answer to a copy says of what it made; the time, if any, is as in `ObjectInfo`."""

    etag: str
    modified_sec: int | None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing in key order. ``next`` continues it; ``None`` at the end."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Room:
    """What an account stores and may store; ``None``: there is no limit.

    Where there is none of bytes, ``bytes_used`` is what this one bucket holds.
    """

    bytes_used: int
    bytes_max: int | None
    objects_used: int
    objects_max: int | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes of one range, and the version they belong to."""

    info: ObjectInfo
    data: bytes


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is stored beside an object's bytes: user metadata and Content-Type."""

    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be true of the key for a put to be carried out; both empty: nothing.

    ``absent``: there is no object. ``etag``: the object has this etag. Only as strong as
    `Capabilities` says; a store that cannot honour a condition ignores it.
    """

    absent: bool = False
    etag: str | None = None


UNCONDITIONAL = Condition()


IfMatchForm = Literal["quoted", "unquoted", "no"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this server was seen to honour, by trying it.

    ``put_if_match`` is the form of etag that works: RGW before 18 takes only an unquoted one.
    """

    put_if_absent: bool
    put_if_match: IfMatchForm


class Flight(Future[T], Generic[T]):
    """A request under way: a future that can be told that nobody waits any more.

    ``abort()`` never waits, may come at any time, from any thread and more than once; a
    flight that has not landed then ends at once with `Unavailable`. Only the request's end
    ends it otherwise: `cancel()` has no effect.
    """

    def __init__(self, abort: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.abort = abort

    @classmethod
    def landed(cls, value: T) -> Flight[T]:
        flight = cls()
        flight.set_result(value)
        return flight

    @classmethod
    def failed(cls, error: BaseException) -> Flight[T]:
        flight = cls()
        flight.set_exception(error)
        return flight


class Store(Protocol):
    """One bucket. See the module's docstring for what holds for every method.

    ``capabilities``: what `probe` found, or was set; nothing is honoured before.
    """

    bucket: str
    capabilities: Capabilities

    # --- hot: return a Flight at once -------------------------------------------------

    def head(self, key: str) -> Flight[ObjectInfo]:
        """The current version with its metadata, or `NoSuchKey`."""

    def get(self, key: str, start: int, size: int, *, etag: str | None = None) -> Flight[Fetched]:
        """Exactly bytes ``[start, start + size)`` (``size`` > 0, within the object).

        With ``etag``, `PreconditionFailed` when the object is another version; `NoSuchKey`
        when it is gone. A short or long body is `Unavailable`, never returned; a ``start``
        at or behind the end is `Refused`. Up to 8 MiB are one request.
        """

    def put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        condition: Condition = UNCONDITIONAL,
    ) -> Flight[str]:
        """Store ``body`` (at most 5 GiB) and return its etag, compared with its MD5.

        `PreconditionFailed` when ``condition`` does not hold, unless the very same bytes and
        attributes are stored already: they count as ours. After `Unavailable` the object may
        have been stored, and repeating is then no conflict with ourselves.
        """

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Flight[str]:
        """Store part ``number`` (from 1) and return its etag, compared with its MD5.

        `NoSuchUpload` is reported as `NoSuchKey`. Sending a part again replaces it.
        """

    def copy_object(
        self, source: str, target: str, attributes: Attributes | None = None
    ) -> Flight[Copied]:
        """Copy at most 5 GiB on the server, also onto itself.

        `copy` does any size. ``attributes`` as there. Compare the etag: the source may
        have been replaced. AWS gives the copy of parts the plain MD5, RGW the source's etag.
        """

    def room(self) -> Flight[Room | None]:
        """What the bucket's owner stores and may store; ``None``: this server does not say."""

    # --- control: block -----------------------------------------------------------------

    def heads(self, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        """What `head` says of several keys, quickly; ``None``: there is no such object.

        Those it says nothing of have to be asked for one by one. Raises nothing.
        """

    def prepare_heads(self) -> None:
        """`heads` may be wanted next: connect meanwhile. Returns at once, raises nothing."""

    def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str | None = None,
        start_after: str | None = None,
        count_max: int = 1000,
        early: Early | None = None,
    ) -> ListPage:
        """Keys that start with ``prefix``, in byte order, at most ``count_max`` entries.

        With ``delimiter``, keys that have it after the prefix are rolled up into
        ``prefixes``. ``after`` is `ListPage.next` of the page before; ``start_after`` is a
        key, and begins a listing behind it. With a delimiter do not start inside a prefix:
        RGW then leaves that prefix out, AWS does not. ``early``: where the next page may be
        asked for before this one is read.
        """

    def copy(self, source: str, target: str, attributes: Attributes | None = None) -> ObjectInfo:
        """Copy on the server, of any size, also onto itself; return what a HEAD then says.

        ``attributes`` replace the metadata and the type; ``None`` keeps the source's.
        """

    def delete(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Delete at most 1000 keys; return the ones that failed. A missing key is no failure.

        Raises when the batch as a whole failed; some of the keys may then be gone.
        """

    def create_upload(self, key: str, attributes: Attributes) -> str:
        """Begin a multipart upload and return its id."""

    def copy_part(
        self, key: str, upload_id: str, number: int, source: ObjectInfo, start: int, size: int
    ) -> str:
        """Make part ``number`` of bytes ``[start, start+size)`` of ``source``; return its etag.

        `PreconditionFailed` when the source is another version, where the server looks: RGW
        does not. So HEAD the source once more between the last part and `complete_upload`:
        afterwards nothing tells a mixture. `NoSuchKey`: the source or the upload is gone.
        """

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Join parts 1..N, whose etags are given. The object appears whole or not at all.

        `NoSuchKey`: there is no such upload, perhaps because it was completed before.
        `Corrupt`: its parts are others than these; RGW refuses one too many, too.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. An unknown upload is no failure."""

    def probe(self) -> Capabilities:
        """Find out what the server honours, on a key that nobody else can own.

        Costs some ten requests; leaves nothing behind. Needs write access: `Refused` without.
        """

    def check(self) -> None:
        """Make sure the bucket can be reached and exists, and the credentials may list it."""

    def create_bucket(self) -> None:
        """Create the bucket; one that is already ours is no failure."""

    def empty_bucket(self) -> None:
        """Delete every object, in a versioned bucket all versions and delete markers.

        Uploads of parts that nobody completed stay; they do not keep a bucket.
        """

    def delete_bucket(self) -> None:
        """Delete the empty bucket."""

    def close(self) -> None:
        """Give connections and threads back. No method may be called afterwards."""
