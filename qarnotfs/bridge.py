"""The only crossing between the event loop and the store's threads.

Everything above that talks to the store does it as ``await bridge.wait(store.head(key))``
for a hot method and ``await bridge.call(store.copy, a, b)`` for one that blocks. Both
give up after a time limit with `Unavailable`, so no caller hangs on a hung server, and
both can be cancelled at once. The bridge keeps no state but its thread limit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import Flight, give_up_sec

T = TypeVar("T")
P = ParamSpec("P")

REPEAT_SEC = 0.2  # the first pause before a repetition; doubles up to REPEAT_SEC_MAX
REPEAT_SEC_MAX = 2.0
THREADS_MAX = 16  # boto3 holds the GIL 1-2 ms a request: more threads only take turns


class Bridge:
    """Runs store calls for a trio loop. ``timeout_sec`` is what one call may take."""

    def __init__(self, *, timeout_sec: float = 60.0, threads_max: int = THREADS_MAX) -> None:
        self.timeout_sec = timeout_sec
        self._limiter = trio.CapacityLimiter(threads_max)

    async def wait(self, flight: Flight[T], *, timeout_sec: float | None = None) -> T:
        """The result of a hot call. When given up, the request is aborted."""
        limit_sec = self.timeout_sec if timeout_sec is None else timeout_sec
        with trio.move_on_after(limit_sec):
            await _landing(flight)
            try:
                return flight.result()
            finally:
                del flight  # it has the error, whose traceback has this frame and what was sent
        raise _too_late(limit_sec)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a blocking call.

        When given up, its thread ends on its own later, but begins no further request: one
        that is on its way is the last that can be carried out.
        """
        end_sec = time.monotonic() + self.timeout_sec

        def bounded() -> T:
            give_up_sec.set(end_sec)  # in the thread's own context
            return function(*args, **kwargs)

        with trio.move_on_after(self.timeout_sec):
            return await trio.to_thread.run_sync(
                bounded, abandon_on_cancel=True, limiter=self._limiter
            )
        raise _too_late(self.timeout_sec)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """``attempt()`` repeated while it raises `Unavailable`, ``timeout_sec`` long at most.

        For callers that a program waits for: they must answer in bounded time.
        """
        failure = _too_late(self.timeout_sec)
        pause_sec = REPEAT_SEC
        with trio.move_on_after(self.timeout_sec):
            while True:
                try:
                    return await attempt()
                except Unavailable as error:
                    failure = error
                await trio.sleep(pause_sec * random.uniform(0.5, 1.0))
                pause_sec = min(2 * pause_sec, REPEAT_SEC_MAX)
        raise failure

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of local work (hashing, copying files) done off the loop, without limit."""
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs))


def _too_late(limit_sec: float) -> Unavailable:
    return Unavailable(f"The object store did not answer within {limit_sec:g} s.")


async def _landing(flight: Flight[T]) -> None:
    """Sleep until the flight is done; abort it when cancelled."""
    if flight.done():
        await trio.lowlevel.checkpoint()
        return
    token = trio.lowlevel.current_trio_token()
    task = trio.lowlevel.current_task()
    waiting = True

    def wake() -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            trio.lowlevel.reschedule(task)

    def landed(_: object) -> None:
        with suppress(trio.RunFinishedError):  # then nobody is left to be told
            token.run_sync_soon(wake)

    def give_up(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        flight.abort()
        return trio.lowlevel.Abort.SUCCEEDED

    flight.add_done_callback(landed)
    await trio.lowlevel.wait_task_rescheduled(give_up)
