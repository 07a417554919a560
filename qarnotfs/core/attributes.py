"""POSIX attributes <-> an object's user metadata, so that s3fs and rclone read ours and we theirs.

Used by `core` for `stat` and for what an upload carries. It never asks the bucket, and
never fails on what another tool wrote: a value that makes no sense counts as missing.

What is written, and read (names without ``x-amz-meta-``), as seen from s3fs 1.90 and rclone 1.75:

    mode   decimal st_mode with the file type; s3fs's new directories lack the type,
           rclone --metadata writes octal: what cannot be the one is read as the other
    uid, gid              decimal
    mtime, atime, ctime   decimal seconds since 1970; s3fs reads what follows the point as a
           number of nanoseconds, so we write all nine digits or none. rclone drops zeros at
           the end, and writes some times in RFC 3339
    rdev   of a device: its st_rdev in hexadecimal, as rclone writes it; s3fs keeps none
    xattr  a JSON object of names to base64, percent-encoded; the names are not escaped in it

A symbolic link is an object whose bytes are the target, without a NUL at the end. A
directory's object has a key that ends in ``/`` and Content-Type ``application/x-directory``.
"""

from __future__ import annotations

import base64
import mimetypes
import posixpath
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from qarnotfs.errors import InvalidArgument, NoSpace

NS = 10**9  # nanoseconds of a second
METADATA_BYTES_MAX = 2048  # S3: names and values of one object's user metadata
DIRECTORY_TYPE = "application/x-directory"
UNKNOWN_TYPE = "application/octet-stream"

NOTHING: Mapping[str, Any] = MappingProxyType({})

_HEADER = "x-amz-meta-"  # S3 does not say whether it counts; counting it is the safe side
_TIME_NS_MAX = 2**63 - 1  # what an st_mtime holds in nanoseconds: the year 2262
_LONGEST_NS = -_TIME_NS_MAX  # no time takes more characters
_ID_MAX = 2**32 - 2  # the last one, (uid_t) -1, means "unchanged" to chown
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_FILE_TYPES = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, *_DEVICES)

_WHOLE = re.compile(r"[0-9]{1,10}")
_OCTAL = re.compile(r"[0-7]{1,10}")
_DEVICE = re.compile(r"[0-9a-f]{1,8}")  # FUSE has 32 bits for it
_DECIMAL_TIME = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]+))?")
_RFC3339_TIME = re.compile(r"([0-9-]{10}T[0-9:]{8})(?:\.([0-9]+))?(Z|[+-][0-9:]{5})")
_XATTR = re.compile(rb'"(.+?)":"([A-Za-z0-9+/]*={0,2})"(?:,(?=")|\Z)', re.DOTALL)

# The table inside Python only: /etc/mime.types differs from machine to machine. It lacks
# compressions, because it takes them for encodings of what is inside.
_TYPES = mimetypes.MimeTypes().types_map[True] | {
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".md": "text/markdown",  # in Python's own table from 3.13 on
}


class Posix(NamedTuple):
    """What ``stat`` says of an object, but for its size, and what else is stored with it.

    ``mode`` is the whole st_mode with the file type; times in nanoseconds since 1970.
    ``xattrs`` by full name (``user.x``; bytes that are not UTF-8 as surrogates). ``extra``:
    metadata of other tools, to be kept as long as the content is. ``rdev``: of a device.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    xattrs: Mapping[str, bytes] = NOTHING
    extra: Mapping[str, str] = NOTHING
    rdev: int = 0


@dataclass(frozen=True, slots=True)
class Defaults:
    """For objects that do not say: owner, and permission bits of files and directories."""

    uid: int
    gid: int
    file_mode: int = 0o644
    dir_mode: int = 0o755

    def mode(self, is_directory: bool) -> int:
        """The whole st_mode."""
        return stat.S_IFDIR | self.dir_mode if is_directory else stat.S_IFREG | self.file_mode


def encode(posix: Posix) -> dict[str, str]:
    """The user metadata to store, ASCII but for what `Posix.extra` brings."""
    ours = {
        "atime": _time_text(posix.atime_ns),
        "ctime": _time_text(posix.ctime_ns),
        "gid": str(posix.gid),
        "mode": str(posix.mode),
        "mtime": _time_text(posix.mtime_ns),
        "uid": str(posix.uid),
    }
    if stat.S_IFMT(posix.mode) in _DEVICES:
        ours["rdev"] = f"{posix.rdev:x}"
    if posix.xattrs:
        ours["xattr"] = _xattrs_text(posix.xattrs)
    return {**posix.extra, **ours}


def decode(
    metadata: Mapping[str, str] | None,
    *,
    modified_sec: int,
    is_directory: bool,
    defaults: Defaults,
) -> Posix:
    """The attributes of an object with this metadata; ``None``: not known, as in a listing.

    ``modified_sec`` (LastModified) stands in for times that are missing, but for atime, which
    falls back to mtime. ``is_directory``: the key says so; metadata cannot contradict it.
    """
    if not metadata:  # of nearly everything that is listed
        ns = modified_sec * NS
        return Posix(defaults.mode(is_directory), defaults.uid, defaults.gid, ns, ns, ns)
    rest = dict(metadata)
    mode = _first(_mode(rest.pop("mode", ""), is_directory), defaults.mode(is_directory))
    is_device = stat.S_IFMT(mode) in _DEVICES
    uid = _id(rest.pop("uid", ""))
    gid = _id(rest.pop("gid", ""))
    modified_ns = modified_sec * NS
    mtime_ns = _first(_time_ns(rest.pop("mtime", "")), modified_ns)
    atime_ns = _first(_time_ns(rest.pop("atime", "")), mtime_ns)
    ctime_ns = _first(_time_ns(rest.pop("ctime", "")), modified_ns)
    xattrs = _xattrs(rest.get("xattr", ""))
    if xattrs is not None:
        rest.pop("xattr", None)
    return Posix(
        mode=mode,
        uid=_first(uid, defaults.uid),
        gid=_first(gid, defaults.gid),
        mtime_ns=mtime_ns,
        atime_ns=atime_ns,
        ctime_ns=ctime_ns,
        xattrs=xattrs or {},
        rdev=_rdev(rest.pop("rdev", "")) if is_device else 0,
        extra=rest,
    )


def check(posix: Posix) -> None:
    """Make sure that the extended attributes can be stored and will be read back as they are.

    `NoSpace` when the metadata is larger than S3 takes, whatever times a write gives it later;
    `InvalidArgument` for a name that s3fs's encoding cannot tell from the end of a value.
    """
    if posix.xattrs and _xattrs(_xattrs_text(posix.xattrs)) != posix.xattrs:
        raise InvalidArgument("An extended attribute has a name that cannot be stored.")
    longest = posix._replace(mtime_ns=_LONGEST_NS, atime_ns=_LONGEST_NS, ctime_ns=_LONGEST_NS)
    stored = "".join(_HEADER + name + value for name, value in encode(longest).items())
    size = len(stored.encode(errors="surrogatepass"))
    if size > METADATA_BYTES_MAX:
        raise NoSpace(
            f"Attributes of {size} bytes do not fit beside an object: "
            f"{METADATA_BYTES_MAX} at most, as text."
        )


def nearest_ns(time_ns: int) -> int:
    """The nearest time that can be stored, as disks do it with dates beyond theirs."""
    return max(-_TIME_NS_MAX, min(time_ns, _TIME_NS_MAX))


def content_type(key: str, mode: int) -> str:
    """The Content-Type of an object, from the last suffix of its name.

    A symbolic link has the type of its own name, as s3fs does it.
    """
    if stat.S_ISDIR(mode):
        return DIRECTORY_TYPE
    suffix = posixpath.splitext(posixpath.basename(key))[1]
    return _TYPES.get(suffix.lower(), UNKNOWN_TYPE)


def _mode(text: str, is_directory: bool) -> int | None:
    """A whole st_mode that an object of this kind can have; ``None``: makes no sense."""
    if not _WHOLE.fullmatch(text):
        return None
    octal_marked = text.startswith("0")
    types = (stat.S_IFDIR,) if is_directory else _FILE_TYPES
    if not octal_marked and (mode := _typed(int(text), types, types[0])):
        return mode
    # rclone has regular files, links and directories only, and always writes the type.
    if _OCTAL.fullmatch(text):
        return _typed(int(text, 8), types[:2], types[0] if octal_marked else None)
    return None


def _typed(mode: int, types: tuple[int, ...], default: int | None) -> int | None:
    """``mode`` if it has one of ``types``, or, where there is a ``default``, no type at all."""
    kind = mode & ~0o7777
    if kind in types:
        return mode
    return default | mode if kind == 0 and default is not None else None


def _id(text: str) -> int | None:
    if not _WHOLE.fullmatch(text) or int(text) > _ID_MAX:
        return None
    return int(text)


def _rdev(text: str) -> int:
    return int(text, 16) if _DEVICE.fullmatch(text) else 0


def _time_ns(text: str) -> int | None:
    """Either form of time, exactly; digits beyond nanoseconds are dropped."""
    if match := _DECIMAL_TIME.fullmatch(text):
        sign, seconds, fraction = match.groups()
        size_ns = int(seconds) * NS + _fraction_ns(fraction)
        time_ns = -size_ns if sign else size_ns
    elif match := _RFC3339_TIME.fullmatch(text):
        day_and_time, fraction, zone = match.groups()
        try:
            since_epoch = datetime.fromisoformat(day_and_time + zone) - _EPOCH
        except ValueError:
            return None
        time_ns = since_epoch // timedelta(seconds=1) * NS + _fraction_ns(fraction)
    else:
        return None
    return time_ns if abs(time_ns) <= _TIME_NS_MAX else None


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "")[:9].ljust(9, "0"))


def _time_text(time_ns: int) -> str:
    """Decimal seconds. s3fs writes times before 1970 otherwise: -1.5 for half a second before."""
    seconds, fraction_ns = divmod(abs(time_ns), NS)
    sign = "-" if time_ns < 0 else ""
    return f"{sign}{seconds}.{fraction_ns:09d}" if fraction_ns else f"{sign}{seconds}"


def _xattrs(text: str) -> dict[str, bytes] | None:
    """Extended attributes by name; ``None``: not in s3fs's form, so of someone else."""
    whole = unquote_to_bytes(text.encode(errors="surrogatepass"))
    if not (whole.startswith(b"{") and whole.endswith(b"}")):
        return {} if not text else None
    found: dict[str, bytes] = {}
    at, inside = 0, whole[1:-1]
    while at < len(inside):
        pair = _XATTR.match(inside, at)
        if pair is None or len(pair[2]) % 4:
            return None
        found[pair[1].decode(errors="surrogateescape")] = base64.b64decode(pair[2])
        at = pair.end()
    return found


def _xattrs_text(xattrs: Mapping[str, bytes]) -> str:
    pairs = sorted((name.encode(errors="surrogateescape"), xattrs[name]) for name in xattrs)
    inside = b",".join(b'"%b":"%b"' % (name, base64.b64encode(value)) for name, value in pairs)
    return quote(b"{" + inside + b"}")


def _first(value: int | None, default: int) -> int:
    return default if value is None else value
