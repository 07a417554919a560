"""A proxy in front of the real gateway that breaks chosen requests, in the ways networks do.

It forwards everything as it came, Host and signature included, piece by piece: bodies of any
size on any number of connections. ``Expect: 100-continue`` is the gateway's to answer. What
is broken is decided per request by `Rule`s, so a run with the same seed and the same order
of requests breaks the same ones.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.rgw import Gateway
from tests.streams import PIECE_BYTES, Head, Stream

Chooser = Callable[[str, str], bool]  # method and path with query, as the client wrote it

HOST = "127.0.0.1"
CONNECT_SEC_MAX = 60.0
SLOW_PIECE_BYTES = 4 << 10
SLOW_BYTES_PER_SEC = 512 << 10
SLOW_START_SEC = 0.1
REFUSED_SEC = 0.5
JOIN_SEC = 5.0


class Fault(StrEnum):
    """What can happen to a request. The value is its name in tables."""

    SLOW_DOWN = "503 SlowDown"
    BEFORE_COMMIT = "500 before commit"
    AFTER_COMMIT = "500 after commit"  # carried out, but the answer says otherwise
    RESET_REQUEST = "reset in request body"
    RESET_ANSWER = "reset in answer body"  # carried out; without a body, before the answer
    TRUNCATED = "answer cut short"  # as above, but the connection ends in good order
    SLOW = "slow"
    HANG = "hang"
    WRONG_BYTES = "wrong byte in GET"
    WRONG_ETAG = "wrong etag"
    REFUSED = "connection refused"  # for a while, and who is connected is thrown out


REFUSALS = {Fault.SLOW_DOWN: (503, "SlowDown"), Fault.BEFORE_COMMIT: (500, "InternalError")}
CUT = {Fault.RESET_ANSWER, Fault.TRUNCATED}


def any_request(method: str, path: str) -> bool:
    return True


def reads_object(method: str, path: str) -> bool:
    """GET of an object's bytes; not a listing."""
    return method == "GET" and len(urlsplit(path).path.strip("/").split("/", 1)) == 2


@dataclass(eq=False)
class Rule:
    """Which requests get ``fault``: a share of those chosen, or only the ``nth`` (from 1).

    ``status``: answer this without a body in place of the fault's own refusal.
    """

    fault: Fault
    chooser: Chooser = any_request
    probability: float = 1.0
    nth: int | None = None
    status: int | None = None
    seen: int = field(default=0, init=False)

    def picks(self, method: str, path: str, dice: random.Random) -> bool:
        if not self.chooser(method, path):
            return False
        self.seen += 1
        if self.nth is not None:
            return self.seen == self.nth
        return dice.random() < self.probability


class FaultProxy:
    """Listens while the ``with`` block lasts. ``injected`` counts the faults that happened."""

    def __init__(self, gateway: Gateway, seed: int = 0) -> None:
        self.target = urlsplit(gateway.endpoint)
        self.injected: Counter[Fault] = Counter()
        self.closing = threading.Event()
        self._rules: list[Rule] = []
        self._dice = random.Random(seed)
        self._lock = threading.Lock()  # guards all of the above, and `_links`
        self._links: dict[threading.Thread, _Link] = {}
        self._listener = _listener()
        self._thread = threading.Thread(target=self._accept)
        self.endpoint = f"http://{HOST}:{self._listener.getsockname()[1]}"

    @property
    def failed(self) -> int:
        """How many requests were broken since `fail` or `inject`."""
        return self.injected.total()

    def fail(self, chooser: Chooser, status: int = 503) -> None:
        """From now on answer the requests that ``chooser`` picks with ``status``."""
        self.inject(Rule(Fault.BEFORE_COMMIT, chooser, status=status))

    def inject(self, *rules: Rule) -> None:
        """From now on these rules hold, and no others; the first that picks a request has it."""
        with self._lock:
            self.injected.clear()
            self._rules = list(rules)

    def calm(self) -> None:
        """From now on only forward."""
        with self._lock:
            self._rules = []

    def verdict(self, method: str, path: str) -> Rule | None:
        with self._lock:
            picked = (rule for rule in self._rules if rule.picks(method, path, self._dice))
            return next(picked, None)

    def count(self, fault: Fault) -> None:
        with self._lock:
            self.injected[fault] += 1

    def is_listening(self) -> bool:
        """Whether a connection would be accepted now."""
        return bool(self._listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def throw_out(self) -> None:
        """Refuse connections for a while, and end those there are. `_accept` listens again."""
        with self._lock:
            if self.is_listening():  # a second shutdown would also be one of all that come later
                self._listener.shutdown(socket.SHUT_RDWR)
        self._cut_links()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        with suppress(OSError):  # it is refusing connections already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._cut_links()
        for thread in list(self._links):
            thread.join(JOIN_SEC)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # shut down: for good, or by `throw_out`
                self.closing.wait(REFUSED_SEC)
                self._listener.listen(128)
                continue
            link = _Link(self, client)
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            with self._lock:
                self._links[thread] = link
            thread.start()

    def _serve(self, link: _Link) -> None:
        try:
            link.serve()
        finally:
            with self._lock:
                self._links.pop(threading.current_thread(), None)
                link.close()

    def _cut_links(self) -> None:
        with self._lock:
            for link in self._links.values():
                link.cut()


class _Link:
    """One client's connection. Each request has a connection of its own to the gateway."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = Stream(client)
        self._gateway: Stream | None = None

    def serve(self) -> None:
        try:
            while self._exchange() and not self._proxy.closing.is_set():
                pass
        except (OSError, ValueError):  # somebody hung up; ValueError: within a chunk's head
            self._client.reset()

    def cut(self) -> None:
        """End it from outside: whoever waits on it wakes up."""
        for side in (self._client, self._gateway):
            if side is not None:
                with suppress(OSError):  # already closed
                    side.reset()
                    side.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.close()

    def _exchange(self) -> bool:
        """Carry one request; whether the connection is good for another."""
        head = self._client.head()
        if head is None:
            return False
        method, path = head.start[:2]
        rule = self._proxy.verdict(method, path)
        fault = rule.fault if rule else None
        if rule and (rule.status or fault in REFUSALS):
            return self._refuse(head, rule)
        if fault is Fault.HANG:
            self._hang()
            return False
        if fault is Fault.REFUSED:
            self._proxy.count(fault)
            self._proxy.throw_out()
            return False
        try:
            with socket.create_connection(
                (str(self._proxy.target.hostname), self._proxy.target.port), CONNECT_SEC_MAX
            ) as upstream:
                self._gateway = Stream(upstream)
                try:
                    return self._forward(head, self._gateway, fault)
                finally:
                    self._gateway.close()
                    self._gateway = None
        except ConnectionRefusedError:
            return self._refuse(head, Rule(Fault.BEFORE_COMMIT, status=502), counted=False)

    # --- without the gateway ----------------------------------------------------------------

    def _refuse(self, head: Head, rule: Rule, *, counted: bool = True) -> bool:
        expecting = "expect" in head.headers
        if not expecting:
            for _ in self._client.exactly(head.body_bytes or 0):
                pass
        if counted:
            self._proxy.count(rule.fault)
        if rule.status:
            self._answer(head, rule.status)
        else:
            self._answer(head, *REFUSALS[rule.fault])
        return not expecting

    def _answer(self, head: Head, status: int, code: str = "") -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>' if code else ""
        lines = [f"HTTP/1.1 {status} Fault", "Content-Type: application/xml"]
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        shown = "" if head.start[0] == "HEAD" else body
        self._client.socket.sendall("\r\n".join([*lines, "", shown]).encode())

    def _hang(self) -> None:
        """Say nothing until the client gives up."""
        self._proxy.count(Fault.HANG)
        poll = select.poll()
        poll.register(self._client.socket, select.POLLRDHUP)
        while not poll.poll(100) and not self._proxy.closing.is_set():
            pass

    # --- through the gateway ----------------------------------------------------------------

    def _forward(self, head: Head, gateway: Stream, fault: Fault | None) -> bool:
        gateway.socket.sendall(head.raw)
        if "expect" in head.headers:
            interim = gateway.head()
            if interim is None or interim.start[1] != "100":
                return self._relay(head, gateway, interim, fault) and False
            self._client.socket.sendall(interim.raw)
        if fault is Fault.RESET_REQUEST:
            self._send_half(head, gateway)
            return False
        took_all = self._send_body(head, gateway, slow=fault is Fault.SLOW)
        answer = gateway.head()
        while answer is not None and answer.start[1] == "100":
            answer = gateway.head()
        return self._relay(head, gateway, answer, fault) and took_all

    def _send_half(self, head: Head, gateway: Stream) -> None:
        self._proxy.count(Fault.RESET_REQUEST)
        for piece in self._client.exactly((head.body_bytes or 0) // 2):
            gateway.socket.sendall(piece)
        gateway.reset()
        self._client.reset()

    def _send_body(self, head: Head, gateway: Stream, *, slow: bool) -> bool:
        """Whether the gateway took all of it; it may answer early and hang up."""
        try:
            for piece in self._paced(self._client, head.body_bytes or 0, slow):
                gateway.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _relay(self, head: Head, gateway: Stream, answer: Head | None, fault: Fault | None) -> bool:
        """Pass the answer on, or what the fault makes of it."""
        if answer is None:
            raise ConnectionError("the gateway did not answer")
        bodiless = head.start[0] == "HEAD" or answer.start[1] in ("204", "304")
        size = 0 if bodiless else answer.body_bytes
        if fault is not None:
            fault = self._applicable(fault, head, answer, size)
        if fault is not None:
            self._proxy.count(fault)
        if fault is Fault.AFTER_COMMIT:
            for _ in self._pieces(gateway, answer, size):
                pass
            self._answer(head, 500, "InternalError")
            return True
        if fault in CUT:
            self._send_cut(gateway, answer, size or 0)
            if fault is Fault.RESET_ANSWER:
                self._client.reset()
            return False
        self._client.socket.sendall(_spoilt(answer) if fault is Fault.WRONG_ETAG else answer.raw)
        pieces = self._pieces(gateway, answer, size, slow=fault is Fault.SLOW)
        if fault is Fault.WRONG_BYTES:
            pieces = _flipped(pieces)
        for piece in pieces:
            self._client.socket.sendall(piece)
        kept = (headers.get("connection", "").lower() for headers in (head.headers, answer.headers))
        framed = size is not None or "transfer-encoding" in answer.headers
        return framed and "close" not in kept

    def _applicable(self, fault: Fault, head: Head, answer: Head, size: int | None) -> Fault | None:
        """Not every answer has what a fault would spoil."""
        if fault is Fault.WRONG_ETAG and "etag" not in answer.headers:
            return None
        if fault is Fault.WRONG_BYTES and not (
            size and answer.start[1].startswith("2") and reads_object(*head.start[:2])
        ):
            return None
        return fault

    def _send_cut(self, gateway: Stream, answer: Head, size: int) -> None:
        if size:
            self._client.socket.sendall(answer.raw)
        for piece in gateway.exactly(size // 2):
            self._client.socket.sendall(piece)

    def _pieces(
        self, gateway: Stream, answer: Head, size: int | None, *, slow: bool = False
    ) -> Iterator[bytes]:
        if size is not None:
            return self._paced(gateway, size, slow)
        if answer.headers.get("transfer-encoding", "").lower() == "chunked":
            return gateway.chunks()
        return gateway.until_end()

    def _paced(self, source: Stream, count: int, slow: bool) -> Iterator[bytes]:
        due_sec = time.monotonic() + SLOW_START_SEC
        for piece in source.exactly(count, SLOW_PIECE_BYTES if slow else PIECE_BYTES):
            if slow:
                due_sec += len(piece) / SLOW_BYTES_PER_SEC
                self._proxy.closing.wait(max(0.0, due_sec - time.monotonic()))
            yield piece


def _spoilt(answer: Head) -> bytes:
    """The head with another etag of the same form."""
    etag = answer.headers["etag"]
    other = etag.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    return answer.raw.replace(etag.encode(), other.encode())


def _flipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        at = len(piece) // 2
        yield piece if number else piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]


def _listener() -> socket.socket:
    """Bound to a number, not to 0: only such a port outlives `FaultProxy.throw_out`."""
    while True:
        with socket.create_server((HOST, 0)) as probe:
            address = probe.getsockname()
        with suppress(OSError):  # another process was given it meanwhile
            return socket.create_server(address, backlog=128)
