"""Bytes of object versions: from disk when they are there, from the store when not.

Used by `core` for every read of an object, and by the uploader for the unchanged parts of a
file. `Reader.read` decides nothing about versions: it is given one and returns its bytes
or fails. Each block has one flight however many wait for it; flights belong to the
reader's own nursery, so a task that is interrupted harms nobody else's bytes.

A flight that a read waits for is repeated until ``io_timeout_sec`` is over. One that was
sent ahead of its reader fails silently: whoever needs the bytes asks again.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import (
    BLOCK_BYTES,
    PART_BYTES_MAX,
    SMALL_BYTES_MAX,
    WINDOW_BYTES_MAX,
    PatternCell,
    Span,
    block_span,
    lumps,
    spans,
)
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.flight import CLOSING, OFFLINE, Flight, Flights, stale
from qarnotfs.cache.keeper import Keeper
from qarnotfs.cache.runway import RoundTrip, Runway
from qarnotfs.cache.stats import CacheStats
from qarnotfs.errors import NoSuchKey, PreconditionFailed, QarnotfsError, Unavailable
from qarnotfs.store.base import ObjectInfo, Store

log = logging.getLogger(__name__)

IO_TIMEOUT_SEC = 60.0
FLIGHTS_MAX = 64
FLIGHT_BYTES_MAX = 64 << 20
INLINE_BYTES_MAX = 512 << 10  # writing and checking that much takes the loop 0.3 ms
AROUND_OBJECT_SHARE = 2  # times what may be fetched ahead: half of the cache
BACKOFF_SEC_MIN = 0.1
BACKOFF_SEC_MAX = 5.0

Fly = Callable[[Flight], Awaitable[None]]


class Reader:
    """Reads versions of objects. One for a mount; its methods are for the trio thread."""

    def __init__(
        self,
        store: Store,
        bridge: Bridge,
        disk: Disk,
        *,
        io_timeout_sec: float = IO_TIMEOUT_SEC,
        learn: Callable[[ObjectInfo], None] = lambda _: None,
        lost: Callable[[], bool] = lambda: False,
        silent: Callable[[], None] = lambda: None,
    ) -> None:
        self.io_timeout_sec = io_timeout_sec
        self._store, self._bridge, self._disk = store, bridge, disk
        self._learn = learn  # told of each version whose metadata came with its first bytes
        self._lost = lost  # whether it is known that nobody will answer
        self._silent = silent  # told when a read was given up because nobody did
        self._hits = self._misses = self._fetched_bytes = 0
        self._nursery: trio.Nursery | None = None  # while `run` runs
        self._flights = Flights()
        self._keeper = Keeper(bridge, disk)
        self._runway = Runway(FLIGHTS_MAX, FLIGHT_BYTES_MAX)
        self._round_trip = RoundTrip()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Host the flights until cancelled. Before and after, only what is cached can be read."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(self._bridge.work, self._disk.make_room)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def stats(self) -> CacheStats:
        return CacheStats(
            bytes_used=self._disk.bytes_used(),
            hits=self._hits,
            misses=self._misses,
            corrupt=self._disk.corrupt,
            evicted_bytes=self._disk.evicted_bytes,
            fetched_bytes=self._fetched_bytes,
        )

    async def read(
        self, info: ObjectInfo, offset: int, size: int, pattern: PatternCell | None = None
    ) -> bytes:
        """Exactly the bytes of that version in ``[offset, min(offset + size, info.size))``.

        ``pattern`` is what the handle keeps for us between its reads; without it nothing is
        read ahead. `Stale` when the bytes are not cached and the bucket has another version
        or none; `Unavailable` when it did not answer for ``io_timeout_sec``; or another
        `StoreError` that repeating will not change.
        """
        end = min(offset + size, info.size)
        if end - offset <= PART_BYTES_MAX:
            return await self._read(info, offset, end - offset, pattern)
        return b"".join(
            [
                await self._read(info, start, min(PART_BYTES_MAX, end - start), pattern)
                for start in range(offset, end, PART_BYTES_MAX)
            ]
        )

    async def keep(self, info: ObjectInfo) -> bool:
        """Fetch what is missing of that version; whether all of it is on disk then.

        Raises what `read` raises.
        """
        whole = Span(0, info.size)
        if not self._disk.keeps(info):
            for start in range(0, whole.size, PART_BYTES_MAX):
                await self.read(info, start, PART_BYTES_MAX)
            for flight in set(self._flights.under_way(info, whole.blocks).values()):
                await flight.over.wait()
        return self._disk.keeps(info)

    async def _read(
        self, info: ObjectInfo, offset: int, size: int, pattern: PatternCell | None
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        if size <= 0:
            return b""
        data = await self._cached(info, offset, size)
        if data is not None:
            self._hits += 1
            self._read_ahead(info, offset, size, pattern)
            return data
        with trio.move_on_after(self.io_timeout_sec):
            return await self._gathered(info, offset, size, pattern)
        self._silent()
        raise Unavailable(f"The object store did not answer within {self.io_timeout_sec:g} s.")

    async def _cached(self, info: ObjectInfo, offset: int, size: int) -> bytes | None:
        try:
            return self._disk.read(info, offset, size, wait=False)
        except BlockingIOError:
            return await self._bridge.work(self._disk.read, info, offset, size)

    async def _gathered(
        self, info: ObjectInfo, offset: int, size: int, pattern: PatternCell | None
    ) -> bytes:
        """The bytes from everywhere: cached blocks, flights under way, new flights."""
        blocks = Span(offset, size).blocks
        under_way = self._flights.under_way(info, blocks)
        settled = set(blocks).difference(under_way)
        read = ((number, self._disk.block(info, number)) for number in settled)
        found = {number: block for number, block in read if block is not None}
        missing = [number for number in blocks if number not in found]
        self._hits += not missing
        self._misses += bool(missing)
        absent = set(missing).difference(under_way)
        flights = self._cover(info, offset, missing, pattern)
        self._read_ahead(info, offset, size, pattern)
        if absent and pattern is not None and not pattern.streaming:
            self._read_around(info, min(absent), pattern)
        pieces: list[memoryview] = []
        for number in blocks:
            here = found.get(number)
            whole = await flights[number].block(number) if here is None else memoryview(here)
            start = number * BLOCK_BYTES
            pieces.append(whole[max(0, offset - start) : offset + size - start])
        return b"".join(pieces)

    def _cover(
        self, info: ObjectInfo, offset: int, missing: list[int], pattern: PatternCell | None
    ) -> dict[int, Flight]:
        """A flight for each missing block: joined, or started now."""
        deadline = trio.current_time() + self.io_timeout_sec
        flights = self._flights.under_way(info, missing)
        for flight in flights.values():
            flight.deadline = max(flight.deadline, deadline)
        absent = [number for number in missing if number not in flights]
        if not absent:
            return flights
        if pattern is not None:
            pattern.pattern = pattern.pattern.lost(absent[0] * BLOCK_BYTES)
        reach = range(absent[0], absent[-1] + 1)
        if offset == 0 and info.size <= SMALL_BYTES_MAX:
            reach = Span(0, info.size).blocks
            under_way = self._flights.under_way(info, reach)
            absent = [number for number in reach if number not in under_way]
        others = set(reach).difference(absent)
        for span in spans(others, *block_span(reach, info.size), info.size):
            flight = self._depart(Flight(info, span, deadline))
            flights.update(dict.fromkeys(span.blocks, flight))
        return flights

    # --- reading ahead ------------------------------------------------------------------------

    def _read_ahead(
        self, info: ObjectInfo, offset: int, size: int, cell: PatternCell | None
    ) -> None:
        """Note one more read of a handle, and send for what it will want next."""
        if cell is None:
            return
        window_max = min(WINDOW_BYTES_MAX, self._disk.ahead_bytes_max)
        cell.pattern, ahead = cell.pattern.after(offset, size, info.size, window_max)
        if ahead is None:
            return
        near = ahead.cut(self._runway.ahead_bytes, cell.part_bytes_max)
        wanted = spans(self._there(info, near), *near, info.size, cell.part_bytes_max)
        refused = self._send_ahead(info, wanted, self._fly_cleared)
        if refused or near != ahead:
            cell.pattern = cell.pattern.fell_short(refused.start if refused else near.end)

    def _read_around(self, info: ObjectInfo, number: int, cell: PatternCell) -> None:
        """Note a random read that missed a block, and send for its neighbours, where that pays.

        The block is on its way by itself: nobody waits for its neighbours.
        """
        if self._round_trip.is_short:
            return
        object_max = self._disk.ahead_bytes_max * AROUND_OBJECT_SHARE
        cell.sampling, around = cell.sampling.missed(number, info.size, object_max)
        if around is None:
            return
        wanted = lumps(self._there(info, around), around, info.size)
        self._send_ahead(info, wanted, partial(self._fly_around, cell, around.size))

    @property
    def ahead_bytes_max(self) -> int:
        """How much may be fetched ahead without pushing itself out of the cache."""
        return self._disk.ahead_bytes_max

    def fetch_ahead(self, info: ObjectInfo) -> bool:
        """Send for all of a small object that will soon be read; whether there was room for it."""
        whole = Span(0, info.size)
        wanted = spans(self._there(info, whole), *whole, info.size)
        return self._send_ahead(info, wanted, self._fly_cleared) is None

    def _there(self, info: ObjectInfo, span: Span) -> set[int]:
        """The blocks of ``span`` that are here, or on their way."""
        here = self._disk.present(info, span.blocks)
        return here.union(self._flights.under_way(info, span.blocks))

    def _send_ahead(self, info: ObjectInfo, wanted: list[Span], how: Fly) -> Span | None:
        """Send for bytes nobody waits for yet; the first for which there was no place."""
        for span in wanted:
            if self._grounded or not self._runway.take_ahead(span.size):
                return span
            self._start(Flight(info, span).asked(self._store), how)
        return None

    def validated(self, info: ObjectInfo, at_sec: float) -> None:
        """That version was seen to be current at ``at_sec``: its blocks are worth keeping."""
        self._disk.validated(info, at_sec)

    # --- flights ------------------------------------------------------------------------------

    @property
    def _grounded(self) -> str:
        """Why nothing can be fetched at the moment, if so."""
        if self._nursery is None:
            return CLOSING
        return OFFLINE if self._lost() else ""

    def _depart(self, flight: Flight) -> Flight:
        """Let one fly that somebody waits for: at once, if there is a place on the runway."""
        if self._grounded or not self._runway.take_now(flight.span.size):
            return self._start(flight, self._fly)
        return self._start(flight.asked(self._store), self._fly_cleared)

    def _start(self, flight: Flight, how: Fly) -> Flight:
        if self._grounded or self._nursery is None:
            raise Unavailable(self._grounded)
        self._flights.add(flight)
        self._nursery.start_soon(self._guarded, flight, how)
        return flight

    async def _guarded(self, flight: Flight, how: Fly) -> None:
        """One flight from start to end; nothing but cancellation leaves it."""
        try:
            await how(flight)
        except QarnotfsError as error:
            log.debug("%r at %d: %s", flight.info.key, flight.span.start, error)
            flight.failed(error.with_traceback(None))  # it has this frame, and so itself
        except Exception:
            log.exception("a defect: %r at %d", flight.info.key, flight.span.start)
            flight.failed(QarnotfsError("An unexpected error while reading; the log has it."))
        finally:
            flight.landed.set()
            flight.over.set()
            self._flights.remove(flight)

    async def _fly(self, flight: Flight) -> None:
        """Wait for a place on the runway first."""
        await self._runway.take(flight.span.size)
        await self._fly_cleared(flight)

    async def _fly_cleared(self, flight: Flight) -> None:
        """Fetch, let the readers have the bytes, then keep them."""
        try:
            data = flight.outcome = await self._fetch(flight)
            flight.landed.set()
            self._fetched_bytes += len(data)
            if len(data) <= INLINE_BYTES_MAX and self._disk.quick(flight.info, len(data)):
                self._disk.store(flight.info, flight.span.start, data)
            else:
                await self._keeper.keep(flight.info, flight.span.start, data)
        finally:
            self._runway.give_back(flight.span.size)

    async def _fly_around(self, cell: PatternCell, width: int, flight: Flight) -> None:
        """Fetch what lies around a miss, and note whether it took too long."""
        await self._fly_cleared(flight)
        in_time = self._round_trip.is_about(flight.took_sec)
        cell.sampling = cell.sampling.landed(width, in_time=in_time)

    async def _fetch(self, flight: Flight) -> bytes:
        """The flight's bytes; asked for again and again while somebody waits for them."""
        info, span, pause_sec = flight.info, flight.span, BACKOFF_SEC_MIN
        while True:
            try:
                request = flight.take_request(self._store)
                fetched = await self._bridge.wait(request, timeout_sec=self.io_timeout_sec)
                data = flight.checked(fetched)
                flight.took_sec = trio.current_time() - flight.asked_sec
                self._round_trip.note(span.size, flight.took_sec)
                if not span.start:
                    self._learn(fetched.info)
                return data
            except (PreconditionFailed, NoSuchKey) as error:
                raise stale(info) from error
            except Unavailable:
                if trio.current_time() + pause_sec > flight.deadline:
                    if flight.deadline > -math.inf:
                        self._silent()
                    raise
                if self._lost():
                    raise
            await trio.sleep(pause_sec * random.uniform(0.5, 1.0))
            pause_sec = min(2 * pause_sec, BACKOFF_SEC_MAX)
