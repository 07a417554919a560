"""Move the same bytes with awscrt's S3 client and without a file system. Run by `bench.run`.

    python -m bench.bare_once read|random|tree|ls|find|ls-l|ls-lR|write|cp|mv|rm ARGS..

The words are those of `bench.do_once`; a path below the mountpoint is the key of that name.
It is as fast as the gateway and the way to it allow: all at the same time, but for reads of which
each begins where the one before it has ended, and nothing is kept.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

import boto3
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType

from bench.do_once import BLOCK_BYTES, Took, say, since
from bench.peers import BARE_TOP, BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

BARE_DOINGS = ("read", "random", "tree", "ls", "find", "ls-l", "ls-lR", "write", "cp", "mv", "rm")
FLIGHTS_MAX = 32
PART_BYTES = 8 << 20
DELETE_COUNT = 1000
KEY, TOKEN = re.compile(r"<Key>([^<]*)</Key>"), re.compile(r"<NextContinuationToken>([^<]*)<")
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

    def get_block(self, key: str, number: int) -> int:
        """The number of bytes of one block."""
        seen, start = bytearray(), number * BLOCK_BYTES
        told = {"Range": f"bytes={start}-{start + BLOCK_BYTES - 1}"}
        self._plain("GetObject", self._request("GET", key, told), seen).result()
        return len(seen)

    def head(self, key: str) -> Future[int]:
        return self._plain("HeadObject", self._request("HEAD", key, {}))

    def copy(self, source: str, target: str) -> Future[int]:
        headers = {"x-amz-copy-source": f"/{BUCKET}/{quote(source)}", "Content-Length": "0"}
        return self._plain("CopyObject", self._request("PUT", target, headers))

    def keys_below(self, top: str) -> list[str]:
        """One page after the other, as there is no other way."""
        told = {"list-type": "2", "encoding-type": "url", "prefix": f"{key_of(top)}/"}
        keys: list[str] = []
        while True:
            request = HttpRequest(
                "GET",
                f"/{BUCKET}?{urlencode(sorted(told.items()), quote_via=quote)}",
                self._told({}),
            )
            page = bytearray()
            self._plain("ListObjectsV2", request, page).result()
            text = page.decode()
            keys += map(unquote, KEY.findall(text))
            if (more := TOKEN.search(text)) is None:
                return keys
            told["continuation-token"] = more[1]

    def _plain(
        self, operation: str, request: HttpRequest, page: bytearray | None = None
    ) -> Future[int]:
        def keep(chunk: bytes, **_: object) -> None:
            if page is not None:
                page.extend(chunk)

        kind = S3RequestType.DEFAULT
        return self._send(kind, request, lambda: 1, operation_name=operation, on_body=keep)

    def _request(self, method: str, key: str, headers: dict[str, str]) -> HttpRequest:
        return HttpRequest(method, f"/{BUCKET}/{quote(key)}", self._told(headers))

    def _told(self, headers: dict[str, str]) -> HttpHeaders:
        return HttpHeaders(list(({"Host": self._host} | headers).items()))

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


def delete(keys: list[str]) -> None:
    client = boto3.client("s3")
    for start in range(0, len(keys), DELETE_COUNT):
        named: list[ObjectIdentifierTypeDef] = [
            {"Key": key} for key in keys[start : start + DELETE_COUNT]
        ]
        client.delete_objects(Bucket=BUCKET, Delete={"Objects": named, "Quiet": True})


def total(flights: Iterable[Future[int]], *, may_fail: bool = False) -> int:
    ended = list(flights)
    return sum(flight.result() for flight in ended if not (may_fail and flight.exception()))


def random_reads(bare: Bare, path: str, count: int) -> Took:
    """Those of `bench.do_once`."""
    dice, key = random.Random(count), key_of(path)
    blocks = boto3.client("s3").head_object(Bucket=BUCKET, Key=key)["ContentLength"] // BLOCK_BYTES
    begun = time.monotonic()
    seen = sum(bare.get_block(key, dice.randrange(blocks)) for _ in range(count))
    return since(begun, seen)


def moved(bare: Bare, name: str, args: list[str]) -> Took:
    begun = time.monotonic()
    if name == "random":
        return random_reads(bare, args[0], int(args[1]))
    if name == "read":
        return since(begun, total(bare.get(key_of(path)) for path in args))
    if name == "tree":
        return since(begun, total(bare.get(key) for key in bare.keys_below(args[0])))
    if name in {"ls", "find"}:
        return since(begun, len(bare.keys_below(args[0])))
    if name in {"ls-l", "ls-lR"}:
        return since(begun, total(bare.head(key) for key in bare.keys_below(args[0])))
    if name == "rm":
        delete(bare.keys_below(args[0]))
        return since(begun)
    if name == "mv":
        old, new = map(key_of, args)
        keys = bare.keys_below(args[0])
        total(bare.copy(key, new + key.removeprefix(old)) for key in keys)
        delete(keys)
        return since(begun)
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
    bare = Bare()
    total([bare.head("small")], may_fail=True)  # a connection
    begun_cpu_sec = time.process_time()
    say(moved(bare, sys.argv[1], sys.argv[2:]), begun_cpu_sec)


if __name__ == "__main__":
    main()
