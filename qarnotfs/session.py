"""One mount: builds the house, opens the kernel's door, and closes it without losing a byte.

Used by `cli`. `build` puts every room together; `run_mount` is a mount's whole life: check,
mount, serve, unmount, drain. Nothing here decides what a file system call means.

A mount ends when it is unmounted: by us (control command, SIGTERM, SIGINT) or by anybody.
Then what programs had open is recorded, every debt is paid as far as the bucket takes it,
and what is left stays in the journal for the next mount.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pyfuse3
import trio

from qarnotfs import control
from qarnotfs.bridge import Bridge
from qarnotfs.bucket import Bucket
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.entry import Checksum
from qarnotfs.cache.reader import Reader
from qarnotfs.core.attributes import Defaults
from qarnotfs.core.content import Content
from qarnotfs.core.filesystem import Filesystem
from qarnotfs.core.finder import Finder
from qarnotfs.core.lookup import Lookup
from qarnotfs.core.namespace import Rooms
from qarnotfs.core.renaming import Renamer
from qarnotfs.core.xattrs import Xattrs
from qarnotfs.errors import InUse, UsageError
from qarnotfs.index.index import Index
from qarnotfs.operations import Operations
from qarnotfs.store.base import Capabilities
from qarnotfs.store.s3.checksums import crc32c
from qarnotfs.writeback.adoption import JournalLock, claim
from qarnotfs.writeback.debts import State
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.sending import Sender
from qarnotfs.writeback.uploader import Uploader

log = logging.getLogger(__name__)

TTL_SEC_DEFAULT = 60
READ_AHEAD_KB = 1024  # the kernel asks for 1 MiB at a time instead of 128 KiB
BUSY_SEC = 1.0
REQUESTS_MAX = 99  # of the kernel at once; more wait in its queue
NO_CAPABILITIES = Capabilities(put_if_absent=False, put_if_match="no")


@dataclass(frozen=True)
class MountOptions:
    """How a bucket is mounted. Sizes in bytes, times in seconds."""

    mountpoint: Path
    cache_dir: Path
    cache_bytes_max: int
    dirty_bytes_max: int
    cache_ttl_sec: int | None  # None: what the bucket says, else 60
    read_only: bool
    allow_other: bool
    uid: int
    gid: int
    umask: int
    close: Literal["later", "wait"]
    upload_delay_sec: float
    io_timeout_sec: float
    attrs: Literal["full", "listing"]
    on_conflict: Literal["keep-both", "overwrite"]


@dataclass(frozen=True)
class House:
    """Every room of one mount, connected."""

    bucket: Bucket
    options: MountOptions
    index: Index
    reader: Reader
    disk: Disk
    journal: Journal
    lock: JournalLock
    uploader: Uploader
    filesystem: Filesystem
    operations: Operations
    capabilities: list[Capabilities]  # of one; the probe replaces it


def build(bucket: Bucket, options: MountOptions) -> House:
    """The whole object graph. Opens the journal and the cache; asks the bucket nothing."""
    view, store = bucket.view, bucket.store
    place = options.cache_dir / place_name(bucket)
    ttls = (options.cache_ttl_sec, bucket.cache_ttl_sec, TTL_SEC_DEFAULT)
    ttl_sec = next(given for given in ttls if given is not None)
    capabilities = [NO_CAPABILITIES]
    bridge = Bridge(timeout_sec=options.io_timeout_sec)
    index = Index(
        store, bridge, place / "beliefs.db", ttl_sec=ttl_sec, filter_prefix=view.filter_prefix
    )
    blocks, checksum = place / "blocks", Checksum("crc32c", crc32c)
    disk = Disk(
        blocks, options.cache_bytes_max, scope=place.name, ttl_sec=ttl_sec, checksum=checksum
    )
    reader = Reader(store, bridge, disk, io_timeout_sec=options.io_timeout_sec)
    journal, lock = claim(place / "journals")
    overwrite = options.on_conflict == "overwrite"
    sender = Sender(
        store, bridge, journal, reader.read, lambda: capabilities[0], overwrite=overwrite
    )
    uploader = Uploader(
        store,
        bridge,
        journal,
        index,
        sender,
        adopt=disk.adopt,
        delay_sec=options.upload_delay_sec,
        dirty_bytes_max=options.dirty_bytes_max,
    )
    waits = options.close == "wait"
    content = Content(bridge, reader, journal, uploader, close_waits=waits, now_ns=time.time_ns)
    finder = Finder(index, journal, view, asks_attributes=options.attrs == "full")
    rooms = Rooms(
        index=index,
        journal=journal,
        uploader=uploader,
        content=content,
        renamer=Renamer(store, bridge, index, journal, uploader, view),
        lookup=Lookup(index, finder, content, _defaults(options), now_ns=time.time_ns),
        view=view,
        read_only=options.read_only,
        now_ns=time.time_ns,
    )
    fs = Filesystem(rooms)
    door = Operations(fs, Xattrs(fs, disk.bytes_cached))
    return House(
        bucket, options, index, reader, disk, journal, lock, uploader, fs, door, capabilities
    )


def _defaults(options: MountOptions) -> Defaults:
    files, directories = 0o666 & ~options.umask, 0o777 & ~options.umask
    return Defaults(options.uid, options.gid, files, directories)


def run_mount(bucket: Bucket, options: MountOptions, ready: Callable[[], None]) -> int:
    """Mount, serve until unmounted, drain. ``ready`` is called once the mount answers.

    Returns 0 when everything arrived in the bucket, 1 when something stays in the journal.
    Raises what prevents the mount; then nothing is mounted.
    """
    bucket.store.check()
    house = build(bucket, options)
    try:
        return trio.run(Session(house, ready).run)
    except BaseExceptionGroup as group:
        raise _cause(group) from group
    finally:
        house.journal.close()
        house.lock.release()
        house.index.close()
        house.disk.close()
        bucket.store.close()


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery's group of exceptions is about, where that is one thing."""
    inside = group.exceptions[0]
    if len(group.exceptions) > 1:
        return group
    return _cause(inside) if isinstance(inside, BaseExceptionGroup) else inside


class Session:
    """A mounted house. Dies with the mount."""

    def __init__(self, house: House, ready: Callable[[], None]) -> None:
        self._house, self._ready = house, ready
        self._started_sec = time.time()
        self._unmounted = False
        self._draining = False
        self._unmounting = trio.Lock()  # taken and given back by one `_unmount` at a time

    async def run(self) -> int:
        house = self._house
        if not house.options.read_only:
            house.capabilities[0] = await house.index.capabilities()
        self._mount()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(house.index.run)
                await nursery.start(house.reader.run)
                await nursery.start(house.uploader.run)
                socket = control.socket_path(house.options.mountpoint)
                await nursery.start(control.serve, socket, self._commands())
                nursery.start_soon(self._watch_signals)
                nursery.start_soon(self._announce)
                await pyfuse3.main(max_tasks=REQUESTS_MAX)
                arrived = await self._drain()
                async with self._unmounting:  # whoever asked for it is told first
                    nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=not self._unmounted)
        return 0 if arrived else 1

    # --- the kernel ---------------------------------------------------------------------------

    def _mount(self) -> None:
        options = self._house.options
        wanted = {
            f"fsname=qarnotfs:{self._house.bucket.uuid}",
            "subtype=qarnotfs",
            "default_permissions",
            "nosuid",
            "nodev",
        }
        wanted |= {"allow_other"} if options.allow_other else set()
        wanted |= {"ro"} if options.read_only else set()
        try:
            pyfuse3.init(self._house.operations, os.fspath(options.mountpoint), wanted)
        except RuntimeError as error:
            raise UsageError(
                f"{options.mountpoint} cannot be mounted: the kernel or fusermount3 refused. "
                "Is /dev/fuse there, and the directory yours? "
                "--allow-other also needs 'user_allow_other' in /etc/fuse.conf."
            ) from error

    async def _announce(self) -> None:
        """Say that the mount is there once it has answered the kernel."""
        mountpoint = self._house.options.mountpoint
        found = await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
        self._read_more_at_once(found)
        log.info("%s is mounted on %s", self._house.bucket.uuid, mountpoint)
        self._ready()

    def _read_more_at_once(self, found: os.stat_result) -> None:
        """Only root may; else the kernel asks for 128 KiB at a time, which is only slower."""
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        with suppress(OSError):
            Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))

    # --- the end ------------------------------------------------------------------------------

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("%s: unmounting", signal.Signals(number).name)
                await self._unmount(lazily=True)

    async def _unmount(self, *, lazily: bool) -> None:
        """Take the mount away; `InUse` when a program uses it and ``lazily`` is false."""
        give_up_sec = trio.current_time() + BUSY_SEC  # one that just ended may still be leaving
        while reason := await self._fusermount(lazily=lazily):
            if self._draining:  # somebody else has taken it away meanwhile
                break
            if trio.current_time() > give_up_sec:
                raise InUse(
                    f"{self._house.options.mountpoint} cannot be unmounted ({reason}): close "
                    "the programs that use it, or use --force."
                )
            await trio.sleep(BUSY_SEC / 10)
        self._unmounted = True

    async def _fusermount(self, *, lazily: bool) -> str:
        """Unmount; why it did not work, or the empty string."""
        command = ["fusermount3", "-u", *(["-z"] if lazily else [])]
        command.append(os.fspath(self._house.options.mountpoint))
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
        if not done.returncode:
            return ""
        return done.stderr.decode(errors="replace").strip().rpartition(": ")[2] or "unknown reason"

    async def _drain(self) -> bool:
        self._draining = True
        await self._house.filesystem.seal_all()
        arrived = await self._house.uploader.drain()
        if not arrived:
            log.error("%d files are not in the bucket", self._house.journal.count)
        return arrived

    # --- the control socket -------------------------------------------------------------------

    def _commands(self) -> dict[str, control.Handler]:
        return {"status": self._status, "flush": self._flush, "umount": self._umount}

    async def _umount(self, args: dict[str, object]) -> dict[str, object]:
        async with self._unmounting:
            await self._unmount(lazily=bool(args.get("force")))
            return {}

    async def _flush(self, args: dict[str, object]) -> dict[str, object]:
        await self._house.uploader.drain()
        return await self._status({})

    async def _status(self, args: dict[str, object]) -> dict[str, object]:
        house = self._house
        totals, cache = house.uploader.totals, house.reader.stats()
        return {
            "mountpoint": os.fspath(house.options.mountpoint),
            "bucket": house.bucket.uuid,
            "endpoint": house.bucket.endpoint,
            "view": house.bucket.to_json(),
            "pid": os.getpid(),
            "state": "draining" if self._draining else "serving",
            "started_sec": self._started_sec,
            "pending_files": house.journal.count,
            "pending_bytes": house.journal.bytes_owed,
            "uploaded_files": totals.files,
            "uploaded_bytes": totals.bytes,
            "deleted_files": totals.deletions,
            "conflicts": list(house.uploader.conflicts),
            "cache_bytes": cache.bytes_used,
            "cache": asdict(cache),
            "capabilities": asdict(house.capabilities[0]),
            "findings": list(house.journal.findings),
            "errors": self._errors(),
        }

    def _errors(self) -> list[dict[str, object]]:
        """Debts that failed, or did the last time, each with where its bytes are."""
        return [
            {
                "path": self._house.bucket.view.visible(debt.key) or debt.key,
                "key": debt.key,
                "message": debt.error,
                "failed": debt.state is State.FAILED,
                "staged_file": os.fspath(debt.staged.path) if debt.staged else None,
            }
            for debt in self._house.journal.all()
            if debt.error
        ]


def place_name(bucket: Bucket) -> str:
    """The directory under the cache directory of one bucket on one server."""
    digest = sha256(json.dumps([bucket.endpoint, bucket.uuid]).encode()).hexdigest()
    return f"{bucket.uuid}-{digest[:12]}"
