"""The life of one mount: check, mount, serve, unmount, drain.

Used by `cli`, as `run_mount`. A mount ends when it is unmounted: by us (control command,
SIGTERM, SIGINT) or by anybody. Then what programs had open is recorded, every debt is paid as
far as the bucket takes it, and what is left stays in the journal for the next mount. How long
that may take is nobody's business but the user's: a time limit or a second signal ends it.
A mount whose task failed, which is a defect, records what programs had open, and ends.
"""

from __future__ import annotations

import gc
import logging
import math
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import trio

from qarnotfs import control
from qarnotfs.bucket import Bucket
from qarnotfs.cache.warming import Warmth
from qarnotfs.errors import QarnotfsError
from qarnotfs.figures import bytes_text, files_text, left_text
from qarnotfs.session import memory
from qarnotfs.session.house import House, build
from qarnotfs.session.kernel import Kernel
from qarnotfs.session.options import MountOptions
from qarnotfs.session.pace import Pace
from qarnotfs.session.report import report
from qarnotfs.session.supervisor import Supervisor

log = logging.getLogger(__name__)
LOGGER = logging.getLogger("qarnotfs")  # of the whole house; `debug` sets its level

IDLE = "Everything is in the bucket"
PACE_SEC = 1.0  # between two looks at how much has arrived
GARBAGE = 10_000, 20, 50  # see `gc.set_threshold`
LINE_SEC = 5.0  # between two lines of the log while it drains


def run_mount(bucket: Bucket, options: MountOptions, ready: Callable[[], None]) -> int:
    """Mount, serve until unmounted, drain. ``ready`` is called once the mount answers.

    Returns 0 when everything arrived in the bucket, 1 when something stays in the journal.
    Raises what prevents the mount; then nothing is mounted.
    """
    memory.reuse_parts()
    bucket.store.check()
    house = build(bucket, options)
    _look_for_garbage_rarely()
    try:
        return trio.run(Session(house, ready).run)
    except BaseExceptionGroup as group:
        raise cause(group) from group
    finally:
        house.journal.close()
        house.lock.release()
        house.index.close()
        house.disk.close()
        bucket.store.close()


def _look_for_garbage_rarely() -> None:
    """What is imported stays, and what is kept for each file is no garbage.

    To look through all that again and again stops every program for as long; to look once, now,
    would find a few KiB.
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery's group of exceptions is about, where that is one thing."""
    inside = group.exceptions[0]
    if len(group.exceptions) > 1:
        return group
    return cause(inside) if isinstance(inside, BaseExceptionGroup) else inside


class Session:
    """A mounted house. Dies with the mount."""

    def __init__(self, house: House, ready: Callable[[], None]) -> None:
        self._house, self._ready = house, ready
        self._kernel = Kernel(house)
        self._started_sec = time.time()
        self._pace = Pace()
        self._supervisor = Supervisor()
        self._draining = False
        self._unmounting = trio.Lock()  # taken and given back by one command at a time
        # The two waits of the end, for programs and for the bucket; `_end_by` limits both.
        self._serving, self._paying = trio.CancelScope(), trio.CancelScope()

    async def run(self) -> int:
        house = self._house
        if not house.options.read_only:
            house.capabilities[0] = await house.index.capabilities()
        with self._metrics():
            return await self._mounted()

    def _metrics(self) -> AbstractContextManager[None]:
        if self._house.options.metrics is None:
            return nullcontext()
        from qarnotfs.session.metrics import offered

        return offered(self._house.options.metrics, self._report)

    async def _mounted(self) -> int:
        house = self._house
        self._kernel.mount()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(house.index.run)
                await nursery.start(house.reader.run)
                await nursery.start(house.uploader.run)
                socket = control.socket_path(house.options.mountpoint)
                await nursery.start(control.serve, socket, self._commands())
                nursery.start_soon(self._watch_signals)
                await self._resume()
                nursery.start_soon(self._announce)
                nursery.start_soon(self._keep_pace)
                nursery.start_soon(self._supervisor.reassure)
                nursery.start_soon(self._pin)
                nursery.start_soon(self._kernel.trim)
                nursery.start_soon(memory.give_back_when_quiet)
                with self._serving:
                    await self._kernel.serve()
                arrived = await self._drain()
                async with self._unmounting:  # whoever asked for it is told first
                    nursery.cancel_scope.cancel()
        except BaseException:  # one of our tasks failed: what programs wrote is worth more
            await house.filesystem.seal_all()
            raise
        finally:
            self._kernel.close()
        return 0 if arrived else 1

    async def _resume(self) -> None:
        """Finish what a dead mount left half renamed, unless the bucket cannot be reached."""
        try:
            with trio.fail_after(self._house.options.io_timeout_sec):
                await self._house.filesystem.names.resume()
        except (QarnotfsError, trio.TooSlowError) as error:
            reason = str(error) or "the bucket does not answer"
            log.error("A rename that was cut off waits for the next mount: %s", reason)

    async def _announce(self) -> None:
        """Say that the mount is there once it has answered the kernel."""
        await self._kernel.look()
        log.info("%s is mounted on %s", self._house.bucket.uuid, self._house.options.mountpoint)
        self._ready()
        self._supervisor.ready()

    async def _pin(self) -> None:
        """Fetch and keep what is to be pinned; programs need not wait for it."""
        for prefix in self._house.options.pins:
            try:
                await self._house.warmer.warm(prefix, self._warmed)
            except QarnotfsError as error:
                log.error("%r is not pinned: %s", prefix, error)
                self._house.warmths[prefix].message = str(error)

    def _warmed(self, warmth: Warmth) -> None:
        self._house.warmths[warmth.prefix] = warmth

    async def _keep_pace(self) -> None:
        while True:
            uploader, journal = self._house.uploader, self._house.journal
            sent = sum(transfer.bytes_sent for transfer in uploader.transfers())
            pending = journal.bytes_owed - journal.bytes_failed
            self._pace.note(trio.current_time(), uploader.totals.bytes + sent, pending)
            self._supervisor.status(left_text(self._report()) if journal.count else IDLE)
            await trio.sleep(PACE_SEC)

    # --- the end ------------------------------------------------------------------------------

    async def _watch_signals(self) -> None:
        """The first ends the mount in peace, the second ends it at once."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            name = signal.Signals(await anext(signals)).name
            log.info("%s: unmounting; once more ends it without uploading what is left", name)
            try:
                await self._kernel.unmount(lazily=True)
            except Exception as error:  # whatever it is, what programs wrote is worth more
                log.error("%s", error, exc_info=not isinstance(error, QarnotfsError))
                self._serving.cancel()
            name = signal.Signals(await anext(signals)).name
            log.info("%s again: ending at once", name)
            self._end_by(-math.inf)
            await trio.sleep_forever()  # or further signals would kill what is being closed

    def _end_by(self, time_sec: float) -> None:
        """From then on nothing is waited for; what is not in the bucket stays in the journal."""
        for wait in (self._serving, self._paying):
            wait.deadline = min(wait.deadline, time_sec)

    async def _drain(self) -> bool:
        """Record and pay everything; whether nothing is left."""
        self._draining = True
        self._supervisor.stopping()
        await self._house.filesystem.seal_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._narrate)
            with self._paying:
                await self._house.uploader.drain()
            nursery.cancel_scope.cancel()
        left = list(self._house.journal.all())
        if left:
            log.error(
                "%s (%s) not in the bucket. Kept in %s: the next mount of the bucket with this"
                " cache directory uploads it.",
                files_text(len(left)),
                bytes_text(self._house.journal.bytes_owed),
                self._house.journal.directory,
            )
        else:
            log.info(IDLE)
        return not left

    async def _narrate(self) -> None:
        while self._house.journal.count:
            log.info("Uploading: %s", left_text(self._report()))
            await trio.sleep(LINE_SEC)

    # --- the control socket -------------------------------------------------------------------

    def _commands(self) -> dict[str, control.Handler]:
        return {
            "status": self._status,
            "flush": self._flush,
            "umount": self._umount,
            "debug": self._debug,
        }

    async def _umount(self, args: dict[str, object]) -> dict[str, object]:
        """``force``: also when it is in use. ``within_sec``: for programs and uploads together."""
        async with self._unmounting:
            await self._kernel.unmount(lazily=bool(args.get("force")))
            within_sec = cast(float | None, args.get("within_sec"))
            if within_sec is not None:
                self._end_by(trio.current_time() + within_sec)
            return {}

    async def _flush(self, args: dict[str, object]) -> dict[str, object]:
        await self._house.uploader.drain()
        return self._report()

    async def _status(self, args: dict[str, object]) -> dict[str, object]:
        return self._report()

    async def _debug(self, args: dict[str, object]) -> dict[str, object]:
        """``on``: log every request; else what --log-level said, but none of them."""
        quiet = max(logging.INFO, logging.getLogger().level)
        LOGGER.setLevel(logging.DEBUG if args.get("on") else quiet)
        return {}

    def _report(self) -> dict[str, Any]:
        state = "draining" if self._draining else "serving"
        return report(self._house, state, self._started_sec, self._pace)
