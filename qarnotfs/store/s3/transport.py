"""Single requests through awscrt, and journeys made of several; nothing here ever blocks.

Used by `S3Store`. awscrt signs, sends and repeats on threads of its own, which call back
here; they hold the GIL for a moment only. It never knows what a request means.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from awscrt.auth import AwsCredentials, AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import (
    ClientBootstrap,
    ClientTlsContext,
    DefaultHostResolver,
    EventLoopGroup,
    TlsConnectionOptions,
    TlsContextOptions,
)
from awscrt.s3 import (
    S3Client,
    S3RequestTlsMode,
    S3RequestType,
    S3RetryConfig,
    create_default_s3_signing_config,
)

from qarnotfs.errors import StoreError, Unavailable
from qarnotfs.store.base import Flight, give_up_sec
from qarnotfs.store.s3.access import CONNECT_TIMEOUT_SEC, READ_TIMEOUT_SEC, Access
from qarnotfs.store.s3.failures import (
    Subject,
    failure_of_crt,
    incomplete,
    translated,
)

T = TypeVar("T")

THREADS = 1  # one loop moves 1500 small requests a second; awscrt adds four threads of its own
PART_BYTES = 8 << 20  # a GET of at most this is one request, a longer one several at once
MEMORY_BYTES_MAX = 1 << 30  # the least that awscrt accepts; it takes what is in flight
THROUGHPUT_GBPS = 20.0  # awscrt makes a number of connections of it: here about 50
RETRIES_MAX = 2  # callers repeat for as long as it takes
RETRY_SCALE_MS = 100
RETRY_SEC_MAX = 1
CLOSE_SEC_MAX = 5.0  # connections close at once; this is for a machine under load

UNREADABLE = "AWS_ERROR_CRT_CALLBACK_EXCEPTION"  # no callback of ours raises
OPERATIONS = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``path`` is escaped and has its query."""

    method: str
    path: str
    subject: Subject
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    operation: str = ""  # S3's name for it, when it is not the method's own

    @property
    def kind(self) -> S3RequestType:
        """GET_OBJECT moves large bodies at half the CPU; everything else is sent as it is."""
        is_object = self.method == "GET" and not self.operation
        return S3RequestType.GET_OBJECT if is_object else S3RequestType.DEFAULT


@dataclass(slots=True)
class Reply:
    """What came of a request: ``failure``, or else headers (lower-case names) and body.

    ``status`` is 0 when there was no answer, or awscrt kept it to itself. ``is_unreadable``:
    awscrt could not turn the headers into text.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    failure: StoreError | None
    is_unreadable: bool


class Transport:
    """One awscrt client, made by the first request. A forked child needs a new transport."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._url = urlsplit(access.endpoint)
        self._lock = threading.Lock()  # guards the three below
        self._client: S3Client | None = None
        self._closed = False
        self._live: set[Journey[Any]] = set()
        self._credentials_failure: StoreError | None = None  # why the last were not to be had

    def send(self, ask: Ask, done: Callable[[Reply], None]) -> Any:
        """Send, and have ``done`` called from another thread; return the request to cancel."""
        received: dict[str, str] = {}
        chunks: list[bytes] = []

        def on_headers(headers: list[tuple[str, str]], **_: object) -> None:
            received.update((name.lower(), value) for name, value in headers)

        def on_body(chunk: bytes, **_: object) -> None:
            chunks.append(chunk)

        def on_done(error: BaseException | None, status_code: int | None, **_: object) -> None:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            failure = self._failure(error, ask.subject) if error else None
            unreadable = getattr(error, "name", "") == UNREADABLE
            done(Reply(status_code or 0, received, body, failure, unreadable))

        return self._opened().make_request(
            type=ask.kind,
            request=self._http(ask),
            operation_name=ask.operation or OPERATIONS[ask.method],
            on_headers=on_headers,
            on_body=on_body,
            on_done=on_done,
        )

    def close(self) -> None:
        """End everything under way, and the threads. Not from a flight's callback."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
            live = list(self._live)
        for journey in live:
            journey.abort()
        if client is not None:
            over = client.shutdown_event
            del client  # the last reference: awscrt begins to shut down
            over.wait(CLOSE_SEC_MAX)

    def enrol(self, journey: Journey[Any]) -> None:
        with self._lock:
            self._live.add(journey)

    def dismiss(self, journey: Journey[Any]) -> None:
        with self._lock:
            self._live.discard(journey)

    def _http(self, ask: Ask) -> HttpRequest:
        pairs = [("Host", self._url.netloc), *ask.headers]
        stream = None
        if ask.body is not None:
            pairs.append(("Content-Length", str(len(ask.body))))
            stream = io.BytesIO(ask.body)  # shares the bytes
        return HttpRequest(ask.method, self._url.path + ask.path, HttpHeaders(pairs), stream)

    def _failure(self, error: BaseException, subject: Subject) -> StoreError:
        failure = failure_of_crt(error, subject)
        if getattr(error, "name", "").startswith("AWS_AUTH") and self._credentials_failure:
            return self._credentials_failure
        return failure

    def _opened(self) -> S3Client:
        with self._lock:
            if self._closed:
                raise incomplete(Subject(self._access.endpoint, ""), "it was closed")
            if self._client is None:
                self._client = self._make()
            return self._client

    def _make(self) -> S3Client:
        loops = EventLoopGroup(THREADS)
        provider = AwsCredentialsProvider.new_delegate(self._credentials)
        secure = self._url.scheme == "https"
        return S3Client(
            bootstrap=ClientBootstrap(loops, DefaultHostResolver(loops)),
            region=self._access.region,
            tls_mode=S3RequestTlsMode.ENABLED if secure else S3RequestTlsMode.DISABLED,
            tls_connection_options=self._tls() if secure else None,
            signing_config=create_default_s3_signing_config(
                region=self._access.region, credential_provider=provider
            ),
            part_size=PART_BYTES,
            throughput_target_gbps=THROUGHPUT_GBPS,
            memory_limit=MEMORY_BYTES_MAX,
            retry_config=S3RetryConfig(RETRIES_MAX, RETRY_SCALE_MS, RETRY_SEC_MAX),
            connect_timeout_ms=CONNECT_TIMEOUT_SEC * 1000,
        )

    def _tls(self) -> TlsConnectionOptions:
        options = TlsContextOptions()
        options.verify_peer = self._access.verify
        if self._access.ca_file and self._access.verify:
            options.override_default_trust_store_from_path(None, self._access.ca_file)
        return TlsConnectionOptions(ClientTlsContext(options))

    def _credentials(self) -> AwsCredentials:
        """Called by awscrt for each request; waits only while credentials are refreshed."""
        try:
            with translated(Subject(self._access.endpoint, "")):
                keys = self._access.keys()
        except StoreError as failure:
            self._credentials_failure = failure
            raise
        self._credentials_failure = None
        return AwsCredentials(*keys)


class Journey(Generic[T]):
    """One flight and the requests made for it, one after the other.

    Whoever makes one calls `attempt` or `send`; handlers end in `land`, `fail` or another
    `send`. The flight ends exactly once, whatever order answers and `abort` come in.
    """

    def __init__(self, transport: Transport, subject: Subject) -> None:
        self.subject = subject
        self.flight: Flight[T] = Flight(self.abort)
        self.flight.set_running_or_notify_cancel()  # Future.cancel() can no longer end it
        self._transport = transport
        self._lock = threading.Lock()  # guards the two below
        self._request: Any = None  # the one under way; kept here only, see _answered
        self._over = False  # given up or landed: no further request is sent
        transport.enrol(self)

    def attempt(self, step: Callable[[], None]) -> None:
        """Run ``step``; what it raises becomes the flight's."""
        try:
            step()
        except (KeyError, ValueError):
            self.fail(incomplete(self.subject, "not understood"))
        except Exception as error:  # a defect must reach the caller, not awscrt's thread
            self.fail(error)

    def send(self, ask: Ask, then: Callable[[Reply], None]) -> None:
        """Send, and have ``then`` called with the reply."""
        answered = False

        def done(reply: Reply) -> None:
            nonlocal answered
            with self._lock:
                # awscrt's request keeps this function and so everything: cut the circle,
                # which no collector could see, here or, when it was too early, below.
                answered, self._request = True, None
                over = self._over
            if not over:
                self.attempt(lambda: then(reply))

        if self._over:
            return
        request = self._transport.send(ask, done)
        with self._lock:
            if not answered:
                self._request = request
            over = self._over
        if over:
            request.cancel()

    def land(self, value: T) -> None:
        if self._ends():
            self.flight.set_result(value)

    def fail(self, error: BaseException) -> None:
        if self._ends():
            self.flight.set_exception(error)

    def abort(self) -> None:
        """Nobody waits any more: the flight ends now, its request a moment later."""
        self.fail(incomplete(self.subject, "given up"))
        with self._lock:  # after the flight has ended: `send` cancels what it stores later
            request = self._request
        if request is not None:
            request.cancel()

    def _ends(self) -> bool:
        """Whether it is for the caller to end the flight."""
        with self._lock:
            if self._over:
                return False
            self._over = True
        self.flight.abort = _nothing
        self._transport.dismiss(self)
        return True


def _nothing() -> None:
    """What is over cannot be given up."""


def result_of(flight: Flight[T], sec_max: float = READ_TIMEOUT_SEC) -> T:
    """Wait for a flight; nothing of it is sent again once nobody waits any more."""
    try:
        return flight.result(min(sec_max, max(0.0, give_up_sec.get() - monotonic())))
    except TimeoutError:
        flight.abort()
        raise Unavailable("The object store did not answer in time.") from None
