"""Whether the bucket can be reached, and until when it could.

Used by `index` for every question. With ``offline_reads`` a bucket that does not answer is
left alone until it answers again, and meanwhile what was believed last goes on being
believed. Without, every question is repeated for as long as the bridge allows, then fails.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import StoreError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SEC = 10.0  # a bucket silent for that long is offline; programs hang as long, once
RETRY_SEC = 2.0  # between two looks whether it is back


class Reach:
    """``unanswered_since_sec`` (since 1970): the last answer before it fell silent, or ``None``."""

    def __init__(self, bridge: Bridge, now: Callable[[], float], *, offline_reads: bool) -> None:
        self.offline_reads = offline_reads
        self.unanswered_since_sec: float | None = None
        self._bridge, self._now = bridge, now
        self._answered_sec = now()
        self._silent = trio.Event()  # set by `ask`, replaced by `watch` when it answers again

    @property
    def lost(self) -> bool:
        return self.unanswered_since_sec is not None

    async def ask(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """``attempt()``, repeated for a while; `Unavailable` at once while nobody answers."""
        if not self.offline_reads:
            return await self._bridge.patiently(attempt)
        if self.lost:
            raise Unavailable("The object store does not answer, and this is not cached.")
        try:
            with trio.fail_after(PATIENCE_SEC):
                answer = await self._bridge.patiently(attempt)
        except (Unavailable, trio.TooSlowError) as error:
            self._lose()
            raise Unavailable(f"The object store did not answer ({error}).") from error
        self._answered_sec = self._now()
        return answer

    def silent(self) -> None:
        """Somebody who asks by himself got no answer either, for as long as he waits."""
        if self.offline_reads:
            self._lose()

    def _lose(self) -> None:
        if not self.lost:
            log.warning("the bucket cannot be reached: what is cached is served, however old")
            self.unanswered_since_sec = self._answered_sec
            self._silent.set()

    async def watch(self, probe: Callable[[], Awaitable[object]]) -> None:
        """Notice when the bucket answers ``probe()`` again; until cancelled."""
        while True:
            await self._silent.wait()
            try:
                with trio.fail_after(PATIENCE_SEC):
                    await probe()
            except Unavailable:
                await trio.sleep(RETRY_SEC)
                continue
            except trio.TooSlowError:
                continue
            except StoreError as error:  # it refuses, but it is there
                log.warning("the bucket answers again: %s", error)
            log.info("the bucket can be reached again: what is cached is validated anew")
            self._silent, self.unanswered_since_sec = trio.Event(), None
            self._answered_sec = self._now()
