"""Every error the house raises on purpose, in one tree, each with its errno.

Used by every floor; foreign errors (botocore, awscrt, sqlite, OSError of a full
disk) are translated into these at one place per library. An exception that is
not of this tree is a defect: the kernel's door logs it and answers ``EIO``.

    QarnotfsError                EIO
      InUse                      EBUSY    programs still use the mount
      SyncFailed                 EIO      some files of a synchronisation; see `bucket.report`
      UsageError                 EINVAL   bad input from a person; exit code 2
      NoDaemon                   ENOTCONN no mount process answers here
      FileError                  EIO      what a file system call may answer
        NoSuchEntry ENOENT · EntryExists EEXIST · NotADirectory ENOTDIR
        IsADirectory EISDIR · DirectoryNotEmpty ENOTEMPTY · NotPermitted EPERM
        ReadOnly EROFS · InvalidName EILSEQ · NameTooLong ENAMETOOLONG
        InvalidArgument EINVAL · NotSupported ENOTSUP · NoAttribute ENODATA
        BadHandle EBADF · NoSpace ENOSPC · Stale ESTALE
        NotUploaded EIO          an earlier upload of this file was refused
      StoreError                 EIO      what the object store answered
        NoSuchKey ENOENT         a certain 404 for a key, never a guess
          MissingFile            the same at Python's door, where it is a ValueError too
        NoSuchBucket EIO         an error is never an absence
        PreconditionFailed ESTALE
        Refused EACCES           403 and other answers that repeating will not change
          CredentialsRejected · CredentialsExpired · ClockSkewed
          NoStorage              the account has no object store at all
        Corrupt EIO              bytes whose checksum is wrong
        Unavailable EIO          5xx, throttling, timeout, reset: worth repeating
"""

from __future__ import annotations

import errno


class QarnotfsError(Exception):
    """Root of the tree. ``str(error)`` is one sentence for a person, without secrets."""

    errno: int = errno.EIO
    exit_code: int = 1


class InUse(QarnotfsError):
    """A program still uses the mount that is to go."""

    errno = errno.EBUSY


class UsageError(QarnotfsError):
    """Bad input from a person: the sentence says what to do instead."""

    errno = errno.EINVAL
    exit_code = 2


class NoDaemon(QarnotfsError):
    """The process behind a mount has ended, or there never was one."""

    errno = errno.ENOTCONN


class FileError(QarnotfsError):
    """What a file system call answers."""


class NoSuchEntry(FileError):
    errno = errno.ENOENT


class EntryExists(FileError):
    errno = errno.EEXIST


class NotADirectory(FileError):
    errno = errno.ENOTDIR


class IsADirectory(FileError):
    errno = errno.EISDIR


class DirectoryNotEmpty(FileError):
    errno = errno.ENOTEMPTY


class NotPermitted(FileError):
    errno = errno.EPERM


class ReadOnly(FileError):
    errno = errno.EROFS


class InvalidName(FileError):
    errno = errno.EILSEQ


class NameTooLong(FileError):
    errno = errno.ENAMETOOLONG


class InvalidArgument(FileError):
    errno = errno.EINVAL


class NotSupported(FileError):
    errno = errno.ENOTSUP


class NoAttribute(FileError):
    errno = errno.ENODATA


class BadHandle(FileError):
    errno = errno.EBADF


class NoSpace(FileError):
    errno = errno.ENOSPC


class TooLarge(FileError):
    errno = errno.EFBIG


class Stale(FileError):
    """The version that was opened is no longer in the bucket."""

    errno = errno.ESTALE


class NotUploaded(FileError):
    """The bytes are kept on disk, but the bucket refused them."""


class StoreError(QarnotfsError):
    """What the object store answered, or did not."""


class NoSuchKey(StoreError):
    """A certain absence: 404 with the bucket present. Nothing else may become this."""

    errno = errno.ENOENT


class MissingFile(NoSuchKey, ValueError):
    """`Bucket` was asked for a file that is not there; the SDK documents a ``ValueError``."""


class NoSuchBucket(StoreError):
    """The bucket itself is gone. Not ``ENOENT``: the files were not deleted one by one."""


class PreconditionFailed(StoreError):
    """412: the object is not the version that was named."""

    errno = errno.ESTALE


class Refused(StoreError):
    """A permanent refusal (403, 400, 405 ...): the same request will fail again."""

    errno = errno.EACCES


class CredentialsRejected(Refused):
    """Unknown access key or wrong secret (``InvalidAccessKeyId``, ``SignatureDoesNotMatch``)."""


class CredentialsExpired(Refused):
    """Credentials that were valid once (``ExpiredToken``)."""


class ClockSkewed(Refused):
    """This machine's clock is too far from the server's (``RequestTimeTooSkewed``)."""


class NoStorage(Refused):
    """This account or cluster offers no object store."""


class Corrupt(StoreError):
    """Bytes arrived, but not the ones that were stored or sent."""


class Unavailable(StoreError):
    """No answer, or one that says "later": 5xx, 429, timeout, reset, refused connection."""
