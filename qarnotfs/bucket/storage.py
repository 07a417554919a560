"""The methods of `Bucket` that concern single files, and those of a mapping.

Base class of `Bucket`, as in the SDK; it knows keys and local paths and nothing of views.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from typing import IO, Any

from qarnotfs.bucket import transfer, upward
from qarnotfs.bucket.files import Body, BucketFile, found, missing
from qarnotfs.bucket.local import Folder, Local, tree_of
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.progress import Progress, shown
from qarnotfs.bucket.report import SyncReport
from qarnotfs.connection import Connection
from qarnotfs.connection.connection import SdkConnection
from qarnotfs.errors import MissingFile, NoSuchKey, UsageError
from qarnotfs.store.base import Store
from qarnotfs.views import sanitized


class Storage:
    """The files of one bucket."""

    def __init__(self, connection: SdkConnection, name: str) -> None:
        self._given = connection
        self._connection = Connection.of_sdk(connection)
        self._uuid = name

    @cached_property
    def store(self) -> Store:
        """The object store with this bucket; made when first used."""
        return self._connection.store(self._uuid)

    # --- listing ----------------------------------------------------------------------

    def list_files(self) -> list[BucketFile]:
        """Every object of the bucket in key order, whatever the filter."""
        return self.directory()

    def directory(self, directory: str = "") -> list[BucketFile]:
        """The objects whose keys start with ``directory``, a prefix."""
        return [BucketFile.of(self.store, info) for info in transfer.objects(self.store, directory)]

    # --- files ------------------------------------------------------------------------

    def add_string(self, string: str, remote: str) -> None:
        """Store ``string`` in UTF-8 under the key ``remote``."""
        self.add_file(BytesIO(string.encode()), remote)

    def add_file(
        self,
        local_or_file: Local | IO[bytes],
        remote: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Store a file, given by its path or open for reading bytes; a pipe will do.

        ``remote`` is the key; without, the file's name without its directory. An open file
        is read from where it is. ``progress`` as in `get_file`. `Stale`: the file changed
        while it was read, and nothing was stored.
        """
        if isinstance(local_or_file, str | os.PathLike):
            with open(local_or_file, "rb") as file:
                self._send(file, remote, progress)
        else:
            self._send(local_or_file, remote, progress)

    def _send(self, file: IO[bytes], remote: str | None, progress: Progress | None) -> None:
        name = getattr(file, "name", None)
        if not remote and not isinstance(name, str):
            raise UsageError("This file has no name: say under which it is to be stored.")
        key = self._sanitized(remote) if remote else os.path.basename(str(name))
        with shown(progress) as told:
            transfer.upload(self.store, file, key, told)

    def add_directory(
        self, local: Local, remote: str = "", progress: Progress | None = None
    ) -> SyncReport:
        """Store every file below a local directory, under ``remote`` with the same hierarchy.

        Links are not followed, and named in the report as ``skipped``; directories without
        files are left out. ``progress`` as in `get_file`. Raises `SyncFailed` when files
        failed, after the rest is done; ``OSError`` when ``local`` is no directory.
        """
        root = os.fspath(local)
        sources = upward.Sources.of_tree(root, tree_of(root), self._base(remote))
        return upward.add(self.store, sources, Manner(progress=progress))

    def get_file(
        self, remote: str, local: Local | None = None, progress: Progress | None = None
    ) -> str:
        """Write the object ``remote`` to ``local`` and return where it is.

        ``local`` may be a directory; without, the key's last part is used. Directories are
        made. The file appears whole or not at all. ``progress``: ``True`` shows a bar on
        stderr, a function is called with the bytes so far, the bytes in all and the key.
        Raises `MissingFile`, a ``ValueError``.
        """
        target = os.fspath(local) if local is not None else posixpath.basename(remote)
        if os.path.isdir(target):
            target = os.path.join(target, posixpath.basename(remote))
        folder, name = os.path.split(target)
        if name in ("", ".", ".."):
            raise UsageError(f"{remote!r} names no file: say under which name it is to be kept.")
        info = found(self.store, remote)
        os.makedirs(folder or ".", exist_ok=True)
        with Folder(folder or ".") as opened, opened.written(name) as file, shown(progress) as told:
            transfer.download(self.store, info, file, told)
        return target

    def open_file(self, remote: str) -> Body:
        """The object's bytes as a stream, to be read once. Raises `MissingFile`."""
        return Body(self.store, found(self.store, remote))

    def copy_file(self, source: str, dest: str) -> None:
        """Copy one object of any size to the key ``dest``, on the server; raises `MissingFile`."""
        try:
            transfer.calling(lambda: self.store.copy(source, dest))
        except NoSuchKey as error:
            raise missing(self.store, source) from error

    def delete_file(self, remote: str) -> None:
        """Delete one object; one that is not there is no failure."""
        for error in transfer.delete(self.store, [self._sanitized(remote)]).values():
            raise error

    # --- as a mapping -----------------------------------------------------------------

    def __getitem__(self, remote: str) -> str:
        """`get_file` into the working directory; raises ``KeyError``."""
        try:
            return self.get_file(remote)
        except MissingFile as error:
            raise KeyError(remote) from error

    def __setitem__(self, remote: str, local: Local) -> None:
        """`add_file`, or `add_directory` for a directory."""
        if os.path.isdir(local):
            self.add_directory(local, remote)
        else:
            self.add_file(local, remote)

    def __delitem__(self, remote: str) -> None:
        """`delete_file`; no failure when it is not there."""
        self.delete_file(remote)

    def __contains__(self, item: object) -> bool:
        """Whether there is an object of this key, or still the one of this listing."""
        key = item.key if isinstance(item, BucketFile) else item
        if not isinstance(key, str):
            return False
        try:
            info = found(self.store, key)
        except MissingFile:
            return False
        return not isinstance(item, BucketFile) or item == BucketFile.of(self.store, info)

    def __iter__(self) -> Iterator[BucketFile]:
        """`list_files`."""
        return iter(self.list_files())

    # --- names ------------------------------------------------------------------------

    def _base(self, remote: str | None) -> str:
        """A directory of the bucket, as the beginning of its keys."""
        base = self._sanitized(remote or "")
        return base if not base or base.endswith("/") else base + "/"

    def _sanitized(self, name: str) -> str:
        """``name`` without what the SDK takes off, unless the connection forbids it."""
        if not getattr(self._given, "_sanitize_bucket_paths", True):
            return name
        clean = sanitized(name)
        if clean != name and getattr(self._given, "_show_bucket_warnings", True):
            self._log.warning("The bucket path %r was changed to %r.", name, clean)
        return clean

    @property
    def _log(self) -> logging.Logger:
        log: logging.Logger | None = getattr(self._given, "logger", None)
        return log or logging.getLogger("qarnotfs.bucket")

    def _saying(self, verbose: bool) -> Any:
        """What to tell each step."""
        return self._log.info if verbose else lambda step: None
