"""What s3fs and rclone make of our modes, owners, times and links, and we of theirs."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers import OURS, RCLONE, S3FS
from tests.s5_mount.peering import Clients, Node, comes_to, look, make_all, names_below, seen
from tests.support import eventually

ROOT = os.geteuid() == 0  # who else may neither give files away nor make devices?
OWNER = (1234, 5678) if ROOT else (os.geteuid(), os.getegid())
NS = 981_173_106_123_456_789
WHOLE, TENTH = 981_173_106 * 10**9, 981_173_106 * 10**9 + 5 * 10**8

FILES = {
    "plain": Node(stat.S_IFREG | 0o640, NS, OWNER, b"hello"),
    "setuid": Node(stat.S_IFREG | 0o4751, WHOLE, OWNER, b"1"),
    "setgid": Node(stat.S_IFREG | 0o2710, TENTH, OWNER, b"2"),
    "sticky": Node(stat.S_IFREG | 0o1604, 4_102_444_800_000_000_001, OWNER, b"3"),  # in 2100
    "nothing": Node(stat.S_IFREG | 0o000, 10**9 + 1, OWNER),
}
LINKS = {
    "link": Node(stat.S_IFLNK | 0o777, NS, OWNER, b"plain"),
    "broken": Node(stat.S_IFLNK | 0o777, TENTH, OWNER, "/no/such pläce".encode()),
    "long": Node(stat.S_IFLNK | 0o777, WHOLE, OWNER, b"x/" * 2000),
}
DIRECTORIES = {
    "empty": Node(stat.S_IFDIR | 0o1777, NS, OWNER),
    "shared": Node(stat.S_IFDIR | 0o2775, TENTH, OWNER),
    "shared/inner": Node(stat.S_IFDIR | 0o700, WHOLE, OWNER),
    "shared/inner/file": Node(stat.S_IFREG | 0o600, NS, OWNER, b"deep"),
}
XATTRS = {
    "described": Node(
        *(stat.S_IFREG | 0o644, NS, OWNER, b"x"),
        xattrs={"user.one": b"v1", "user.é b": b"\0\xff\n", "user.+/%*": b"\xfb\xff"},
    ),
    "folder": Node(stat.S_IFDIR | 0o755, NS, OWNER, xattrs={"user.of": b"a directory"}),
}
SPECIAL = {
    "fifo": Node(stat.S_IFIFO | 0o640, NS, OWNER),
    "socket": Node(stat.S_IFSOCK | 0o755, NS, OWNER),
}
if ROOT:
    SPECIAL["char"] = Node(stat.S_IFCHR | 0o600, NS, OWNER, rdev=os.makedev(1, 3))
    SPECIAL["block"] = Node(stat.S_IFBLK | 0o660, NS, OWNER, rdev=os.makedev(259, 300))
TREE = FILES | LINKS | DIRECTORIES | XATTRS | SPECIAL


def without_numbers(nodes: dict[str, Node]) -> dict[str, Node]:
    """s3fs keeps of a device that it is one, and not which."""
    return {name: replace(node, rdev=0) for name, node in nodes.items()}


def as_regular(nodes: dict[str, Node]) -> dict[str, tuple[int, int, bytes]]:
    """What rclone shows of files: no owners and no modes, and of links where they lead."""
    return {
        name: (stat.S_IFREG, node.mtime_ns, node.content)
        for name, node in nodes.items()
        if not stat.S_ISDIR(node.mode)
    }


def files_below(path: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        name: (stat.S_IFMT(node.mode), node.mtime_ns, node.content)
        for name, node in seen(path).items()
        if not stat.S_ISDIR(node.mode)
    }


def test_ours_are_read_by_s3fs(clients: Clients) -> None:
    make_all(clients.paths[OURS] / "ours", TREE)
    clients.ours.flush()
    assert seen(clients.paths[OURS] / "ours") == TREE
    assert seen(clients.paths[S3FS] / "ours") == without_numbers(TREE)


def test_those_of_s3fs_are_read_by_us(clients: Clients) -> None:
    make_all(clients.paths[S3FS] / "theirs", TREE)
    assert seen(clients.paths[OURS] / "theirs") == without_numbers(TREE)


def test_ours_are_read_by_rclone(clients: Clients) -> None:
    """It has neither modes nor owners, and takes all that is no directory for a file."""
    top = clients.paths[OURS] / "for-rclone"
    make_all(top, TREE)
    clients.ours.flush()
    comes_to(lambda: files_below(clients.look_anew() / "for-rclone"), as_regular(TREE))
    folders = {f"{name}/" for name, node in TREE.items() if stat.S_ISDIR(node.mode)}
    assert names_below(clients.paths[RCLONE] / "for-rclone") == folders | as_regular(TREE).keys()


@pytest.mark.parametrize(
    ("writer", "options"), [(OURS, ()), (OURS, ("--metadata",)), (S3FS, ("--metadata",))]
)
def test_what_rclone_copies_out(
    clients: Clients, writer: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """All bytes and times. It reads our modes, as those of s3fs, in octal: they may be others."""
    name = f"out-{writer}-{len(options)}"
    make_all(clients.paths[writer] / name, TREE)
    clients.ours.flush()
    clients.rclone("copy", *options, "--create-empty-src-dirs", clients.remote(name), tmp_path)
    assert files_below(tmp_path) == as_regular(TREE)
    assert (tmp_path / "empty").is_dir()


def test_what_rclone_copies_is_read_by_us(clients: Clients, tmp_path: Path) -> None:
    """With its metadata: modes in octal, times as text; a link has a suffix in its name."""
    written = FILES | LINKS | DIRECTORIES
    make_all(tmp_path / "local", written)
    options = ("--metadata", "--links", "--create-empty-src-dirs", "--s3-directory-markers")
    clients.rclone("copy", *options, tmp_path / "local", clients.remote("copy"))
    found = seen(clients.paths[OURS] / "copy")
    links = {f"{name}.rclonelink": node for name, node in LINKS.items()}
    files = {name: node for name, node in written.items() if stat.S_ISREG(node.mode)}
    assert {name: found[name] for name in files | links} == files | links
    assert set(found) == {*files, *links, *DIRECTORIES}


def test_what_is_written_through_rclone_is_read_by_us(clients: Clients) -> None:
    top = clients.paths[RCLONE] / "through-rclone"
    folders = {"d": WHOLE, "d/empty": WHOLE}
    files = {"whole": WHOLE, "tenth": TENTH, "d/ns": NS}
    top.mkdir()
    for name in folders:
        (top / name).mkdir()
    for name in files:
        (top / name).write_bytes(name.encode())
    # A time that changes while a file is sent makes rclone wait, and for long remember too much.
    eventually(lambda: {top.name + "/" + name for name in files} <= set(clients.keys(top.name)))
    for name, mtime_ns in files.items():
        os.utime(top / name, ns=(mtime_ns, mtime_ns))
    (top / "link").symlink_to("d/ns")
    ours = clients.paths[OURS] / "through-rclone"
    expected = as_regular(
        {name: Node(stat.S_IFREG, ns, content=name.encode()) for name, ns in files.items()}
    )

    def shown() -> dict[str, tuple[int, int, bytes]]:
        return {n: node for n, node in files_below(ours).items() if "link" not in n}

    comes_to(shown, expected)
    comes_to((ours / "link.rclonelink").read_bytes, b"d/ns")
    assert all((ours / name).is_dir() for name in folders)


def test_umask_counts_for_all_of_us(clients: Clients) -> None:
    before = os.umask(0o027)
    try:
        for name in (OURS, S3FS):
            top = clients.paths[name] / f"masked-by-{name}"
            top.mkdir()
            (top / "folder").mkdir()
            (top / "file").touch()
    finally:
        os.umask(before)
    clients.ours.flush()
    for reader in (OURS, S3FS):
        for writer in (OURS, S3FS):
            found = seen(clients.paths[reader] / f"masked-by-{writer}")
            assert found["folder"].mode == stat.S_IFDIR | 0o750
            assert found["file"].mode == stat.S_IFREG | 0o640


class TestChanges:
    """One client changes what the other has written."""

    def test_by_s3fs_of_ours(self, clients: Clients) -> None:
        top = clients.paths[OURS] / "changed-by-s3fs"
        make_all(top, TREE)
        clients.ours.flush()
        change(clients.paths[S3FS] / "changed-by-s3fs")
        assert_changed(top, TREE)

    def test_by_us_of_what_s3fs_wrote(self, clients: Clients) -> None:
        top = clients.paths[S3FS] / "changed-by-us"
        make_all(top, TREE)
        change(clients.paths[OURS] / "changed-by-us")
        clients.ours.flush()
        assert_changed(top, without_numbers(TREE))

    def test_by_us_of_what_rclone_copied(self, clients: Clients, tmp_path: Path) -> None:
        """From then on s3fs reads its mode, too, and rclone its time."""
        make_all(tmp_path / "local", {"file": FILES["plain"]})
        clients.rclone("copy", "--metadata", tmp_path / "local", clients.remote("rewritten"))
        clients.paths[OURS].joinpath("rewritten", "file").chmod(0o600)
        clients.ours.flush()
        expected = replace(FILES["plain"], mode=stat.S_IFREG | 0o600)
        assert look(clients.paths[S3FS] / "rewritten" / "file") == expected
        assert "btime" in clients.metadata("rewritten/file")  # what is rclone's own is kept
        comes_to(
            lambda: files_below(clients.look_anew() / "rewritten"),
            as_regular({"file": expected}),
        )

    @pytest.mark.parametrize("writer", [OURS, S3FS])
    def test_by_rclone(self, clients: Clients, writer: str) -> None:
        """A new time or name leaves the other attributes as they are."""
        name = f"touched-{writer}"
        make_all(clients.paths[writer] / name, {"a": XATTRS["described"], "b": FILES["setuid"]})
        clients.ours.flush()
        top = clients.look_anew() / name
        eventually(top.exists)
        os.utime(top / "a", ns=(WHOLE, WHOLE))
        (top / "b").rename(top / "c")
        expected = {"a": replace(XATTRS["described"], mtime_ns=WHOLE), "c": FILES["setuid"]}
        comes_to(lambda: seen(clients.paths[OURS] / name), expected)


def change(top: Path) -> None:
    """Something of everything, each in another way."""
    (top / "setuid").chmod(0o644)
    (top / "empty").chmod(0o700)
    os.utime(top / "nothing", ns=(NS, NS))
    os.utime(top / "link", ns=(WHOLE, WHOLE), follow_symlinks=False)
    os.utime(top / "fifo", ns=(WHOLE, WHOLE))
    os.setxattr(top / "described", "user.two", b"2")
    os.removexattr(top / "described", "user.one")
    with (top / "plain").open("ab") as file:
        file.write(b" world")
    os.utime(top / "plain", ns=(NS, NS))
    os.truncate(top / "sticky", 0)
    os.utime(top / "sticky", ns=(NS, NS))
    (top / "broken").rename(top / "renamed")
    if ROOT:
        (top / "char").chmod(0o606)


def assert_changed(top: Path, before: dict[str, Node]) -> None:
    after = dict(before)
    after["setuid"] = replace(before["setuid"], mode=stat.S_IFREG | 0o644)
    after["empty"] = replace(before["empty"], mode=stat.S_IFDIR | 0o700)
    after["nothing"] = replace(before["nothing"], mtime_ns=NS)
    after["link"] = replace(before["link"], mtime_ns=WHOLE)
    after["fifo"] = replace(before["fifo"], mtime_ns=WHOLE)
    xattrs = dict(before["described"].xattrs) | {"user.two": b"2"}
    del xattrs["user.one"]
    after["described"] = replace(before["described"], xattrs=xattrs)
    after["plain"] = replace(before["plain"], content=b"hello world")
    after["sticky"] = replace(before["sticky"], content=b"", mtime_ns=NS)
    after["renamed"] = after.pop("broken")
    if ROOT:
        after["char"] = replace(before["char"], mode=stat.S_IFCHR | 0o606)
    assert seen(top) == after
