"""`Bucket`: a bucket with a view, the interface of ``qarnot.bucket.Bucket``. Python's door.

Used by programs, and by `cli`: a mount is a `Bucket` plus a mountpoint. It works on stored
keys, as the SDK does; `Bucket.visible_files` lists what a mount shows. Every method blocks
and asks the object store each time: nothing is remembered here.

Raises `MissingBucketException` when the bucket does not exist, `ValueError` for a file
that is not there (`MissingFile`), and the `StoreError` of whatever else goes wrong.
"""

from __future__ import annotations

import os
import posixpath
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from io import BytesIO
from mimetypes import guess_type
from pathlib import Path
from typing import IO, Any, Protocol, Self, TypeVar

from qarnotfs.connection import Connection
from qarnotfs.errors import MissingFile, NoSuchBucket, NoSuchKey, Unavailable
from qarnotfs.store.base import PART_COUNT_MAX, Attributes, Flight, ObjectInfo, Store
from qarnotfs.views import FILTER_KIND, STRIP_KIND, BucketSpec, View, sanitized

T = TypeVar("T")
Progress = Callable[[int, int, str], object]  # (bytes so far, bytes in all, key)

MissingBucketException = NoSuchBucket  # the SDK's name for it

PART_BYTES = 8 << 20  # the SDK's: its etags depend on it, and its synchronisation on them
PARTS_IN_FLIGHT = 4
CALL_SEC = 60.0
TRIES = 5
BACKOFF_SEC = 0.5  # before the second try; doubled with each


class SdkConnection(Protocol):
    """The Qarnot SDK's ``Connection``, as far as it is needed."""

    @property
    def s3client(self) -> Any: ...


# --- the SDK's JSON ----------------------------------------------------------------------


class _Prefix:
    """One rule about a key's beginning; `name` is its kind in the SDK's JSON."""

    name: str

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.prefix!r})"

    @classmethod
    def from_json(cls, json: dict[str, str]) -> Self:
        return cls(json["prefix"])

    def to_json(self) -> dict[str, str]:
        return {"prefix": self.prefix}


class BucketPrefixFiltering(_Prefix):
    """Only keys that start with ``prefix``."""

    name = FILTER_KIND


class PrefixResourcesTransformation(_Prefix):
    """Keys are seen without ``prefix``."""

    name = STRIP_KIND


class _Rules:
    """Rules of a bucket, at most one of each kind. The SDK's own objects are as welcome."""

    known: type[_Prefix]

    def __init__(self) -> None:
        self._by_kind: dict[str, _Prefix] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._by_kind.values())})"

    def append(self, rule: _Prefix) -> None:
        """Add a rule, in place of one of the same kind."""
        self._by_kind[rule.name] = rule

    @classmethod
    def from_json(cls, json: dict[str, dict[str, str]]) -> Self:
        """Read the SDK's dict; kinds that are not known are left out, as the SDK does."""
        rules = cls()
        if cls.known.name in json:
            rules.append(cls.known.from_json(json[cls.known.name]))
        return rules

    def to_json(self) -> dict[str, dict[str, str]]:
        return {kind: rule.to_json() for kind, rule in self._by_kind.items()}

    def sanitized(self) -> Self:
        """A copy whose prefixes could be the beginning of a key."""
        rules = type(self)()
        for rule in self._by_kind.values():
            rules.append(type(rule)(sanitized(rule.prefix)))
        return rules


class Filtering(_Rules):
    """Which keys of a bucket are seen."""

    known = BucketPrefixFiltering


class ResourcesTransformation(_Rules):
    """Under which names they are seen."""

    known = PrefixResourcesTransformation


# --- the bucket ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BucketFile:
    """One object as a listing tells it, with the fields of boto3's ``ObjectSummary``.

    ``size`` in bytes; ``e_tag`` in double quotes; ``last_modified`` in UTC.
    """

    bucket_name: str
    key: str
    size: int
    e_tag: str
    last_modified: datetime

    @classmethod
    def of(cls, bucket: str, info: ObjectInfo) -> Self:
        modified = datetime.fromtimestamp(info.modified_sec, UTC)
        return cls(bucket, info.key, info.size, f'"{info.etag}"', modified)


class Bucket:
    """A bucket, its filter, its transformation and its cache time.

    ``connection`` is ours or the SDK's. ``create``: make the bucket unless it is ours
    already; without, a missing bucket is found out when it is first used.
    """

    def __init__(
        self,
        connection: Connection | SdkConnection,
        name: str,
        create: bool = True,
        filtering: Filtering | None = None,
        resources_transformation: ResourcesTransformation | None = None,
        cacheTTLSec: int | None = None,  # the SDK's spelling
    ) -> None:
        ours = isinstance(connection, Connection)
        self._connection = connection if ours else Connection.of_sdk(connection)
        self._filtering = Filtering.from_json(_json_of(filtering)).sanitized()
        self._transformation = ResourcesTransformation.from_json(
            _json_of(resources_transformation)
        ).sanitized()
        self._uuid = name
        self._cache_ttl_sec = cacheTTLSec
        self._spec = BucketSpec.from_json(self.to_json())
        if create:
            self.store.create_bucket()

    def __repr__(self) -> str:
        return f"Bucket({self._uuid!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and self._uuid == other._uuid

    def __hash__(self) -> int:
        return hash(self._uuid)

    @property
    def uuid(self) -> str:
        """The bucket's name."""
        return self._uuid

    @property
    def description(self) -> str:
        """The bucket's name, once more."""
        return self._uuid

    @property
    def view(self) -> View:
        """What a mount of this bucket shows."""
        return self._spec.view

    @property
    def cache_ttl_sec(self) -> int | None:
        """For how many seconds a mount may trust what it saw; ``None``: not said."""
        return self._cache_ttl_sec

    @cached_property
    def store(self) -> Store:
        """The object store with this bucket; made when first used."""
        return self._connection.store(self._uuid)

    def to_json(self) -> dict[str, Any]:
        """The SDK's dict."""
        return {
            "bucketName": self._uuid,
            "filtering": self._filtering.to_json(),
            "resourcesTransformation": self._transformation.to_json(),
            "cacheTTLSec": self._cache_ttl_sec,
        }

    @classmethod
    def from_json(
        cls, connection: Connection | SdkConnection, json_bucket: dict[str, Any]
    ) -> Self:
        """The bucket that `to_json`, or the SDK's, describes; it is not created."""
        spec = BucketSpec.from_json(json_bucket)
        return cls(
            connection,
            spec.bucket,
            create=False,
            filtering=Filtering.from_json(json_bucket.get("filtering") or {}),
            resources_transformation=ResourcesTransformation.from_json(
                json_bucket.get("resourcesTransformation") or {}
            ),
            cacheTTLSec=spec.cache_ttl_sec,
        )

    def with_filtering(self, filtering: BucketPrefixFiltering) -> Self:
        """The same bucket with one more filter."""
        rule = BucketPrefixFiltering(filtering.prefix)
        return self._with("filtering", {rule.name: rule.to_json()})

    def with_resource_transformation(self, resource: PrefixResourcesTransformation) -> Self:
        """The same bucket with one more transformation."""
        rule = PrefixResourcesTransformation(resource.prefix)
        return self._with("resourcesTransformation", {rule.name: rule.to_json()})

    def with_cache_ttl(self, ttl: int) -> Self:
        """The same bucket with another cache time, in seconds."""
        return self._with("cacheTTLSec", ttl)

    def _with(self, field: str, value: object) -> Self:
        return self.from_json(self._connection, self.to_json() | {field: value})
