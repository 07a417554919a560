"""The benchmarks' proxy delays every byte by what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from bench.latency_proxy import far_away
from tests.support import eventually

RTT_MS = 40.0
RTT_SEC = RTT_MS / 1000


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets, until its client ends."""

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 20):
                connection.sendall(data)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the test is over
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def far(echo: str) -> Iterator[tuple[str, int]]:
    with far_away(echo, RTT_MS) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


def test_a_round_trip_takes_what_it_says(far: tuple[str, int]) -> None:
    begun_sec = time.monotonic()
    with socket.create_connection(far) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def round_trip_sec() -> float:
            begun = time.monotonic()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            return time.monotonic() - begun

        round_trip_sec()
        assert time.monotonic() - begun_sec >= 2 * RTT_SEC  # with the handshake
        assert min(round_trip_sec() for _ in range(10)) >= RTT_SEC
        eventually(lambda: round_trip_sec() < RTT_SEC * 1.25)  # a busy machine is often later


def test_bytes_do_not_wait_for_each_other(far: tuple[str, int]) -> None:
    """Sixteen megabytes in thousands of pieces, all under way at once, and in their order."""
    body = b"".join(number.to_bytes(4, "big") for number in range(4 << 20))
    with socket.create_connection(far) as client:
        sender = threading.Thread(target=client.sendall, args=(body,))
        begun = time.monotonic()
        sender.start()
        received = bytearray()
        while len(received) < len(body):
            received += client.recv(1 << 20)
        took = time.monotonic() - begun
        sender.join()
    assert received == body
    assert took < 200 * RTT_SEC  # one round trip for each 64 KiB would be 256 of them


def test_connections_do_not_wait_for_each_other(far: tuple[str, int]) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(far)) for _ in range(100)]

        def took_sec() -> float:
            begun = time.monotonic()
            for client in clients:
                client.sendall(b"x")
            assert [client.recv(1) for client in clients] == [b"x"] * len(clients)
            took = time.monotonic() - begun
            assert took >= RTT_SEC
            return took

        eventually(lambda: took_sec() < len(clients) / 4 * RTT_SEC)  # a busy machine is often later


def test_the_end_arrives_too(far: tuple[str, int]) -> None:
    with socket.create_connection(far) as client:
        client.sendall(b"last")
        received = b""
        while len(received) < 4:
            received += client.recv(4)
    assert received == b"last"


def test_nobody_is_there() -> None:
    with (
        far_away("http://127.0.0.1:1", RTT_MS) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client,
    ):
        client.sendall(b"x")
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
