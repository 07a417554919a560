"""A small HTTP server that answers what a test tells it, the broken answers included.

Used where the real gateway cannot be made to fail in that way: 5xx, resets, bodies that
end early, HTML where XML is due. It never checks signatures.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes


@dataclass(frozen=True)
class Answer:
    """``length`` is what Content-Length claims, when it is not the body's own."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


class Reset(Answer):
    """The connection is reset in place of an answer."""


class Silence(Answer):
    """Nothing is ever answered."""


def s3_error(status: int, code: str, **headers: str) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'
    return Answer(status, {"Content-Type": "application/xml", **headers}, body.encode())


class FaultyServer:
    """Serves on a free port of 127.0.0.1; ``requests`` lists what came in, in order."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._closed = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed by the end of the test
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        try:
            while (request := _read_request(stream)) is not None:
                self.requests.append(request)
                if not self._send(connection, request, self.answer(request)):
                    return
        except OSError:
            pass  # the client hung up
        finally:
            stream.close()
            connection.close()

    def _send(self, connection: socket.socket, request: Request, answer: Answer) -> bool:
        """Whether the connection is still good."""
        if isinstance(answer, Silence):
            self._closed.wait()
            return False
        if isinstance(answer, Reset):
            linger = struct.pack("ii", 1, 0)  # close() then sends RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        length = len(answer.body) if answer.length is None else answer.length
        head = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {length}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        if request.method != "HEAD":
            connection.sendall(answer.body)
        return request.method == "HEAD" or length == len(answer.body)


def _read_request(stream: BinaryIO) -> Request | None:
    start = stream.readline().decode("latin-1").split()
    if len(start) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Request(start[0], start[1], headers, stream.read(int(headers.get("content-length", 0))))
