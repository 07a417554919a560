"""The class `Bucket`. Methods that ask the store may raise any `StoreError`; others are named.

Used through the package. Its methods say what is done; how bytes move is the business of
`transfer`, `upward` and `downward`, JSON that of `rules`, single files that of `storage`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, Self

from qarnotfs.bucket import downward, upward
from qarnotfs.bucket.files import BucketFile
from qarnotfs.bucket.local import Local, tree_of
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.progress import Progress
from qarnotfs.bucket.report import SyncReport
from qarnotfs.bucket.rules import (
    BucketPrefixFiltering,
    Filtering,
    PrefixResourcesTransformation,
    ResourcesTransformation,
)
from qarnotfs.bucket.sources import Sources
from qarnotfs.bucket.storage import Storage, below
from qarnotfs.connection.connection import SdkConnection
from qarnotfs.errors import UsageError
from qarnotfs.views import BucketSpec, View


class Bucket(Storage):
    """A bucket, its filter, its transformation and its cache time.

    ``connection`` is ours or the SDK's. ``create``: make the bucket unless it is ours
    already; without, a missing bucket is found out when it is first used. ``filtering`` and
    ``resources_transformation``, ours or the SDK's, are copied. ``cacheTTLSec`` in seconds.
    Raises `BucketStorageUnavailableException` when the connection's account has no storage,
    and `UsageError` for a name that no bucket can have and for a rule of an unknown kind.

    A local path is a ``str`` or ``os.PathLike`` (`Local`). ``progress`` is ``True``, or a
    function of bytes so far, bytes in all, and name (`Progress`). Every method may raise
    `MissingBucketException`, or another `StoreError`.
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
        super().__init__(connection, name)
        self._filtering = Filtering.from_json(_json_of(filtering)).cleaned(self._sanitized)
        self._transformation = ResourcesTransformation.from_json(
            _json_of(resources_transformation)
        ).cleaned(self._sanitized)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections and threads, if any; ``with`` does it at the block's end."""
        if "store" in self.__dict__:
            self.__dict__.pop("store").close()

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
        """What a mount shows; has ``filter_prefix`` and ``strip_prefix``, ``""`` for none."""
        return self._spec.view

    @property
    def cache_ttl_sec(self) -> int | None:
        """For how many seconds a mount may trust what it saw; ``None``: not said."""
        return self._cache_ttl_sec

    def to_json(self) -> dict[str, Any]:
        """The SDK's dict; without a rule, its object is ``{}``.

        ``{"bucketName": str, "filtering": {"prefixFiltering": {"prefix": str}},
        "resourcesTransformation": {"stripPrefix": {"prefix": str}},
        "cacheTTLSec": int or None}``
        """
        return {
            "bucketName": self._uuid,
            "filtering": self._filtering.to_json(),
            "resourcesTransformation": self._transformation.to_json(),
            "cacheTTLSec": self._cache_ttl_sec,
        }

    @classmethod
    def from_json(cls, connection: SdkConnection, json_bucket: dict[str, Any]) -> Self:
        """The bucket that `to_json`, or the SDK's, describes; it is not created.

        `UsageError` for what is not understood in it.
        """
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
        """The same bucket with this filter, whose prefix is sanitised."""
        return self._with("filtering", {filtering.name: filtering.to_json()})

    def with_resource_transformation(self, resource: PrefixResourcesTransformation) -> Self:
        """The same bucket with this transformation, whose prefix is sanitised."""
        return self._with("resourcesTransformation", {resource.name: resource.to_json()})

    def with_cache_ttl(self, ttl: int) -> Self:
        """The same bucket with another cache time, in seconds."""
        return self._with("cacheTTLSec", ttl)

    def _with(self, field: str, value: object) -> Self:
        return self.from_json(self._given, self.to_json() | {field: value})

    def delete(self) -> None:
        """Delete the bucket and all it holds; if it is versioned, all versions of it."""
        self.store.empty_bucket()
        self.store.delete_bucket()

    def visible_files(self) -> dict[str, BucketFile]:
        """What a mount with this filter and transformation shows: visible key -> object."""
        shown: dict[str, BucketFile] = {}
        for file in self.directory(self.view.filter_prefix):
            name = self.view.visible(file.key)
            if name is None:
                continue
            rivals = self.view.candidates(name)
            if name not in shown or rivals.index(file.key) < rivals.index(shown[name].key):
                shown[name] = file
        return shown

    # --- synchronisation ----------------------------------------------------------------

    def sync_directory(
        self,
        directory: Local,
        verbose: bool = False,
        remote: str | None = None,
        *,
        delete: bool = True,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Make the bucket, or its directory ``remote``, hold what is in a local directory.

        Compared are name, size and content. What is in the bucket under another name is
        copied there; identical files are uploaded once. Links are skipped, and a warning
        names them in the log. Last of all,
        ``delete`` removes what is under ``remote`` and not in the directory. ``dry_run``
        only tells. ``verbose`` logs each step; ``progress`` as in `get_file`. Raises
        `SyncFailed` when files failed, after the rest is done, and ``OSError`` when
        ``directory`` is none.
        """
        root, base = os.fspath(directory), self._base(remote)
        sources = Sources.of_tree(root, tree_of(root), base)
        manner = Manner(delete, dry_run, progress, self._saying(verbose))
        return self._told(lambda: upward.sync(self.store, sources, manner))

    def sync_files(
        self,
        files: Mapping[str, Local],
        verbose: bool = False,
        remote: str | None = None,
        *,
        delete: bool = True,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Make the bucket, or its directory ``remote``, hold these files: name -> local path.

        Everything else is as in `sync_directory`. Raises `UsageError` for two files of
        one name.
        """
        base = self._base(remote)
        named = {base + self._sanitized(key.lstrip("/") if base else key): key for key in files}
        if len(named) < len(files):
            raise UsageError("Two of these files would have the same name in the bucket.")
        paths = {key: os.fspath(files[given]) for key, given in named.items()}
        manner = Manner(delete, dry_run, progress, self._saying(verbose))
        sources = Sources.of_files(paths, base)
        return self._told(lambda: upward.sync(self.store, sources, manner))

    def sync_remote_to_local(
        self,
        local_directoy: Local,  # the SDK's spelling
        remote_directory: str | None = None,
        *,
        delete: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Make a local directory hold what is in the bucket, or in its ``remote_directory``.

        Files of the same size and content are left alone. ``delete`` removes local files
        that are not in the bucket, unless there is nothing at all below ``remote_directory``:
        then `MissingFile`. Nothing is written outside, whatever the keys or links are; keys
        that no file system can hold are ``skipped`` in the report, whose names are relative
        to the directory, and named in the log. Raises `SyncFailed`; ``OSError`` for no
        directory.
        """
        root, base = os.fspath(local_directoy), below(remote_directory or "")
        manner = Manner(delete, dry_run, progress)
        return self._told(lambda: downward.sync(self.store, root, base, manner))

    def get_all_files(self, output_dir: Local, progress: Progress | None = None) -> SyncReport:
        """Fetch every object into a local directory: `sync_remote_to_local` of the whole."""
        return self.sync_remote_to_local(output_dir, progress=progress)

    # --- legacy -------------------------------------------------------------------------

    def flush(self) -> None:
        """Does nothing, as in the SDK, and is deprecated: nothing is kept back here."""
        warnings.warn("Bucket.flush() does nothing.", DeprecationWarning, stacklevel=2)

    def update(self, flush: bool = False) -> None:
        """Does nothing, as in the SDK, and is deprecated: nothing is remembered here."""
        warnings.warn("Bucket.update() does nothing.", DeprecationWarning, stacklevel=2)


def _json_of(rules: Any) -> dict[str, dict[str, str]]:
    """What rules say, ours or the SDK's."""
    return rules.to_json() if rules is not None else {}
