"""HTTP/1.1 on a socket as a proxy sees it: heads, and bodies in pieces that stay as they are.

Used by `faults`. Nothing in here knows S3 or faults.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SILENCE_SEC_MAX = 60.0
PIECE_BYTES = 64 << 10


@dataclass(frozen=True)
class Head:
    """Start line and headers, as they were on the wire and taken apart."""

    raw: bytes
    start: list[str]
    headers: Mapping[str, str]  # lower-case names

    @property
    def body_bytes(self) -> int | None:
        """``None``: chunked, or until the connection ends."""
        length = self.headers.get("content-length")
        return None if length is None else int(length)


class Stream:
    """One side's connection, read through a buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(SILENCE_SEC_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = connection.makefile("rb")

    def head(self) -> Head | None:
        """The next message's head; ``None`` when the other side is done."""
        lines = [self._file.readline()]
        while lines[-1] not in (b"\r\n", b""):
            lines.append(self._file.readline())
        if not lines[-1]:
            return None
        named = (line.decode("latin-1").partition(":") for line in lines[1:-1])
        headers = {name.strip().lower(): value.strip() for name, _, value in named}
        return Head(b"".join(lines), lines[0].decode("latin-1").split(None, 2), headers)

    def exactly(self, count: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        while count:
            piece = self._file.read1(min(count, piece_bytes))
            if not piece:
                raise ConnectionError("the body ended early")
            count -= len(piece)
            yield piece

    def until_end(self) -> Iterator[bytes]:
        while piece := self._file.read1(PIECE_BYTES):
            yield piece

    def chunks(self) -> Iterator[bytes]:
        """A chunked body with its framing; no trailers."""
        size = -1
        while size:
            line = self._file.readline()
            size = int(line.partition(b";")[0], 16)
            yield line
            yield from self.exactly(size + 2)

    def reset(self) -> None:
        """From now on closing it tells the other side that all is lost (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._file.close()
        self.socket.close()
