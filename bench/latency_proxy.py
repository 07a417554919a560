"""A TCP proxy that makes a server on this machine look far away.

    python -m bench.latency_proxy HOST:PORT --rtt-ms 20     # prints the URL to use instead

Used by the benchmarks as a process of its own (`far_away`), so that what it costs is nobody
else's. Each byte comes out half a round trip after it went in, in both directions. Bytes wait
in a line: any number of them is under way at the same time, nothing is slowed down but the
way itself. A new connection takes a round trip more, as TCP's handshake does. What it leaves
out: TCP's slow start, lost packets, a limit to the bandwidth.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

WAITING_BYTES_MAX = 64 << 20  # in one direction of one connection; then its sender waits


class Line:
    """One direction of one connection: bytes, and when each is to arrive."""

    def __init__(self, delay_sec: float, open_sec: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay_sec = delay_sec
        self._open_sec = open_sec  # nothing sets out before
        self._waiting: deque[tuple[float, bytes]] = deque()  # b"": the end
        self._bytes = 0
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def put(self, data: bytes) -> None:
        due_sec = max(self._loop.time(), self._open_sec) + self._delay_sec
        self._waiting.append((due_sec, data))
        self._bytes += len(data)
        if self._bytes > WAITING_BYTES_MAX and self.source is not None:
            self.source.pause_reading()
        if len(self._waiting) == 1:
            self._loop.call_at(due_sec, self._deliver)

    def reach(self, sink: asyncio.Transport) -> None:
        """The other end is there, which on a busy machine may be later than the first bytes."""
        self.sink = sink
        if self._waiting and self._waiting[0][0] <= self._loop.time():
            self._deliver()

    def _deliver(self) -> None:
        """Hand on what is due. One timer at a time: bytes cannot overtake each other."""
        if self.sink is None:
            return
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            self._hand_on(self._waiting.popleft()[1])
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._deliver)

    def _hand_on(self, data: bytes) -> None:
        self._bytes -= len(data)
        if self.sink is None or self.sink.is_closing():
            return  # nobody is interested any more
        if data:
            self.sink.write(data)
        else:
            self.sink.close()  # after what was written
        if self._bytes <= WAITING_BYTES_MAX and self.source and not self.source.is_closing():
            self.source.resume_reading()  # harmless when it was not paused


class End(asyncio.Protocol):
    """The proxy's end of a connection: what comes in goes into ``out``."""

    def __init__(self, out: Line, back: Line) -> None:
        self.out, self.back = out, back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.out.source = transport
        self.back.reach(transport)

    def data_received(self, data: bytes) -> None:
        self.out.put(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.out.put(b"")


class Client(End):
    """A client's connection, which has one to the server made for it."""

    def __init__(self, host: str, port: int, delay_sec: float) -> None:
        self._target = host, port
        now_sec = asyncio.get_running_loop().time()
        super().__init__(Line(delay_sec, now_sec + 2 * delay_sec), Line(delay_sec, now_sec))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: End(self.back, self.out), *self._target)
        except OSError:
            if self.back.sink is not None:
                self.back.sink.abort()


async def serve(host: str, port: int, rtt_sec: float) -> None:
    """Print the URL and serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(host, port, rtt_sec / 2), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def far_away(url: str, rtt_ms: float) -> Iterator[str]:
    """The URL at which the server of ``url`` (``http://HOST:PORT``) is so far away."""
    target = urlsplit(url).netloc
    command = [sys.executable, "-m", "bench.latency_proxy", target, f"--rtt-ms={rtt_ms}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            yield proxy.stdout.readline().strip()
        finally:
            proxy.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--rtt-ms", type=float, required=True)
    given = parser.parse_args()
    host, _, port = given.target.rpartition(":")
    # epoll counts in whole milliseconds, rounded up; select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(host, int(port), given.rtt_ms / 1000))


if __name__ == "__main__":
    main()
