"""The class `Bucket`. Methods that ask the store may raise any `StoreError`; others are named.

Used through the package; it leaves bytes to `transfer` and JSON to `rules`.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

from qarnotfs.bucket import transfer
from qarnotfs.bucket.rules import (
    BucketPrefixFiltering,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)
from qarnotfs.connection import Connection
from qarnotfs.connection.connection import SdkConnection
from qarnotfs.errors import MissingFile, NoSuchBucket, NoSuchKey
from qarnotfs.store.base import ObjectInfo, Store
from qarnotfs.views import BucketSpec, View, sanitized

MissingBucketException = NoSuchBucket  # the SDK's name for it


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
        connection: SdkConnection,
        name: str,
        create: bool = True,
        filtering: Filtering | None = None,
        resources_transformation: ResourcesTransformation | None = None,
        cacheTTLSec: int | None = None,  # the SDK's spelling
    ) -> None:
        self._connection = Connection.of_sdk(connection)
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
    def endpoint(self) -> str:
        """The URL of the object store."""
        return self._connection.endpoint

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
    def from_json(cls, connection: SdkConnection, json_bucket: dict[str, Any]) -> Self:
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

    # --- listing ----------------------------------------------------------------------

    def list_files(self) -> list[BucketFile]:
        """Every object of the bucket in key order, whatever the filter."""
        return self.directory()

    def directory(self, directory: str = "") -> list[BucketFile]:
        """The objects whose keys start with ``directory``."""
        return [BucketFile.of(self._uuid, info) for info in self._objects(directory)]

    def visible_files(self) -> dict[str, BucketFile]:
        """What a mount with this filter and transformation shows: visible key -> object."""
        found: dict[str, BucketFile] = {}
        for file in self.directory(self.view.filter_prefix):
            name = self.view.visible(file.key)
            if name is None:
                continue
            rivals = self.view.candidates(name)
            if name not in found or rivals.index(file.key) < rivals.index(found[name].key):
                found[name] = file
        return found

    def _objects(self, prefix: str) -> Iterator[ObjectInfo]:
        page = self.store.list_page(prefix)
        yield from page.objects
        while page.next is not None:
            page = self.store.list_page(prefix, after=page.next)
            yield from page.objects

    # --- files ------------------------------------------------------------------------

    def add_string(self, string: str, remote: str) -> None:
        """Store ``string`` in UTF-8 under the key ``remote``."""
        self._send(BytesIO(string.encode()), remote)

    def add_file(
        self, local_or_file: str | os.PathLike[str] | IO[bytes], remote: str | None = None
    ) -> None:
        """Store a file, given by its path or open for reading bytes.

        ``remote`` is the key; without, the file's name without its directory.
        """
        if isinstance(local_or_file, str | os.PathLike):
            with open(local_or_file, "rb") as file:
                self._send(file, remote)
        else:
            self._send(local_or_file, remote)

    def _send(self, file: IO[bytes], remote: str | None) -> None:
        key = sanitized(remote) if remote else os.path.basename(file.name)
        transfer.upload(self.store, file, key)

    def get_file(
        self,
        remote: str,
        local: str | os.PathLike[str] | None = None,
        progress: transfer.Progress | None = None,
    ) -> str:
        """Write the object ``remote`` to ``local`` and return where it is.

        ``local`` may be a directory; without, the key's last part is used. Directories are
        made. The file appears whole or not at all. ``progress`` is called with the bytes
        so far, the bytes in all and the key. Raises `MissingFile`, a `ValueError`.
        """
        target = Path(local) if local is not None else Path(posixpath.basename(remote))
        if target.is_dir():
            target /= posixpath.basename(remote)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            transfer.download(self.store, remote, target, progress)
        except NoSuchKey as error:
            raise MissingFile(f"There is no file {remote!r} in '{self._uuid}'.") from error
        return str(target)

    def copy_file(self, source: str, dest: str) -> None:
        """Copy one object to the key ``dest`` on the server; raises `MissingFile`."""
        try:
            self.store.copy(source, dest)
        except NoSuchKey as error:
            raise MissingFile(f"There is no file {source!r} in '{self._uuid}'.") from error

    def delete_file(self, remote: str) -> None:
        """Delete one object; one that is not there is no failure."""
        for error in self.store.delete([sanitized(remote)]).values():
            raise error

    # --- as a mapping -----------------------------------------------------------------

    def __getitem__(self, remote: str) -> str:
        """`get_file` into the working directory; raises ``KeyError``."""
        try:
            return self.get_file(remote)
        except MissingFile as error:
            raise KeyError(remote) from error

    def __setitem__(self, remote: str, local: str | os.PathLike[str]) -> None:
        self.add_file(local, remote)

    def __delitem__(self, remote: str) -> None:
        self.delete_file(remote)

    def __contains__(self, item: object) -> bool:
        """Whether there is an object of this key, or still the one of this listing."""
        key = item.key if isinstance(item, BucketFile) else item
        if not isinstance(key, str):
            return False
        try:
            info = transfer.patiently(lambda: self.store.head(key))
        except NoSuchKey:
            return False
        return not isinstance(item, BucketFile) or item == BucketFile.of(self._uuid, info)

    def __iter__(self) -> Iterator[BucketFile]:
        return iter(self.list_files())


def _json_of(rules: Any) -> dict[str, dict[str, str]]:
    """What rules say, ours or the SDK's."""
    return rules.to_json() if rules is not None else {}
