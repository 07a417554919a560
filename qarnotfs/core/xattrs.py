"""Extended attributes: the users' own, kept in the metadata, and ours, which tell of a file.

Used by `operations`. Ours are ``user.qarnotfs.*``: computed when asked for, never stored,
never listed (a copying tool would try to set them elsewhere) and not to be set.
"""

from __future__ import annotations

from collections.abc import Callable

from qarnotfs.core.filesystem import Filesystem
from qarnotfs.core.inodes import Inode
from qarnotfs.errors import InvalidArgument, NoAttribute, NotPermitted, NotSupported
from qarnotfs.store.base import ObjectInfo

PREFIX = b"user.qarnotfs."
USER = b"user."

BytesCached = Callable[[ObjectInfo], int]
"""How many bytes of a version are cached on this machine."""


class Xattrs:
    """Extended attributes of the inodes of one mount."""

    def __init__(self, filesystem: Filesystem, bytes_cached: BytesCached) -> None:
        self._fs, self._bytes_cached = filesystem, bytes_cached

    def get(self, inode: Inode, name: bytes) -> bytes:
        """The value, or `NoAttribute`; `NotSupported` for those that no file here ever has.

        `ls` and others then stop asking each file for its access list and its capabilities.
        """
        if name.startswith(PREFIX):
            return self._ours(inode, name.removeprefix(PREFIX).decode(errors="replace")).encode()
        try:
            return inode.posix.xattrs[_text(name)]
        except KeyError:
            if not name.startswith(USER):
                raise NotSupported("Only attributes of users are kept in a bucket.") from None
            raise NoAttribute("There is no such attribute.") from None

    def names(self, inode: Inode) -> list[bytes]:
        return [name.encode(errors="surrogateescape") for name in inode.posix.xattrs]

    async def set(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Store an attribute of the user's."""
        if name.startswith(PREFIX):
            raise NotPermitted("What qarnotfs says of a file cannot be set.")
        if not name.startswith(USER):
            raise NotSupported("Only attributes of users are kept in a bucket.")
        if name == USER:
            raise InvalidArgument("An attribute needs a name.")
        await self._fs.set_xattrs(inode, lambda xattrs: {**xattrs, _text(name): value})

    async def remove(self, inode: Inode, name: bytes) -> None:
        self.get(await self._fs.lookup.getattr(inode), name)
        if name.startswith(PREFIX):
            raise NotPermitted("What qarnotfs says of a file cannot be removed.")
        kept = _text(name)
        await self._fs.set_xattrs(
            inode, lambda xattrs: {n: value for n, value in xattrs.items() if n != kept}
        )

    def _ours(self, inode: Inode, name: str) -> str:
        if name == "key":
            return self._fs.stored_key(inode)
        if name == "state":
            return inode.debt.state.value if inode.debt else "clean"
        if name == "error" and inode.debt is not None and inode.debt.error:
            return inode.debt.error
        if inode.info is not None and inode.staged is None:
            if name == "etag":
                return inode.info.etag
            if name == "cached":
                return str(self._bytes_cached(inode.info))
        raise NoAttribute("There is no such attribute.")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")
