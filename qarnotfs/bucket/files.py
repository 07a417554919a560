"""One object as a listing tells it, and its bytes as a stream.

Used by `Bucket`; a stream fetches a few parts ahead and holds no more of the object.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from qarnotfs.bucket import transfer
from qarnotfs.errors import MissingFile, NoSuchKey
from qarnotfs.store.base import ObjectInfo, Store

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True)
class BucketFile:
    """One object as a listing tells it, with the fields of boto3's ``ObjectSummary``.

    Of its methods there are `get`, without arguments, and `delete`. ``size`` in bytes;
    ``e_tag`` in double quotes; ``last_modified`` in UTC.
    """

    bucket_name: str
    key: str
    size: int
    e_tag: str
    last_modified: datetime
    _store: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, store: Store, info: ObjectInfo) -> Self:
        """What ``info`` says, and where its bytes are."""
        return cls(store.bucket, info.key, info.size, f'"{info.etag}"', modified(info), store)

    def get(self) -> dict[str, Any]:
        """The object as it is now: what boto3's ``ObjectSummary.get()`` returns of it.

        ``Body``: a `Body`; ``ContentLength``: bytes; ``ETag``: in double quotes;
        ``LastModified``: a ``datetime``; ``Metadata``: a dict; ``ContentType``. Raises
        `MissingFile`, a `ValueError`, and any `StoreError`.
        """
        store = self._its_store()
        info = found(store, self.key)
        return {
            "Body": Body(store, info),
            "ContentLength": info.size,
            "ETag": f'"{info.etag}"',
            "LastModified": modified(info),
            "Metadata": dict(info.metadata or {}),
            "ContentType": info.content_type,
        }

    def delete(self) -> None:
        """Delete the object as it is now; one that is not there is no failure."""
        for error in transfer.delete(self._its_store(), [self.key]).values():
            raise error

    def _its_store(self) -> Store:
        if self._store is None:
            raise ValueError("This file was not listed by a Bucket, and has no object.")
        return self._store


class Body(io.BufferedReader):
    """The bytes of one version of an object, to be read once from start to end.

    ``readline``, iteration over lines, ``close`` and ``with`` as for any
    binary file; `iter_chunks` as boto3's. `PreconditionFailed`: it was replaced meanwhile.
    """

    def __init__(self, store: Store, info: ObjectInfo) -> None:
        super().__init__(_Pieces(transfer.pieces(store, info)))

    def read(self, amt: int | None = None) -> bytes:
        """The next ``amt`` bytes, fewer only at the end; without, all that are left."""
        return super().read(amt)

    def iter_chunks(self, chunk_size: int = 1024) -> Iterator[bytes]:
        """The bytes, ``chunk_size`` at a time."""
        while chunk := self.read(chunk_size):
            yield chunk


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file that can only be read on."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._pieces = iter(())  # a generator that is dropped gives up what is on its way
        super().close()


def found(store: Store, key: str) -> ObjectInfo:
    """The current version; raises `MissingFile`."""
    try:
        return transfer.patiently(lambda: store.head(key))
    except NoSuchKey as error:
        raise missing(store, key) from error


def missing(store: Store, key: str) -> MissingFile:
    """The error for a file that is not there."""
    return MissingFile(f"There is no file {key!r} in '{store.bucket}'.")


def modified(info: ObjectInfo) -> datetime:
    """When it was stored, in UTC."""
    return datetime.fromtimestamp(info.modified_sec, UTC)
