"""The real s3fs and the real rclone beside ours, all three on one bucket.

Used by the tests of what the clients make of each other's files and directories. Ours and
s3fs ask the bucket each time; rclone would ask for a whole directory, and remembers it
until it is told to `Clients.look_anew`.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from bench.mounted import Mounted
from bench.peers import (
    OURS,
    RCLONE,
    S3FS,
    Command,
    Place,
    beside_python,
    environment,
    rclone_environment,
)
from tests.rgw import Gateway
from tests.s5_mount.mounting import Mount, bucket_keys, run
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

S3FS_OPTIONS = "use_path_request_style,use_xattr"
S3FS_FORGETS = "max_stat_cache_size=0,attr_timeout=0,entry_timeout=0"
RCLONE_OPTIONS = ("--metadata", "--links", "--s3-directory-markers")
RCLONE_MOUNT = ("--vfs-cache-mode=full", "--vfs-write-back=0", "--attr-timeout=0")


class Peer(Mounted):
    """A mounted peer, by the names that our own mounts have for the same."""

    def __init__(self, command: Command, place: Place) -> None:
        self.path = place.mountpoint
        place.mountpoint.mkdir(parents=True)
        super().__init__(command, place.mountpoint, place.folder / "log")

    def remove(self) -> None:
        self.kill()

    def hang_up(self) -> None:
        assert self._client.poll() is None, self.log()
        assert self.path.is_mount(), self.log()
        self._client.send_signal(signal.SIGHUP)

    def log_tail(self) -> str:
        return self.log()


class Clients:
    """The three of them. ``paths``: where each shows the bucket, by its name."""

    def __init__(self, gateway: Gateway, ours: Mount, s3: S3Client, folder: Path) -> None:
        self.ours, self.s3, self._gateway, self._folder = ours, s3, gateway, folder
        self.paths = {OURS: ours.path}
        self.peers: list[Peer] = []
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        with self._ends:  # whatever was started ends, if one does not start
            for name, command in ((S3FS, self._s3fs), (RCLONE, self._rclone)):
                place = self._place(name)
                place.folder.mkdir()
                peer = Peer(command(place), place)
                self._ends.callback(peer.close)
                self.peers.append(peer)
                self.paths[name] = peer.path
            self._ends = self._ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _place(self, name: str) -> Place:
        folder, gateway = self._folder / name, self._gateway
        return Place(gateway.endpoint, gateway.access_key, gateway.secret_key, folder, folder)

    def _s3fs(self, place: Place) -> Command:
        secret = place.folder / "passwd"
        secret.touch(mode=0o600)
        secret.write_text(f"{place.access_key}:{place.secret_key}\n")
        options = f"url={place.url},passwd_file={secret},{S3FS_OPTIONS},{S3FS_FORGETS}"
        words = [S3FS, self.ours.bucket, str(place.mountpoint), "-f", "-o", options]
        return Command(words, environment(place))

    def _rclone(self, place: Place) -> Command:
        words = [str(beside_python(RCLONE)), "mount", f"s3:{self.ours.bucket}"]
        words += [str(place.mountpoint), f"--cache-dir={place.cache}"]
        words += [*RCLONE_OPTIONS, *RCLONE_MOUNT]
        return Command(words, rclone_environment(place))

    def look_anew(self) -> Path:
        """Where rclone shows the bucket. It forgets what it has seen, soon (see `comes_to`)."""
        self.peers[-1].hang_up()
        return self.paths[RCLONE]

    def remote(self, key: str) -> str:
        """How `rclone` calls what is below a key."""
        return f"s3:{self.ours.bucket}/{key}"

    def rclone(self, *arguments: str | Path) -> str:
        """What another rclone prints, which is not a mount."""
        told = rclone_environment(self._place(RCLONE))
        return run(beside_python(RCLONE), *arguments, environment=told)

    def put(self, key: str, body: bytes = b"", kind: str = "binary/octet-stream") -> None:
        """Store an object as a tool does that keeps no attributes."""
        self.s3.put_object(Bucket=self.ours.bucket, Key=key, Body=body, ContentType=kind)

    def keys(self, directory: str) -> list[str]:
        return bucket_keys(self.s3, self.ours.bucket, f"{directory}/")

    def metadata(self, key: str) -> dict[str, str]:
        return self.s3.head_object(Bucket=self.ours.bucket, Key=key)["Metadata"]


@dataclass(frozen=True)
class Node:
    """A file, directory or anything else; what a program sees of it, and how it is made."""

    mode: int
    mtime_ns: int
    owner: tuple[int, int] = (os.geteuid(), os.getegid())
    content: bytes = b""  # of a link: where it leads
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    rdev: int = 0

    def make(self, path: Path) -> None:
        kind = stat.S_IFMT(self.mode)
        if kind == stat.S_IFDIR:
            path.mkdir()
        elif kind == stat.S_IFLNK:
            path.symlink_to(os.fsdecode(self.content))
        elif kind == stat.S_IFREG:
            path.write_bytes(self.content)
        else:
            os.mknod(path, kind | 0o600, self.rdev)
        for name, value in self.xattrs.items():
            os.setxattr(path, name, value, follow_symlinks=False)
        os.lchown(path, *self.owner)
        if kind != stat.S_IFLNK:
            path.chmod(stat.S_IMODE(self.mode))

    def without(self, *, rdev: bool = False, xattrs: bool = False) -> Node:
        return replace(self, rdev=0 if rdev else self.rdev, xattrs={} if xattrs else self.xattrs)


def make_all(top: Path, nodes: Mapping[str, Node]) -> None:
    """In this order; times come last, for making one thing moves the time of another."""
    top.mkdir()
    for name, node in nodes.items():
        node.make(top / name)
    for name, node in nodes.items():
        os.utime(top / name, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def seen(top: Path) -> dict[str, Node]:
    """Everything below, as `stat`, `readlink` and `getfattr` tell of it."""
    return {
        str(path.relative_to(top)): look(path)
        for folder, directories, files in os.walk(top)
        for path in (Path(folder, name) for name in directories + files)
    }


def look(path: Path) -> Node:
    entry = path.lstat()
    content, xattrs = b"", dict[str, bytes]()
    if stat.S_ISLNK(entry.st_mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISREG(entry.st_mode):
        content = path.read_bytes()
        assert entry.st_size == len(content)
    with suppress(OSError):  # rclone has none
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    owner = (entry.st_uid, entry.st_gid)
    return Node(entry.st_mode, entry.st_mtime_ns, owner, content, xattrs, entry.st_rdev)


def comes_to(question: Callable[[], T], expected: T) -> None:
    """It is so, once what a client does behind a program's back has arrived."""
    with suppress(AssertionError):  # the one below says what differs
        eventually(lambda: question() == expected)
    found = question()
    assert found == expected, f"{found}\nand not\n{expected}"


def names_below(top: Path) -> set[str]:
    """Files, and directories with a slash behind them."""
    return {
        f"{Path(folder, name).relative_to(top)}{slash}"
        for folder, directories, files in os.walk(top)
        for slash, names in (("/", directories), ("", files))
        for name in names
    }
