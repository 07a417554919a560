"""What ``qarnotfs check`` looks at besides journals: this machine, the account and its server.

Each look is one `Observation`: all is well, or what is wrong and what to do next. Nothing is
changed; only `speeds` writes to a bucket, one object that it deletes again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from qarnotfs import control
from qarnotfs.cli.mountpoint import FUSE_CONF, check_unmountable, others_allowed
from qarnotfs.control.deadmount import is_dead
from qarnotfs.errors import QarnotfsError, UsageError
from qarnotfs.figures import bytes_text, time_text

if TYPE_CHECKING:
    from qarnotfs.cli.account import Account
    from qarnotfs.connection import Connection

FUSE = Path("/dev/fuse")
FREE_BYTES_MIN = 1 << 30
GREETINGS = 5
SKEW_SEC_MAX = 60.0  # S3 servers refuse after 15 minutes; before, times of files are wrong
PROBE_BYTES = 8 << 20


class Observation(NamedTuple):
    """One sentence; ``next`` is what to do about it, ``""`` when nothing has to be done."""

    well: bool
    what: str
    next: str = ""


def fine(what: str) -> Observation:
    return Observation(True, what)


def wrong(what: str, then: str) -> Observation:
    return Observation(False, what, then)


def failed(error: QarnotfsError) -> Observation:
    """What our errors say: what is wrong, a colon, what to do."""
    what, _, then = str(error).partition(": ")
    return wrong(what, then[:1].upper() + then[1:])


# --- this machine -----------------------------------------------------------------------------


def machine(cache_dir: Path) -> Iterator[Observation]:
    """Whether something can be mounted here, and what is left of earlier mounts."""
    yield _device()
    yield _fusermount()
    if os.getuid():
        yield _allow_other()
    yield from _cache(cache_dir)
    yield from _mounts()


def _device() -> Observation:
    try:
        os.close(os.open(FUSE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return wrong(
            f"There is no {FUSE}",
            "Load it with 'modprobe fuse', or give the container --device /dev/fuse.",
        )
    except OSError as error:
        return wrong(
            f"{FUSE} cannot be opened ({error.strerror})",
            f"Allow this user to read and write it; in a container give --device {FUSE}.",
        )
    return fine(f"{FUSE} can be opened")


def _fusermount() -> Observation:
    path = shutil.which("fusermount3")
    if path is None:
        return wrong("There is no fusermount3", "Install it: on Debian 'apt-get install fuse3'.")
    if os.getuid() and not os.stat(path).st_mode & stat.S_ISUID:
        return wrong(
            f"{path} may not mount for users",
            f"Give it its set-user-ID bit back: 'chmod u+s {path}' as root.",
        )
    try:
        check_unmountable()
    except UsageError as error:
        return failed(error)
    return fine(f"fusermount3 is {path}")


def _allow_other() -> Observation:
    """Of interest to those only who want it: never wrong."""
    if others_allowed():
        return fine(f"--allow-other can be used: {FUSE_CONF} has user_allow_other")
    return fine(f"--allow-other cannot be used without a line 'user_allow_other' in {FUSE_CONF}")


def _cache(cache_dir: Path) -> Iterator[Observation]:
    there = next(path for path in (cache_dir, *cache_dir.parents) if path.exists())
    found = there.stat()
    if there == cache_dir and found.st_uid != os.getuid():
        yield wrong(
            f"{cache_dir} belongs to user {found.st_uid}", "Choose one of yours with --cache-dir."
        )
    elif not os.access(there, os.W_OK | os.X_OK):
        yield wrong(f"Nothing can be written in {there}", "Choose another place with --cache-dir.")
    else:
        yield fine(f"The cache directory is {cache_dir}")
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if free < FREE_BYTES_MIN:
        yield wrong(
            f"Only {bytes_text(free)} are free for {cache_dir}",
            "Make room, or choose a larger disk with --cache-dir: what is written waits there.",
        )
    else:
        yield fine(f"{bytes_text(free)} are free for it")


def _mounts() -> Iterator[Observation]:
    try:
        states = control.survey()
        dead = [state.mountpoint for state in states if not state.listening]
        left = [at for at in dead if control.socket_path(at).exists() and is_dead(at)]
    except QarnotfsError as error:
        yield failed(error)
        return
    for mountpoint in left:
        yield wrong(
            f"The mount process of {mountpoint} has died",
            f"Mount its bucket there again, or clean up with 'qarnotfs umount {mountpoint}'.",
        )
    alive = sum(state.status is not None for state in states)
    answering = f"{alive} of your mounts {'answers' if alive == 1 else 'answer'}"
    yield fine(answering if alive else "Nothing of yours is mounted")


# --- the server -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """What is asked of the account's server; ``buckets`` may be none."""

    account: Account
    buckets: tuple[str, ...]
    speed: bool

    def observations(self) -> Iterator[Observation]:
        try:
            connection = self.account.connection()
        except QarnotfsError as error:
            yield failed(error)
            return
        yield fine(f"There are credentials: {connection.identity}")
        yield self._secrecy(connection)
        for bucket in self.buckets or ("",):
            try:
                yield from _greeted(connection, bucket)
                if bucket and self.speed:
                    yield _speeds(connection, bucket)
            except QarnotfsError as error:
                yield failed(error)
        connection.close()

    def _secrecy(self, connection: Connection) -> Observation:
        url = urlsplit(connection.endpoint)
        if url.scheme != "https" and url.hostname not in {"127.0.0.1", "::1", "localhost"}:
            return wrong(
                f"What is sent to {connection.endpoint} can be read and changed on its way",
                "Use its https URL: --endpoint, AWS_ENDPOINT_URL or QARNOT_STORAGE_URL.",
            )
        if self.account.no_verify_tls:
            return wrong(
                f"Nobody verifies that {connection.endpoint} is who it says",
                "Name its CA with --ca-bundle instead of --no-verify-tls.",
            )
        how = "over TLS" if url.scheme == "https" else "on this machine"
        return fine(f"The server is {connection.endpoint}, {how}")


def _greeted(connection: Connection, bucket: str) -> Iterator[Observation]:
    first, *others = (connection.greet(bucket) for _ in range(GREETINGS))
    latency_ms = 1000 * statistics.median(one.latency_sec for one in others)
    whose = f"The bucket '{bucket}'" if bucket else "The server"
    yield fine(f"{whose} answers in {latency_ms:.0f} ms ({1000 * first.latency_sec:.0f} at first)")
    ahead_sec = others[-1].clock_ahead_sec
    if ahead_sec is None:
        return
    if abs(ahead_sec) > SKEW_SEC_MAX:
        order = "ahead of" if ahead_sec > 0 else "behind"
        yield wrong(
            f"This machine's clock is {time_text(abs(ahead_sec))} {order} the server's",
            "Set it, for instance with 'timedatectl set-ntp true'.",
        )
    else:
        yield fine("This machine's clock is the server's")


def _speeds(connection: Connection, bucket_name: str) -> Observation:
    """Store, fetch and delete one object."""
    from qarnotfs.bucket import Bucket

    key, body = f".qarnotfs-probe-{secrets.token_hex(8)}", secrets.token_hex(PROBE_BYTES // 2)
    with Bucket(connection, bucket_name, create=False) as bucket:
        try:
            began_sec = time.monotonic()
            bucket.add_string(body, key)
            stored_sec = time.monotonic()
            same = bucket.open_file(key).read() == body.encode()
            fetched_sec = time.monotonic()
        finally:
            if key in bucket:
                bucket.delete_file(key)
    if not same:
        return wrong(
            f"'{bucket_name}' gave other bytes than it was given",
            "Do not use it; tell who runs it.",
        )
    up = bytes_text(PROBE_BYTES / (stored_sec - began_sec))
    down = bytes_text(PROBE_BYTES / (fetched_sec - stored_sec))
    return fine(f"The bucket '{bucket_name}' takes {up}/s and gives {down}/s in one stream")
