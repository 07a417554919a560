"""Attributes: what s3fs and rclone wrote is read, what we write is read back exactly."""

from __future__ import annotations

import stat
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qarnotfs.core.attributes import (
    METADATA_BYTES_MAX,
    Defaults,
    Posix,
    check,
    content_type,
    decode,
    encode,
)
from qarnotfs.errors import InvalidArgument, NoSpace

DEFAULTS = Defaults(uid=1000, gid=1001, file_mode=0o640, dir_mode=0o750)
MODIFIED_SEC = 1_700_000_000
PLAIN = Posix(
    mode=0o100640,
    uid=1000,
    gid=1001,
    mtime_ns=MODIFIED_SEC * 10**9,
    atime_ns=MODIFIED_SEC * 10**9,
    ctime_ns=MODIFIED_SEC * 10**9,
)

times_ns = st.integers(-(2**63) + 1, 2**63 - 1)
ids = st.integers(0, 2**32 - 2)
permissions = st.integers(0, 0o7777)
file_types = st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK])
OURS = ("mode", "uid", "gid", "mtime", "atime", "ctime", "xattr")


def read(metadata: Mapping[str, str] | None, *, is_directory: bool = False) -> Posix:
    return decode(metadata, modified_sec=MODIFIED_SEC, is_directory=is_directory, defaults=DEFAULTS)


def fits(posix: Posix) -> bool:
    try:
        check(posix)
    except NoSpace:
        return False
    return True


class TestRoundTrip:
    @given(
        st.builds(
            Posix,
            mode=st.builds(int.__or__, file_types, permissions),
            uid=ids,
            gid=ids,
            mtime_ns=times_ns,
            atime_ns=times_ns,
            ctime_ns=times_ns,
            xattrs=st.dictionaries(
                st.text('ab.{}",:\\%é ', min_size=1).filter(lambda name: '","' not in name),
                st.binary(max_size=9),
                max_size=4,
            ),
            extra=st.dictionaries(st.text().filter(lambda name: name not in OURS), st.text()),
            rdev=st.just(0),
        )
    )
    def test_file(self, posix: Posix) -> None:
        assert read(encode(posix)) == posix

    @given(st.sampled_from([stat.S_IFCHR, stat.S_IFBLK]), permissions, st.integers(0, 2**32 - 1))
    def test_device(self, kind: int, bits: int, rdev: int) -> None:
        posix = PLAIN._replace(mode=kind | bits, rdev=rdev)
        assert read(encode(posix)) == posix

    @given(permissions)
    def test_directory(self, bits: int) -> None:
        posix = PLAIN._replace(mode=stat.S_IFDIR | bits)
        assert read(encode(posix), is_directory=True) == posix

    @given(times_ns)
    def test_ours_is_text_that_a_header_can_carry(self, time_ns: int) -> None:
        posix = PLAIN._replace(mtime_ns=time_ns, xattrs={"user.\udcffé\n": b"\0\xff"})
        assert all(value.isascii() and value.isprintable() for value in encode(posix).values())
        assert read(encode(posix)) == posix

    def test_extra_never_wins(self) -> None:
        assert encode(PLAIN._replace(extra={"uid": "7", "hello": "x"}))["uid"] == "1000"


class TestS3fs:
    """Values stored by s3fs 1.90 in a Ceph gateway."""

    def test_file(self) -> None:
        posix = read(
            {
                "atime": "981173106.000000007",
                "ctime": "981173106.000000007",
                "gid": "100",
                "mode": "33184",
                "mtime": "981173106.123456789",
                "uid": "1000",
                "xattr": "%7B%22user.one%22%3A%22djE%3D%22%2C%22user.%C3%A9%22b%22%3A%22AP8K%22%7D",
            }
        )
        assert posix == Posix(
            mode=0o100640,
            uid=1000,
            gid=100,
            mtime_ns=981173106_123456789,
            atime_ns=981173106_000000007,
            ctime_ns=981173106_000000007,
            xattrs={"user.one": b"v1", 'user.é"b': b"\0\xff\n"},
        )

    def test_is_written_as_s3fs_writes_it(self) -> None:
        stored = {
            "atime": "1795373488",
            "ctime": "1795373489",
            "gid": "0",
            "mode": "33188",
            "mtime": "981173106.120000000",
            "uid": "0",
            "xattr": "%7B%22security.x%22%3A%22Mg%3D%3D%22%2C"
            "%22user.a%2Bb%20c~%2A-._%28%29/%27%21%40%24%22%3A%22%2B//%2B%22%7D",
        }
        posix = read(stored)
        assert posix.xattrs == {"security.x": b"2", "user.a+b c~*-._()/'!@$": b"\xfb\xff\xfe"}
        assert encode(posix) == stored

    @pytest.mark.parametrize(
        ("written", "mode"), [("493", 0o40755), ("16832", 0o40700), ("17407", 0o41777)]
    )
    def test_directory(self, written: str, mode: int) -> None:
        assert read({"mode": written}, is_directory=True).mode == mode

    @pytest.mark.parametrize(
        ("written", "mode"), [("41471", 0o120777), ("4516", 0o10644), ("36772", 0o107644)]
    )
    def test_file_types_and_set_user_id(self, written: str, mode: int) -> None:
        assert read({"mode": written}).mode == mode

    @pytest.mark.parametrize(("written", "mode"), [("8612", 0o20644), ("24996", 0o60644)])
    def test_devices_of_which_it_keeps_no_number(self, written: str, mode: int) -> None:
        assert read({"mode": written}) == PLAIN._replace(mode=mode)


class TestRclone:
    """Values stored by rclone 1.75, without and with --metadata."""

    @pytest.mark.parametrize(
        ("written", "time_ns"),
        [
            ("981173106", 981173106_000000000),
            ("1795373490.96035364", 1795373490_960353640),
            ("-0.25", -250_000_000),
            ("-1.75", -1_750_000_000),
        ],
    )
    def test_mtime(self, written: str, time_ns: int) -> None:
        assert read({"mtime": written}).mtime_ns == time_ns

    def test_with_metadata(self) -> None:
        posix = read(
            {
                "atime": "2026-11-22T18:51:30.946531912Z",
                "btime": "2026-11-22T18:51:30.786531916Z",
                "gid": "0",
                "hello": "world",
                "mode": "100644",
                "mtime": "981173106.123456789",
                "uid": "0",
            }
        )
        assert posix.mode == 0o100644
        assert posix.atime_ns == 1795373490_946531912
        assert posix.extra == {"btime": "2026-11-22T18:51:30.786531916Z", "hello": "world"}

    def test_device_number_in_hexadecimal(self) -> None:
        posix = read({"mode": "8612", "rdev": "103"})
        assert (posix.mode, posix.rdev) == (0o20644, 0x103)
        assert encode(posix)["rdev"] == "103"
        assert encode(read({"mode": "33188", "rdev": "103"}))["rdev"] == "103"  # not ours: kept

    def test_link_and_directory_in_octal(self) -> None:
        assert read({"mode": "120777"}).mode == 0o120777
        assert read({"mode": "41777"}, is_directory=True).mode == 0o41777


class TestDefaults:
    @pytest.mark.parametrize("nothing", [None, {}])
    def test_nothing_known(self, nothing: dict[str, str] | None) -> None:
        assert read(nothing) == PLAIN
        assert read(nothing, is_directory=True) == PLAIN._replace(mode=0o40750)

    def test_times_that_are_missing(self) -> None:
        posix = read({"mtime": "5.5"})
        assert (posix.mtime_ns, posix.atime_ns) == (5_500_000_000, 5_500_000_000)
        assert posix.ctime_ns == PLAIN.ctime_ns

    @pytest.mark.parametrize("is_directory", [False, True])
    @pytest.mark.parametrize(
        "mode", ["", "rw", "-1", "1e3", "٣٣١٨٨", "33188 ", "9" * 5000, "131072", "65535", "8192x"]
    )
    def test_broken_modes(self, mode: str, is_directory: bool) -> None:
        assert read({"mode": mode}, is_directory=is_directory).mode == DEFAULTS.mode(is_directory)

    @pytest.mark.parametrize("mode", ["16877", "16777", "40755"])
    def test_mode_of_another_kind(self, mode: str) -> None:
        assert read({"mode": mode}).mode == PLAIN.mode

    def test_file_mode_on_a_directory(self) -> None:
        assert read({"mode": "33188"}, is_directory=True).mode == 0o40750

    def test_mode_without_type(self) -> None:
        assert read({"mode": "0600"}).mode == 0o100600
        assert read({"mode": "384"}).mode == 0o100600

    @pytest.mark.parametrize("broken", ["", "x", "-1", "4294967295", "9" * 5000, "1.0", "٣"])
    def test_broken_ids(self, broken: str) -> None:
        posix = read({"uid": broken, "gid": broken})
        assert (posix.uid, posix.gid) == (DEFAULTS.uid, DEFAULTS.gid)

    @pytest.mark.parametrize(
        "broken",
        [
            *("", "x", "1e9", "nan", "1.", ".5", "9223372037", "9" * 5000, "٣"),
            *("2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01"),
            *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
        ],
    )
    def test_broken_times(self, broken: str) -> None:
        assert read({"mtime": broken, "atime": broken, "ctime": broken}) == PLAIN

    @given(st.dictionaries(st.sampled_from(OURS), st.text("0123456789-.:TZ+%7B22,{}\"'e\udc80é")))
    @example({"xattr": "%7B" * 100})
    def test_garbage_never_raises(self, metadata: dict[str, str]) -> None:
        for is_directory in (False, True):
            posix = read(metadata, is_directory=is_directory)
            assert stat.S_ISDIR(posix.mode) == is_directory
            assert read(encode(posix), is_directory=is_directory) == posix


class TestTimes:
    def test_digits_beyond_nanoseconds_are_dropped(self) -> None:
        assert read({"mtime": "1.1234567899"}).mtime_ns == 1_123456789

    def test_no_float_comes_near(self) -> None:
        assert read({"mtime": "1700000000.000000001"}).mtime_ns == 1_700_000_000_000_000_001

    def test_zone(self) -> None:
        assert read({"mtime": "1970-01-01T01:00:00.5+01:00"}).mtime_ns == 500_000_000
        assert read({"mtime": "1969-12-31T23:59:59.75Z"}).mtime_ns == -250_000_000


class TestXattrs:
    def test_of_someone_else_are_kept_as_they_are(self) -> None:
        for foreign in ("hello", "%7B%22user.a%22%3A%22no base64!%22%7D", "%7B%22user.a%22%7D"):
            posix = read({"xattr": foreign})
            assert posix.xattrs == {}
            assert encode(posix)["xattr"] == foreign

    def test_none(self) -> None:
        assert read({"xattr": "%7B%7D"}) == PLAIN
        assert "xattr" not in encode(PLAIN)

    @given(st.integers(0, 3000))
    @example(1377)  # the last that fits
    @example(1378)
    def test_room(self, size: int) -> None:
        longest_ns = -(2**63 - 1)
        posix = PLAIN._replace(
            xattrs={"user.a": b"x" * size},
            mtime_ns=longest_ns,
            atime_ns=longest_ns,
            ctime_ns=longest_ns,
        )
        stored_bytes = sum(len(name + value) for name, value in encode(posix).items())
        prefixes_bytes = len(OURS) * len("x-amz-meta-")  # S3 may count them
        assert fits(posix) == (stored_bytes <= METADATA_BYTES_MAX - prefixes_bytes)

    @given(st.integers(0, 3000), times_ns, times_ns, times_ns)
    @example(1378, *[1_700_000_000_999_999_999] * 3)
    def test_what_fits_does_so_with_any_times(
        self, size: int, mtime_ns: int, atime_ns: int, ctime_ns: int
    ) -> None:
        posix = PLAIN._replace(xattrs={"user.a": b"x" * size})
        later = posix._replace(mtime_ns=mtime_ns, atime_ns=atime_ns, ctime_ns=ctime_ns)
        assert fits(posix) == fits(later)

    def test_metadata_of_others_takes_room_too(self) -> None:
        check(PLAIN._replace(extra={"a": "x" * 1500}))
        with pytest.raises(NoSpace, match="2048 at most"):
            check(PLAIN._replace(extra={"a": "é" * 1500}))

    def test_name_that_reads_as_two(self) -> None:
        check(PLAIN._replace(xattrs={'user.a":"b': b"1"}))
        with pytest.raises(InvalidArgument):
            check(PLAIN._replace(xattrs={'user.a":"MQ==","user.b': b"1"}))


class TestContentType:
    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("plain.txt", "text/plain"),
            ("F.TXT", "text/plain"),
            ("a/b.c/index.html", "text/html"),
            ("b.json", "application/json"),
            ("a.tar.gz", "application/gzip"),
            ("noext", "application/octet-stream"),
            ("dir.html/noext", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("weird.unknownext", "application/octet-stream"),
            ("data:text.html,x", "application/octet-stream"),
            ("", "application/octet-stream"),
        ],
    )
    def test_of_files(self, key: str, expected: str) -> None:
        assert content_type(key, 0o100644) == expected

    def test_of_directories_and_links(self) -> None:
        assert content_type("a.html/", 0o40755) == "application/x-directory"
        assert content_type("l.html", 0o120777) == "text/html"

    def test_machines_own_table_is_not_asked(self) -> None:
        import mimetypes

        mimetypes.add_type("text/x-surprise", ".surprise")
        assert content_type("a.surprise", 0o100644) == "application/octet-stream"
