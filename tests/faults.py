"""A proxy in front of the real gateway that answers chosen requests with an error.

Used where a test needs one kind of request to fail and the rest to work. It forwards
everything else as it came, Host and signature included. It never looks into a body.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.rgw import Gateway

Chooser = Callable[[str, str], bool]  # method and path with query, as the client wrote it

FORWARD_SEC_MAX = 60.0
NOT_FORWARDED = {"connection", "keep-alive", "expect", "transfer-encoding"}


class FaultProxy:
    """Listens while the ``with`` block lasts. `failed` counts the requests it answered itself."""

    def __init__(self, gateway: Gateway) -> None:
        self.target = urlsplit(gateway.endpoint)
        self.failed = 0
        self._fault: tuple[Chooser, int] | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, chooser: Chooser, status: int = 503) -> None:
        """From now on answer the requests that ``chooser`` picks with ``status``."""
        self.failed = 0
        self._fault = chooser, status

    def calm(self) -> None:
        """From now on only forward."""
        self._fault = None

    def verdict(self, method: str, path: str) -> int | None:
        """The status to answer with; ``None``: forward."""
        if self._fault and self._fault[0](method, path):
            self.failed += 1
            return self._fault[1]
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its connection for longer than the test
    proxy: FaultProxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for status line, headers and a small body
    disable_nagle_algorithm = True
    server: _Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.proxy.verdict(self.command, self.path)
        if status is not None:
            self._reply(status, [], b"")
            return
        target = self.server.proxy.target
        upstream = HTTPConnection(str(target.hostname), target.port, timeout=FORWARD_SEC_MAX)
        try:
            answer = self._forward(upstream, body)
            self._reply(answer.status, answer.getheaders(), answer.read())
        except OSError:
            self._reply(502, [], b"")
        finally:
            upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _forward(self, upstream: HTTPConnection, body: bytes) -> HTTPResponse:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in NOT_FORWARDED:
                upstream.putheader(name, value)
        upstream.endheaders(body)
        return upstream.getresponse()

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in NOT_FORWARDED | {"content-length"}:
                self.send_header(name, value)
        length = str(len(body))
        if self.command == "HEAD":
            length = dict(headers).get("Content-Length", length)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
