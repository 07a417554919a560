"""The mount as the kernel has it: made, looked at, taken away.

Used by `life`. Whoever unmounts, the kernel then ends `serve`; what follows is not its business.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyfuse3
import trio

from qarnotfs import control
from qarnotfs.control.deadmount import cover_dead, is_dead, is_mounted, unmount_dead
from qarnotfs.control.unmounting import unmount
from qarnotfs.errors import InUse, QarnotfsError, UsageError
from qarnotfs.session.house import House

log = logging.getLogger(__name__)

READ_AHEAD_KB = 1024  # the kernel asks for 1 MiB at a time instead of 128 KiB
BUSY_SEC = 1.0
TRIM_SEC = 1.0
TRIMMED_MAX = 5_000  # files at a time: some 0.1 s of the thread that tells the kernel
REQUESTS_MAX = 99  # of the kernel at once; more wait in its queue


class Kernel:
    """The kernel's side of one mounted house."""

    def __init__(self, house: House) -> None:
        self._house, self._mountpoint = house, house.options.mountpoint
        self._ended = False  # the kernel has said its last word
        self._unmounted = False  # nothing is left for `close` to take away
        self._covers = False  # a dead mount is below ours

    def mount(self) -> None:
        """Mount, in the place of a mount whose process died, if there is one.

        Raises `UsageError` when the kernel or fusermount3 refuses.
        """
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
            pyfuse3.init(self._house.operations, self._place(wanted), wanted)
        except RuntimeError as error:
            raise UsageError(
                f"{self._mountpoint} cannot be mounted: the kernel or fusermount3 refused. "
                "Is /dev/fuse there, and the directory yours? "
                "--allow-other also needs 'user_allow_other' in /etc/fuse.conf. "
                "Where there is no FUSE at all, 'qarnotfs run --no-fuse' needs none."
            ) from error

    def _place(self, wanted: set[str]) -> str:
        """Where libfuse is to mount: the mountpoint, or what is mounted already, as a descriptor.

        Over a dead mount libfuse does not mount, so root does it here, and nobody sees the empty
        directory below. Others cannot: for them the dead one goes a moment before.
        """
        is_root = os.geteuid() == 0
        unmount_dead(self._mountpoint, keep=1 if is_root else 0)
        if not (is_mounted(self._mountpoint) and is_dead(self._mountpoint)):
            return os.fspath(self._mountpoint)
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        cover_dead(self._mountpoint, device, wanted)
        self._covers = True
        return f"/dev/fd/{device}"

    def _uncover(self) -> None:
        """Ours is gone: now the dead one below it may go, too."""
        if self._covers:
            try:
                unmount_dead(self._mountpoint)
            except QarnotfsError as error:  # no reason not to upload what is left
                log.error("A dead mount is left: %s", error)

    async def serve(self) -> None:
        """Answer the kernel until it is unmounted, by anybody, and nobody uses it any more."""
        await pyfuse3.main(max_tasks=REQUESTS_MAX)
        self._ended = True
        self._uncover()

    async def trim(self) -> None:
        """Have the kernel forget files that no program has open, while it knows too many."""
        inodes, keep = self._house.filesystem.lookup.inodes, self._house.options.inodes_max
        while not self._is_gone():
            await trio.sleep(TRIM_SEC)
            for inode in inodes.surplus(keep)[:TRIMMED_MAX]:
                if inode.parent is not None:
                    pyfuse3.invalidate_entry_async(
                        inode.parent.number, inode.name, ignore_enoent=True
                    )

    def close(self) -> None:
        """Take the mount away if it is still there."""
        pyfuse3.close(unmount=not self._unmounted)
        self._uncover()

    async def look(self) -> None:
        """Return once the mount has answered the kernel."""
        found = await trio.to_thread.run_sync(os.stat, self._mountpoint, abandon_on_cancel=True)
        _read_more_at_once(found)

    async def unmount(self, *, lazily: bool) -> None:
        """Take the mount away; `InUse` when a program uses it and ``lazily`` is false.

        Or another error of ours, where it could not even be tried.
        """
        if self._is_gone():
            return
        give_up_sec = trio.current_time() + BUSY_SEC  # one that just ended may still be leaving
        taking = partial(unmount, self._mountpoint, lazily=lazily)
        while reason := await trio.to_thread.run_sync(taking, abandon_on_cancel=True):
            if self._is_gone() or control.mount_entry(self._mountpoint) is None:
                break  # somebody else has taken it away
            if trio.current_time() > give_up_sec:
                raise InUse(
                    f"{self._mountpoint} cannot be unmounted ({reason}): close "
                    "the programs that use it, or use --force."
                )
            await trio.sleep(BUSY_SEC / 10)
        self._unmounted = True
        self._uncover()

    def _is_gone(self) -> bool:
        """Then what is mounted there is not ours."""
        return self._unmounted or self._ended


def _read_more_at_once(found: os.stat_result) -> None:
    """Only root may; else the kernel asks for 128 KiB at a time, which is only slower."""
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    with suppress(OSError):
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))
