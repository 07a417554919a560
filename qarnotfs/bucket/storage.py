"""The methods of `Bucket` that concern single files, and those of a mapping.

Base class of `Bucket`, as in the SDK; it knows keys and local paths and nothing of views.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from typing import IO, Any

from qarnotfs.bucket import transfer, upward
from qarnotfs.bucket.files import Body, BucketFile, found, missing, modified
from qarnotfs.bucket.local import Folder, Local, tree_of
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.progress import Progress, shown
from qarnotfs.bucket.report import SyncFailed, SyncReport
from qarnotfs.bucket.sources import Sources
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
        """The object store with this bucket, made when first used.

        The level below: `qarnotfs.store.base.Store` says what its methods do.
        """
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
        local_or_file: Local | bytes | IO[bytes],
        remote: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Store a file, given by its path or open for reading bytes; a pipe will do.

        ``remote`` is the key; without, the file's name without its directory. An open file
        is read from where it is. ``progress`` as in `get_file`. `Stale`: the file changed
        while it was read, and nothing was stored. `UsageError`: it has no name.
        """
        if isinstance(local_or_file, str | bytes | os.PathLike):
            with open(os.fsdecode(local_or_file), "rb") as file:
                self._send(file, remote, progress)
        else:
            self._send(local_or_file, remote, progress)

    def _send(self, file: IO[bytes], remote: str | None, progress: Progress | None) -> None:
        key = self._sanitized(remote or "")
        if not key:
            name = getattr(file, "name", None)
            if not isinstance(name, str):
                raise UsageError("This file has no name: say under which it is to be stored.")
            key = os.path.basename(name)
        with shown(progress) as told:
            transfer.upload(self.store, file, key, told)

    def add_directory(
        self, local: Local, remote: str = "", progress: Progress | None = None
    ) -> SyncReport:
        """Store every file below a local directory, under ``remote`` with the same hierarchy.

        Links are not followed, but named as ``skipped`` in the report and in the log;
        directories without files are left out. ``progress`` as in `get_file`. Raises
        `SyncFailed` when files failed, after the rest is done; ``OSError`` when ``local`` is
        no directory.
        """
        root = os.fspath(local)
        sources = Sources.of_tree(root, tree_of(root), self._base(remote))
        return self._told(lambda: upward.add(self.store, sources, Manner(progress=progress)))

    def get_file(
        self, remote: str, local: Local | None = None, progress: Progress | None = None
    ) -> str:
        """Write the object ``remote`` to ``local`` and return where it is.

        ``local`` may be a directory; without, the working directory is meant. There the
        key's last part is the name, and a link of that name is replaced; one that ``local``
        names is followed. Directories are made. The file appears whole or not at all, with
        the permissions of the one it replaces; what is neither file nor directory, as a pipe,
        is written into. ``progress``: ``True`` shows a bar on stderr, a function is called
        with the bytes so far, the bytes in all and the key. Raises `MissingFile`, a
        ``ValueError``; ``IsADirectoryError`` where a directory has the name; `UsageError`
        for a key whose last part is no name.
        """
        is_named = local is not None and not os.path.isdir(local)
        target = os.fspath(local or "")
        if not is_named:
            target = os.path.join(target, posixpath.basename(remote))
        if os.path.basename(target) in ("", ".", ".."):
            raise UsageError(f"{remote!r} names no file: say under which name it is to be kept.")
        info = found(self.store, remote)
        with _written(target, follows=is_named) as file, shown(progress) as told:
            transfer.download(self.store, info, file, told)
        return target

    def open_file(self, remote: str) -> Body:
        """The object's bytes as a stream, to be read once. Raises `MissingFile`."""
        return Body(self.store, found(self.store, remote))

    def copy_file(self, source: str, dest: str) -> dict[str, dict[str, Any]]:
        """Copy one object of any size to the key ``dest``, on the server, with its metadata.

        Returns ``{"CopyObjectResult": {"ETag": .., "LastModified": ..}}``: a string in double
        quotes and a ``datetime``. Raises `MissingFile`.
        """
        try:
            copied = transfer.calling(lambda: self.store.copy(source, dest))
        except NoSuchKey as error:
            raise missing(self.store, source) from error
        said = {"ETag": f'"{copied.etag}"', "LastModified": modified(copied)}
        return {"CopyObjectResult": said}

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
        return below(self._sanitized(remote or ""))

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

    def _told(self, run: Callable[[], SyncReport]) -> SyncReport:
        """What ``run`` reports. What it skipped is logged too: not everyone reads reports."""
        try:
            report = run()
        except SyncFailed as error:
            self._warn(error.report)
            raise
        self._warn(report)
        return report

    def _warn(self, report: SyncReport) -> None:
        for name, why in report.skipped.items():
            self._log.warning("%r is skipped: %s.", name, why)


def below(name: str) -> str:
    """A directory of the bucket, as the beginning of its keys; ``""``: all of them."""
    return name if not name or name.endswith("/") else name + "/"


@contextmanager
def _written(path: str, *, follows: bool) -> Iterator[IO[bytes]]:
    """A file for writing, which appears when the block ends well; or what is none, as a pipe."""
    if follows or not os.path.islink(path):
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:  # says so when it is a directory
                yield file
            return
        path = os.path.realpath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    with Folder(folder or ".") as opened, opened.written(name) as file:
        yield file
