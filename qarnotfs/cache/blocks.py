"""Which blocks a read needs, and which ones it will want next. Pure.

Used by `reader`, `disk` and `entry`; `core.handles` keeps a `PatternCell` for each open
file. Never does I/O and never looks at a clock: the state of a reader is a value, and each
read makes the next value from it.

Bytes are cached in blocks of 256 KiB: small enough that a random 4 KiB read costs a
quarter of a megabyte, large enough that a request a block is not the rule.
"""

from __future__ import annotations

from collections.abc import Container, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

BLOCK_BYTES = 256 << 10
PART_BYTES_MIN = 1 << 20  # below it a request costs more than its bytes
PART_BYTES_MAX = 8 << 20  # one range GET; above it the first byte of a part waits too long
SMALL_BYTES_MAX = 1 << 20  # an object read from its beginning and no larger is one GET
WINDOW_BYTES_MIN = 1 << 20
WINDOW_BYTES_MAX = 64 << 20

# Linux sends up to 12 reads of one file at the same time (FUSE max_background), and they
# arrive in any order: a read this many of its own sizes away still belongs to the stream.
REACH_READS = 16
REACH_BYTES_MAX = 16 << 20

# How a window grows that has lost bytes. Measured: 16 streams through 8 MiB fetch 1.3 times
# their bytes; with a block as the smallest step they never stop losing, and fetch 6 times.
LOSSY_STEP_SHARE = 8
LOSSY_STEP_BYTES_MIN = BLOCK_BYTES // 16

# Random reads, each of a block that is not there: how many of them, in an object of how many
# bytes, are a reason to fetch what lies around the next one, too. See `Sampling`.
SAMPLES_MIN = 8
SAMPLED_BYTES = 256 << 20
AROUND_BYTES_MIN = 2 * BLOCK_BYTES
AROUND_BYTES_MAX = 16 << 20
AROUND_SHARE = 16  # of the object, at most that part at a time

STREAM_COUNT_MAX = 4  # streams of one handle that are told apart: threads, index and data


class Span(NamedTuple):
    """Bytes ``[start, start + size)`` of an object."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def blocks(self) -> range:
        """The blocks the bytes lie in."""
        return range(self.start // BLOCK_BYTES, -(-self.end // BLOCK_BYTES))

    def cut(self, room_bytes: int, part_bytes: int) -> Span:
        """What is to be looked at where there is room for so much: parts, from its start on.

        Of many streams that share the room each would look at a whole window at each read.
        """
        if self.size <= room_bytes:
            return self
        size = room_bytes // part_bytes * part_bytes
        return Span(self.start, size // BLOCK_BYTES * BLOCK_BYTES)


def block_span(blocks: range, object_size: int) -> Span:
    """The bytes of whole blocks, clipped to the object."""
    start = blocks.start * BLOCK_BYTES
    return Span(start, min(blocks.stop * BLOCK_BYTES, object_size) - start)


def spans(
    present: Container[int],
    offset: int,
    size: int,
    object_size: int,
    part_bytes_max: int = PART_BYTES_MAX,
) -> list[Span]:
    """What must be fetched so that ``[offset, offset + size)`` is there.

    ``present`` holds the numbers of blocks that are there already. The answer is in
    ascending order, made of whole blocks clipped to the object; neighbours are joined, and
    cut where a request would be larger than ``part_bytes_max`` (at least one block).
    """
    wanted = Span(offset, min(size, object_size - offset))
    if wanted.size <= 0:
        return []
    count_max = max(1, part_bytes_max // BLOCK_BYTES)
    runs: list[range] = []
    for number in wanted.blocks:
        if number in present:
            continue
        last = runs[-1] if runs else None
        if last is not None and last.stop == number and len(last) < count_max:
            runs[-1] = range(last.start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return [block_span(run, object_size) for run in runs]


def lumps(present: Set[int], wanted: Span, object_size: int) -> list[Span]:
    """What is fetched of ``wanted`` in few requests: what is there is left out in large runs only.

    A request costs more than the bytes it would spare.
    """
    runs = spans(set(wanted.blocks) - present, *wanted, object_size, wanted.size)
    spared = {n for run in runs if run.size >= PART_BYTES_MIN for n in run.blocks}
    return spans(spared, *wanted, object_size)


@dataclass(frozen=True, slots=True)
class Stream:
    """A region of one file that is being read through.

    ``[low, high)`` was touched lately, and ``covered`` bytes of it were really asked for: a
    stream is sequential while that is at least half, so reads may overtake one another,
    but a stride is not taken for a stream. ``window`` bytes beyond ``high`` are wanted
    (0: not sequential), and everything below ``ahead`` was asked for ahead of its reader.
    ``lossy``: some of that was gone again before it was read.
    """

    low: int
    high: int
    covered: int
    window: int = 0
    ahead: int = 0
    lossy: bool = False

    def near(self, offset: int, size: int) -> bool:
        reach = _reach(size)
        return self.low - reach <= offset <= self.high + reach

    def after(self, offset: int, size: int) -> Stream:
        """The stream with one more read in it; old reads count less and less."""
        low, high = min(self.low, offset), max(self.high, offset + size)
        covered = min(self.covered + size, high - low)
        memory = 2 * _reach(size)
        if high - low > memory:
            covered = covered * memory // (high - low)
            low = high - memory
        stream = replace(self, low=low, high=high, covered=covered)
        return stream if stream.dense else replace(stream, window=0, ahead=0)

    @property
    def dense(self) -> bool:
        return 2 * self.covered >= self.high - self.low

    def onward(self, object_size: int, window_bytes_max: int) -> tuple[Stream, Span | None]:
        """Widen the window when half of it is used up, and say what to fetch for it."""
        if self.ahead >= object_size or 2 * (self.ahead - self.high) > self.window:
            return self, None
        step = self.window or WINDOW_BYTES_MIN
        if self.lossy:
            step = max(self.window // LOSSY_STEP_SHARE, LOSSY_STEP_BYTES_MIN)
        window = min(self.window + step, window_bytes_max)
        start = max(self.ahead, _block_end(self.high))
        end = min(_block_end(self.high + window), object_size)
        if window < BLOCK_BYTES or end <= start:
            return replace(self, window=window), None
        return replace(self, window=window, ahead=end), Span(start, end - start)


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one handle has been reading: its streams, the one used last first."""

    streams: tuple[Stream, ...] = ()

    def after(
        self, offset: int, size: int, object_size: int, window_bytes_max: int = WINDOW_BYTES_MAX
    ) -> tuple[Pattern, Span | None]:
        """The pattern after one more read, and the bytes to fetch ahead of the next ones.

        Bytes are fetched ahead for a read that moves a sequential stream forward, or that
        begins at the object's first byte; a random, strided or backward read gets none.
        """
        before = next((s for s in self.streams if s.near(offset, size)), None)
        others = tuple(s for s in self.streams if s is not before)[: STREAM_COUNT_MAX - 1]
        now = before.after(offset, size) if before else Stream(offset, offset + size, size)
        forward = before is None or now.high > before.high
        sequential = now.dense and (now.low == 0 or now.covered > size)
        ahead = None
        if forward and sequential:
            now, ahead = now.onward(object_size, window_bytes_max)
        return Pattern((now, *others)), ahead

    def fell_short(self, start: int) -> Pattern:
        """The pattern when nothing from byte ``start`` on was fetched ahead after all."""
        return self._with(replace(self.streams[0], ahead=start))

    def lost(self, offset: int) -> Pattern:
        """The pattern when the byte at ``offset``, fetched ahead, was gone before its read.

        The cache is too small for all who want something of it, or the fetch failed. The
        window falls to a half and grows slowly from now on, as TCP's does, for the same
        reason: doubling it again would make everybody lose again.
        """
        if not self.streams or offset >= self.streams[0].ahead:
            return self
        window = self.streams[0].window // 2
        return self._with(replace(self.streams[0], window=window, ahead=0, lossy=True))

    def _with(self, latest: Stream) -> Pattern:
        return Pattern((latest, *self.streams[1:]))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often one handle missed at random, and how much is fetched around its next miss.

    A program that has read an object here and there will soon read it somewhere else: at some
    point it is quicker to have all of it. What is fetched around a miss doubles each time that
    it came in time. What can be wasted is the object; the larger it is, the more often must it
    have been read before, with the square of its size, as a larger object is also hit less
    often by chance: 8 misses in 256 MiB, 128 in 1 GiB, 12,800 in 10 GiB. In 100 GiB it never
    happens. Up to there the misses took about as long as all of the object would have.
    """

    misses: int = 0
    width: int = AROUND_BYTES_MIN

    def missed(
        self, number: int, object_size: int, object_bytes_max: int
    ) -> tuple[Sampling, Span | None]:
        """One more miss, of block ``number``, and the bytes to fetch around it.

        An object larger than ``object_bytes_max`` would not stay until it is read.
        """
        now = replace(self, misses=self.misses + 1)
        if now.misses <= samples_needed(object_size) or object_size > object_bytes_max:
            return now, None
        width = max(AROUND_BYTES_MIN, min(_power(object_size // AROUND_SHARE), self.width))
        start = number * BLOCK_BYTES // width * width
        return now, Span(start, min(width, object_size - start))

    def landed(self, width: int, *, in_time: bool) -> Sampling:
        """What is next when ``width`` bytes around a miss took not much longer than a block.

        If they did, it is half; and where that is too little to be worth a request, it begins
        again from nothing: the way to the store is narrow, and a program waits for the same way.
        """
        if in_time:
            return replace(self, width=min(max(self.width, 2 * _power(width)), AROUND_BYTES_MAX))
        if width <= AROUND_BYTES_MIN:
            return Sampling()
        return replace(self, width=min(self.width, _power(width) // 2))


def samples_needed(object_size: int) -> int:
    """After how many random misses what lies around the next one is fetched, too."""
    return int(SAMPLES_MIN * max(1.0, object_size / SAMPLED_BYTES) ** 2)


@dataclass(slots=True)
class PatternCell:
    """Where a handle keeps its pattern between reads; `reader` replaces what is in it."""

    pattern: Pattern = Pattern()
    sampling: Sampling = Sampling()

    @property
    def streaming(self) -> bool:
        """Whether the last read belongs to a sequential stream."""
        return bool(self.pattern.streams) and self.pattern.streams[0].window > 0

    @property
    def part_bytes_max(self) -> int:
        """Requests of a young window are small and parallel, of a wide one few and large."""
        window = self.pattern.streams[0].window if self.pattern.streams else 0
        return max(PART_BYTES_MIN, min(window // 8, PART_BYTES_MAX))


def _power(size: int) -> int:
    """The largest power of two that is not larger."""
    return 1 << max(0, size.bit_length() - 1)


def _reach(size: int) -> int:
    return max(BLOCK_BYTES, min(REACH_READS * size, REACH_BYTES_MAX))


def _block_end(offset: int) -> int:
    return -(-offset // BLOCK_BYTES) * BLOCK_BYTES
