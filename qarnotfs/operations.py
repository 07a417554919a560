"""The kernel's door: FUSE requests in, calls of `core.filesystem` out, answers back.

Used by `session`, which hands it to pyfuse3. It only translates: numbers to inodes,
inodes to attributes and timeouts, errors to errno. Every handler ends with an answer: an
error nobody foresaw is logged with its traceback and answered ``EIO``, and the mount lives.
"""

from __future__ import annotations

import errno
import functools
import logging
import stat
import time
from collections.abc import Callable, Coroutine, Sequence
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields, StatvfsData

from qarnotfs.core.filesystem import Changes, Filesystem
from qarnotfs.core.inodes import ROOT_NUMBER, Inode
from qarnotfs.core.making import Caller
from qarnotfs.core.names import NAME_BYTES_MAX
from qarnotfs.core.xattrs import Xattrs
from qarnotfs.errors import NoSuchEntry, QarnotfsError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_BYTES = 4096  # what ``st_blksize`` suggests and ``df`` counts in
UNIT_BYTES = 512  # POSIX: ``st_blocks`` counts in these
DOTS = (b".", b"..")
# A number for listed names without an inode. The kernel shows it as ``d_ino``. Of regular files
# it makes one inode with many names, of which it believes nothing: whenever one of them is used
# it is looked up first. Of others, whose type it could not take from each other, it finds the
# attributes impossible (the size), keeps nothing, and gives the lookup back, one by one.
NO_INODE = 1 << 62
IMPOSSIBLE_SIZE = -1
ROOT_UID = 0
# What the log may say of a request when debugging: never what is in a file or an attribute.
TRACED = {
    *("inode", "parent_inode", "parent_inode_old", "parent_inode_new", "fh", "off", "size"),
    *("name", "name_old", "name_new", "mode", "flags", "start_id"),
}


def answers(handler: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn what a handler raises into the one exception pyfuse3 allows; log it when debugging."""

    name, parameters = handler.__name__, tuple(signature(handler).parameters)

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        began_sec, outcome = time.monotonic(), "ok"
        try:
            return await handler(*args, **kwargs)
        except QarnotfsError as error:
            if error.errno == errno.EIO:
                log.warning("%s: %s", name, error)
            outcome = errno.errorcode[error.errno]
            raise pyfuse3.FUSEError(error.errno) from error
        except pyfuse3.FUSEError as error:
            outcome = errno.errorcode[error.errno]
            raise
        except Exception as error:
            log.exception("%s failed", name)
            outcome = "EIO"
            raise pyfuse3.FUSEError(errno.EIO) from error
        finally:
            if log.isEnabledFor(logging.DEBUG):
                spent_ms = 1000 * (time.monotonic() - began_sec)
                said = [f"{n}={a}" for n, a in zip(parameters, args, strict=False) if n in TRACED]
                log.debug("%s(%s): %s in %.1f ms", name, ", ".join(said), outcome, spent_ms)

    return answer


class Operations(pyfuse3.Operations):
    """The handlers of one mount. See `pyfuse3.Operations` for what each is asked."""

    supports_dot_lookup = True

    def __init__(self, filesystem: Filesystem, xattrs: Xattrs) -> None:
        super().__init__()
        self._fs, self._xattrs = filesystem, xattrs

    # --- names --------------------------------------------------------------------------------

    @answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._inode(parent_inode)
        try:
            inode = await self._fs.lookup.lookup(parent, name)
        except NoSuchEntry:
            return self._absent(parent, name)
        return self._looked_up(inode)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, lookups in inode_list:
            self._fs.forget(number, lookups)

    @answers
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._inode(parent_inode)
        return self._looked_up(await self._fs.names.mkdir(parent, name, mode, _caller(ctx)))

    @answers
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._inode(parent_inode)
        made = await self._fs.names.mknod(parent, name, mode, _caller(ctx), rdev)
        return self._looked_up(made)

    @answers
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._inode(parent_inode)
        return self._looked_up(await self._fs.names.symlink(parent, name, target, _caller(ctx)))

    @answers
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        raise pyfuse3.FUSEError(errno.EPERM)  # an object has one key

    @answers
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.names.unlink(self._inode(parent_inode), name)

    @answers
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.names.rmdir(self._inode(parent_inode), name)

    @answers
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        await self._fs.names.rename(
            (self._inode(parent_inode_old), name_old),
            (self._inode(parent_inode_new), name_new),
            replace_target=not flags & pyfuse3.RENAME_NOREPLACE,
        )

    # --- attributes ---------------------------------------------------------------------------

    @answers
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(await self._fs.lookup.getattr(self._inode(inode)))

    @answers
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._attributes(await self._fs.setattr(self._inode(inode), changes))

    @answers
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return await self._fs.names.readlink(self._inode(inode))

    @answers
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._xattrs.get(await self._fs.lookup.getattr(self._inode(inode)), name)

    @answers
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return self._xattrs.names(await self._fs.lookup.getattr(self._inode(inode)))

    @answers
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._xattrs.set(self._inode(inode), name, value)

    @answers
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._xattrs.remove(self._inode(inode), name)

    @answers
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        data = StatvfsData()
        size, free, data.f_files, data.f_ffree = await self._fs.capacity()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks, data.f_bfree = size // BLOCK_BYTES, free // BLOCK_BYTES
        data.f_bavail, data.f_favail = data.f_bfree, data.f_ffree
        data.f_namemax = NAME_BYTES_MAX
        return data

    # --- open files ---------------------------------------------------------------------------

    @answers
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        found = self._inode(inode)
        number = await self._fs.open(found, flags, privileged=ctx.uid == ROOT_UID)
        return FileInfo(fh=number, keep_cache=self._fs.keeps_pages(found))

    @answers
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        inode = await self._fs.names.create(self._inode(parent_inode), name, mode, _caller(ctx))
        number = self._fs.opened(inode, writable=True)
        keep_cache = self._fs.keeps_pages(inode)
        return FileInfo(fh=number, keep_cache=keep_cache), self._looked_up(inode)

    @answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._fs.read(fh, off, size)

    @answers
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self._fs.write(fh, off, buf)
        return len(buf)

    @answers
    async def flush(self, fh: int) -> None:
        await self._fs.flush(fh)

    @answers
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.fsync(fh)

    @answers
    async def release(self, fh: int) -> None:
        await self._fs.release(fh)

    # --- open directories ---------------------------------------------------------------------

    @answers
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return self._fs.opendir(self._inode(inode))

    @answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if start_id == 0:
            self._fs.rewinddir(fh)
        start = max(0, start_id - len(DOTS))
        parent, nodes = await self._fs.entries(fh, start)
        for next_id, name in enumerate(DOTS[start_id:], start_id + 1):
            # The kernel knows what they are, and does not look them up by this.
            dot = parent if name == b"." else parent.parent or parent
            if not pyfuse3.readdir_reply(token, name, self._attributes(dot), next_id):
                return
        for next_id, node in enumerate(nodes, len(DOTS) + start + 1):
            inode = self._fs.lookup.known(parent, node)
            attributes = self._entry(inode) if inode else _only_type(self._fs.lookup.kind(node))
            if not pyfuse3.readdir_reply(token, node.name, attributes, next_id):
                break
            if inode is not None:
                self._tell(inode)
                inode.lookups += 1

    @answers
    async def releasedir(self, fh: int) -> None:
        self._fs.releasedir(fh)

    @answers
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._fs.fsyncdir(fh)

    # --- helpers ------------------------------------------------------------------------------

    def _inode(self, number: int) -> Inode:
        try:
            return self._fs.lookup.inodes.get(number)
        except KeyError:
            raise pyfuse3.FUSEError(errno.ESTALE) from None

    def _looked_up(self, inode: Inode) -> EntryAttributes:
        inode.lookups += 1
        return self._attributes(inode)

    def _attributes(self, inode: Inode) -> EntryAttributes:
        self._tell(inode)
        return self._entry(inode)

    def _tell(self, inode: Inode) -> None:
        inode.told = None if inode.staged else inode.info

    def _entry(self, inode: Inode) -> EntryAttributes:
        posix, size = inode.posix, inode.size
        entry = EntryAttributes()
        entry.st_ino = inode.number
        entry.st_mode = posix.mode
        entry.st_nlink = 0 if inode.detached else 1
        entry.st_rdev = posix.rdev
        entry.st_uid, entry.st_gid = posix.uid, posix.gid
        entry.st_size = size
        entry.st_blksize = BLOCK_BYTES
        entry.st_blocks = -(-size // UNIT_BYTES)
        entry.st_mtime_ns, entry.st_ctime_ns = posix.mtime_ns, posix.ctime_ns
        entry.st_atime_ns = posix.atime_ns
        name_sec, attributes_sec = self._fs.lookup.lasting.left_sec(inode)
        entry.entry_timeout = 0 if inode.guessed else name_sec
        entry.attr_timeout = attributes_sec if inode.exact else 0
        return entry

    def _absent(self, parent: Inode, name: bytes) -> EntryAttributes:
        """No such name, and for how long the kernel need not ask again."""
        left_sec = self._fs.lookup.lasting.absent_sec(parent, name)
        if not left_sec:
            raise pyfuse3.FUSEError(errno.ENOENT)
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = left_sec
        return entry


@functools.cache
def _only_type(kind: int) -> EntryAttributes:
    """What the kernel is told of a name without an inode."""
    entry = EntryAttributes()
    entry.st_ino, entry.st_mode, entry.st_nlink = NO_INODE, kind, 1
    entry.st_size = 0 if kind == stat.S_IFREG else IMPOSSIBLE_SIZE
    entry.entry_timeout = entry.attr_timeout = 0
    return entry


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid)


assert ROOT_NUMBER == pyfuse3.ROOT_INODE
