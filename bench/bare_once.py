"""Move the same bytes with awscrt's S3 client and without a file system. Run by `bench.run`.

    python -m bench.bare_once read|tree|write|cp ARGS..

The words are those of `bench.do_once`; a path below the mountpoint is the key of that name.
It is as fast as the gateway and the way to it allow: all at the same time, nothing is kept.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Semaphore
from urllib.parse import quote, urlsplit

import boto3
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType

from bench.do_once import Took, say, since
from bench.peers import BARE_TOP, BUCKET

BARE_DOINGS = ("read", "tree", "write", "cp")
FLIGHTS_MAX = 32
PART_BYTES = 8 << 20
GBPS = 10.0  # more than this machine can do; awscrt opens its connections by it


class Bare:
    """Requests to one bucket."""

    def __init__(self) -> None:
        self._host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        group = EventLoopGroup(1)
        bootstrap = ClientBootstrap(group, DefaultHostResolver(group))
        keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self._client = S3Client(
            bootstrap=bootstrap,
            region=os.environ["AWS_DEFAULT_REGION"],
            credential_provider=AwsCredentialsProvider.new_static(*keys),
            tls_mode=S3RequestTlsMode.DISABLED,
            part_size=PART_BYTES,
            throughput_target_gbps=GBPS,
        )
        self._flights = Semaphore(FLIGHTS_MAX)

    def get(self, key: str) -> Future[int]:
        """The number of bytes."""
        seen = 0

        def count(chunk: bytes, **_: object) -> None:
            nonlocal seen
            seen += len(chunk)

        request = self._request("GET", key, {})
        return self._send(S3RequestType.GET_OBJECT, request, lambda: seen, on_body=count)

    def put(self, source: Path, key: str) -> Future[int]:
        size = source.stat().st_size
        request = self._request("PUT", key, {"Content-Length": str(size)})
        kind = S3RequestType.PUT_OBJECT
        return self._send(kind, request, lambda: size, send_filepath=str(source))

    def _request(self, method: str, key: str, headers: dict[str, str]) -> HttpRequest:
        told = HttpHeaders(list(({"Host": self._host} | headers).items()))
        return HttpRequest(method, f"/{BUCKET}/{quote(key)}", told)

    def _send(
        self, kind: S3RequestType, request: HttpRequest, seen: Callable[[], int], **more: object
    ) -> Future[int]:
        done: Future[int] = Future()
        self._flights.acquire()

        def end(error: Exception | None = None, **_: object) -> None:
            self._flights.release()
            done.set_exception(error) if error else done.set_result(seen())

        made = self._client.make_request(type=kind, request=request, on_done=end, **more)
        done.__dict__["request"] = made  # awscrt cancels what nobody holds
        return done


def key_of(path: str) -> str:
    return str(Path(path).relative_to(BARE_TOP))


def keys_below(top: str) -> list[str]:
    """One page after the other, as there is no other way."""
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=BUCKET, Prefix=f"{key_of(top)}/")
    return [entry["Key"] for page in found for entry in page.get("Contents", ())]


def total(flights: Iterable[Future[int]]) -> int:
    return sum(flight.result() for flight in list(flights))


def moved(name: str, args: list[str]) -> Took:
    bare = Bare()
    total([bare.get(key) for key in keys_below(str(BARE_TOP / "small"))[:1]])  # a connection
    begun = time.monotonic()
    if name == "read":
        return since(begun, total(bare.get(key_of(path)) for path in args))
    if name == "tree":
        return since(begun, total(bare.get(key) for key in keys_below(args[0])))
    if name == "write":
        pairs = zip(args[::2], args[1::2], strict=True)
        return since(begun, total(bare.put(Path(source), key_of(path)) for source, path in pairs))
    source, target = Path(args[0]), key_of(args[1])
    paths = [path for path in source.rglob("*") if path.is_file()]
    total(bare.put(path, f"{target}/{path.relative_to(source)}") for path in paths)
    return since(begun)


def main() -> None:
    if sys.argv[1] == "nothing":
        return say(since(time.monotonic()))
    say(moved(sys.argv[1], sys.argv[2:]))


if __name__ == "__main__":
    main()
