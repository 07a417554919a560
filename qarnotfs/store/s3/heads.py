"""HEAD of several keys at once: one connection, one packet there, one back.

Used by `store` for `heads`. A directory of foreign objects is looked at by a HEAD of each, and a
library takes several times the CPU for one that this takes. It is a short cut and no more: what
is not answered as expected is left out, for the long way to ask again and to say why.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import urlsplit

from qarnotfs.errors import StoreError
from qarnotfs.store.base import ObjectInfo
from qarnotfs.store.s3 import paths, wire
from qarnotfs.store.s3.access import CONNECT_TIMEOUT_SEC, Access
from qarnotfs.store.s3.failures import Subject, no_tls, translated, untrusted
from qarnotfs.store.s3.signing import Signer

log = logging.getLogger(__name__)

ANSWER_SEC_MAX = 10.0
IDLE_SEC_MAX = 4.0  # servers close what they do not hear from for five or more
PAUSE_SEC = 30.0  # the long way only, after it did not work
ANSWER_BYTES_MAX = 1 << 20  # no head of an answer is so long
TROUBLE = (OSError, StoreError, RuntimeError, ValueError, KeyError)


class Heads:
    """Connections to one endpoint, kept for a moment. Safe in threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()  # guards the four below
        self._idle: list[tuple[_Connection, float]] = []
        self._paused_sec = float("-inf")  # until then; monotonic, as the time of an idle one
        self._closed = self._preparing = False

    def ask(self, bucket: str, keys: Sequence[str]) -> dict[str, ObjectInfo | None]:
        """The versions of those keys that were answered; ``None``: there is no such object."""
        found: dict[str, ObjectInfo | None] = {}
        if time.monotonic() < self._paused_sec:
            return found
        try:
            url = urlsplit(self._access.endpoint)
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            with translated(Subject(self._access.endpoint, bucket)):
                keys_now = self._access.keys()
            signer = Signer(*keys_now, self._access.region, now)
            targets = (url.path + paths.object_path(bucket, key) for key in keys)
            with self._connection() as connection:
                connection.send(b"".join(signer.request("HEAD", url.netloc, p) for p in targets))
                for key in keys:
                    status, headers = connection.answer()
                    if status == 200:
                        found[key] = wire.object_info(key, headers)
                    elif status == 404:
                        found[key] = None
        except TROUBLE as error:
            log.debug("HEAD of %d keys at once: %s", len(keys), error)
            self._paused_sec = time.monotonic() + PAUSE_SEC
        # Where nothing is there, it may be the bucket that is not.
        return found if any(found.values()) else {}

    def prepare(self) -> None:
        """Have an idle connection soon: to make one is two round trips or three, with TLS."""
        now_sec = time.monotonic()
        with self._lock:
            is_there = any(now_sec < since_sec + IDLE_SEC_MAX for _, since_sec in self._idle)
            if is_there or self._preparing or self._closed or now_sec < self._paused_sec:
                return
            self._preparing = True
        try:
            threading.Thread(target=self._prepare, name="connecting", daemon=True).start()
        except RuntimeError as error:  # no more threads: `ask` connects
            log.debug("connecting ahead: %s", error)
            self._preparing = False

    def _prepare(self) -> None:
        try:
            with self._connection():
                pass  # nothing to ask yet
        except TROUBLE as error:
            log.debug("connecting ahead: %s", error)
        finally:
            self._preparing = False

    def meet(self) -> None:
        """Make a first connection, if it is to be a secure one.

        `Refused`: the certificate of the server is not trusted; `Unavailable`: there is no TLS.
        awscrt would try again for a minute, and not say why.
        """
        subject = Subject(self._access.endpoint, "")
        try:
            trust = self._trust
        except OSError as error:  # the file of certificates is none, or cannot be read
            raise no_tls(subject, type(error).__name__) from None
        if trust is None:
            return
        try:
            with self._connection():
                pass
        except ssl.SSLCertVerificationError:
            raise untrusted(subject) from None
        except ssl.SSLError as error:
            raise no_tls(subject, type(error).__name__) from None
        except TROUBLE as error:
            log.debug("connecting at first: %s", error)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it is not any more."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection, _ in idle:
            connection.close()

    @cached_property
    def _trust(self) -> ssl.SSLContext | None:
        """Whom to trust; ``None`` without TLS. To read all of a system's certificates is 20 ms."""
        secure = urlsplit(self._access.endpoint).scheme == "https"
        return _trusting(self._access) if secure else None

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        connection = self._taken() or _Connection(self._access.endpoint, self._trust)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if not self._closed and connection.is_reusable:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _taken(self) -> _Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since_sec = self._idle.pop()
            if time.monotonic() < since_sec + IDLE_SEC_MAX:
                return connection
            connection.close()


class _Connection:
    """One connection on which answers come in the order of their questions."""

    def __init__(self, endpoint: str, trust: ssl.SSLContext | None) -> None:
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port or (443 if trust else 80)
        self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT_SEC)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if trust:
                self._socket = trust.wrap_socket(self._socket, server_hostname=host)
            self._socket.settimeout(ANSWER_SEC_MAX)
        except BaseException:
            self._socket.close()
            raise
        self._received = b""
        self.is_reusable = True

    def send(self, requests: bytes) -> None:
        self._socket.sendall(requests)

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers, in lower case, of the next answer, which has no body."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            more = self._socket.recv(1 << 16)
            if not more or len(self._received) > ANSWER_BYTES_MAX:
                raise ConnectionError("the answers ended early")
            self._received += more
        first, *lines = self._received[:end].decode().split("\r\n")
        self._received = self._received[end + 4 :]
        protocol, status, *_ = first.split(" ", 2)
        if not protocol.startswith("HTTP/1."):
            raise ValueError("not an answer")
        headers = {
            name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)
        }
        self.is_reusable &= headers.get("connection", "").lower() != "close"
        return int(status), headers

    def close(self) -> None:
        self._socket.close()


def _trusting(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as both libraries; default from 3.13 on
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
