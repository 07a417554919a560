"""Attributes held against what s3fs and rclone write and read, as it was seen of them."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.core.attributes import NS, Defaults, Posix, decode, encode

DEFAULTS = Defaults(uid=1000, gid=1001)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ids = st.integers(0, 2**32 - 2)
permissions = st.integers(0, 0o7777)
# s3fs keeps no number of a device, and cannot read back what it writes of times before 1970.
s3fs_types = st.sampled_from(
    [stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]
)
s3fs_times_ns = st.integers(0, 2**63 - 1)
rclone_times_ns = st.integers(-(10**9) * NS, 2**63 - 1)
xattrs = st.dictionaries(
    st.text(min_size=1, max_size=9).filter(lambda name: '"' not in name).map("user.{}".format),
    st.binary(max_size=9),
    max_size=3,
)


def read(metadata: dict[str, str], *, is_directory: bool = False) -> Posix:
    return decode(metadata, modified_sec=7, is_directory=is_directory, defaults=DEFAULTS)


# --- s3fs 1.90 ------------------------------------------------------------------------------


def s3fs_time(time_ns: int) -> str:
    """Whole seconds as a number; else nine digits behind a point."""
    seconds, ns = divmod(time_ns, NS)
    return f"{seconds}.{ns:09d}" if ns else str(seconds)


def s3fs_read_time(text: str) -> int:
    """What follows the point is a number of nanoseconds."""
    seconds, _, ns = text.partition(".")
    return int(seconds) * NS + int(ns or 0)


def s3fs_metadata(posix: Posix) -> dict[str, str]:
    is_directory = stat.S_ISDIR(posix.mode)
    return {
        "mode": str(stat.S_IMODE(posix.mode) if is_directory else posix.mode),
        "uid": str(posix.uid),
        "gid": str(posix.gid),
        "mtime": s3fs_time(posix.mtime_ns),
        "atime": s3fs_time(posix.atime_ns),
        "ctime": s3fs_time(posix.ctime_ns),
    }


of_s3fs = st.builds(
    Posix,
    mode=st.builds(int.__or__, s3fs_types, permissions),
    uid=ids,
    gid=ids,
    mtime_ns=s3fs_times_ns,
    atime_ns=s3fs_times_ns,
    ctime_ns=s3fs_times_ns,
    xattrs=st.just({}),
    extra=st.just({}),
    rdev=st.just(0),
)


@given(of_s3fs)
def test_s3fs_file_is_read_and_written_back_as_it_was(posix: Posix) -> None:
    stored = s3fs_metadata(posix)
    assert read(stored) == posix
    written = encode(read(stored))
    written.pop("rdev", None)  # which s3fs leaves alone
    assert written == stored


@given(of_s3fs, permissions)
def test_s3fs_directory(posix: Posix, bits: int) -> None:
    posix = posix._replace(mode=stat.S_IFDIR | bits)
    assert read(s3fs_metadata(posix), is_directory=True) == posix
    assert read(encode(posix), is_directory=True) == posix


@given(of_s3fs, xattrs)
def test_s3fs_reads_ours(posix: Posix, of_user: dict[str, bytes]) -> None:
    stored = encode(posix._replace(xattrs=of_user))
    assert int(stored["mode"], 10) == posix.mode
    assert (int(stored["uid"], 10), int(stored["gid"], 10)) == (posix.uid, posix.gid)
    assert s3fs_read_time(stored["mtime"]) == posix.mtime_ns
    assert read(stored).xattrs == of_user
    # It unquotes the value, and then looks for names and values between quotation marks.
    if of_user:
        assert stored["xattr"].startswith(quote('{"user.'))
        assert stored["xattr"].endswith(quote('"}'))


# --- rclone 1.75 ------------------------------------------------------------------------------


def rclone_mtime(time_ns: int) -> str:
    """Decimal seconds without zeros at the end, the sign in front."""
    seconds, ns = divmod(abs(time_ns), NS)
    fraction = f".{ns:09d}".rstrip("0").rstrip(".")
    return f"{'-' if time_ns < 0 else ''}{seconds}{fraction}"


def rclone_read_mtime(text: str) -> int:
    """The digits without their point are nanoseconds, once there are nine behind it."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(9, "0"))


def rclone_text_time(time_ns: int) -> str:
    """RFC 3339 in UTC, without zeros at the end."""
    seconds, ns = divmod(time_ns, NS)
    day = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return day + f".{ns:09d}".rstrip("0").rstrip(".") + "Z"


rclone_modes = st.builds(
    int.__or__, st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR]), permissions
)


@given(rclone_modes, ids, ids, rclone_times_ns, rclone_times_ns)
def test_rclone_metadata_is_read(
    mode: int, uid: int, gid: int, mtime_ns: int, atime_ns: int
) -> None:
    stored = {
        "mode": f"{mode:o}",
        "uid": str(uid),
        "gid": str(gid),
        "mtime": rclone_mtime(mtime_ns),
        "atime": rclone_text_time(atime_ns),
        "btime": rclone_text_time(atime_ns),
    }
    posix = read(stored, is_directory=stat.S_ISDIR(mode))
    assert (posix.mode, posix.uid, posix.gid) == (mode, uid, gid)
    assert (posix.mtime_ns, posix.atime_ns) == (mtime_ns, atime_ns)
    assert posix.extra == {"btime": stored["btime"]}
    # Written back, it is rclone's own as before, and the rest in the form that s3fs reads.
    again = encode(posix)
    assert again["btime"] == stored["btime"]
    assert int(again["mode"], 10) == mode


@given(rclone_times_ns)
def test_rclone_reads_our_mtime(time_ns: int) -> None:
    stored = encode(Posix(stat.S_IFREG, 0, 0, time_ns, time_ns, time_ns))
    assert rclone_read_mtime(stored["mtime"]) == time_ns
