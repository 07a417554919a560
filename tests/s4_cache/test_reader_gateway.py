"""`cache.reader` on the real gateway: what its log says, and what it does when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from qarnotfs.bridge import Bridge
from qarnotfs.cache.blocks import PatternCell
from qarnotfs.cache.disk import Disk
from qarnotfs.cache.reader import Reader
from qarnotfs.errors import Stale, Unavailable
from qarnotfs.store.base import ObjectInfo
from qarnotfs.store.s3 import Access, Keys, S3Store
from tests.rgw import Gateway
from tests.s4_cache.scripted import noise

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway

MIB = 1 << 20
KIB = 1 << 10


@pytest.fixture
def store(gateway: Gateway, bucket: str) -> Iterator[S3Store]:
    keys = Keys(gateway.access_key, gateway.secret_key, None)
    store = S3Store(bucket, Access(keys, gateway.endpoint, gateway.region, None, True))
    yield store
    store.close()


@asynccontextmanager
async def reading(
    store: S3Store, directory: Path, io_timeout_sec: float = 30.0
) -> AsyncIterator[Reader]:
    reader = Reader(store, Bridge(), Disk(directory, 1000 * MIB), io_timeout_sec=io_timeout_sec)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            yield reader
            nursery.cancel_scope.cancel()


def put(s3: S3Client, bucket: str, key: str, body: bytes) -> ObjectInfo:
    etag = s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')
    return ObjectInfo(key, len(body), etag, 0)


async def settled(reader: Reader) -> None:
    while reader._flights:
        await trio.sleep(0.001)


def test_an_object_is_fetched_once_and_after_a_restart_not_at_all(
    gateway: Gateway, s3: S3Client, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    large, small = noise(20 * MIB + 17), noise(300 * KIB)
    infos = [put(s3, bucket, "large é", large), put(s3, bucket, "small", small)]

    async def read_all() -> None:
        async with reading(store, tmp_path) as reader:
            for info, body in zip(infos, (large, small), strict=True):
                cell = PatternCell()
                for offset in range(0, len(body), 128 * KIB):
                    found = await reader.read(info, offset, 128 * KIB, cell)
                    assert found == body[offset : offset + 128 * KIB]
            await settled(reader)

    before = gateway.mark()
    trio.run(read_all)
    asked = gateway.requests(before)
    assert [request.path.rpartition("/")[2] for request in asked].count("small") == 1
    assert all((request.method, request.status) == ("GET", 206) for request in asked)
    assert len(asked) <= 25
    before = gateway.mark()
    trio.run(read_all)
    assert gateway.requests(before) == []


def test_many_readers_of_one_block_are_one_request(
    gateway: Gateway, s3: S3Client, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    body = noise(4 * MIB)
    info = put(s3, bucket, "key", body)

    async def main() -> None:
        async with reading(store, tmp_path) as reader, trio.open_nursery() as nursery:

            async def one(offset: int) -> None:
                assert await reader.read(info, offset, 9) == body[offset : offset + 9]

            for number in range(10):
                nursery.start_soon(one, 2 * MIB + number)

    before = gateway.mark()
    trio.run(main)
    assert len(gateway.requests(before)) == 1


def test_an_object_replaced_with_the_same_size_is_stale(
    s3: S3Client, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    body = noise(4 * MIB)
    info = put(s3, bucket, "key", body)

    async def main() -> None:
        async with reading(store, tmp_path) as reader:
            assert await reader.read(info, MIB, MIB) == body[MIB : 2 * MIB]
            new = put(s3, bucket, "key", noise(4 * MIB, seed=1))
            with pytest.raises(Stale):
                await reader.read(info, 0, 3 * MIB)
            assert await reader.read(info, MIB, MIB) == body[MIB : 2 * MIB]
            assert await reader.read(new, 0, 4 * MIB) == noise(4 * MIB, seed=1)
            s3.delete_object(Bucket=bucket, Key="key")
            with pytest.raises(Stale):
                await reader.read(info, 0, 1)

    trio.run(main)


def test_a_gateway_that_hangs_is_an_error_in_bounded_time_and_works_again(
    gateway: Gateway, s3: S3Client, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    body = noise(MIB)
    info = put(s3, bucket, "key", body)

    async def main() -> None:
        async with reading(store, tmp_path, io_timeout_sec=1.0) as reader:
            gateway.pause()
            try:
                with pytest.raises(Unavailable):
                    await reader.read(info, 0, 1)
            finally:
                gateway.resume()
            await settled(reader)
        async with reading(store, tmp_path) as reader:
            assert await reader.read(info, 0, MIB) == body

    trio.run(main)


def test_a_gateway_that_dies_and_comes_back_is_waited_for(
    gateway: Gateway, s3: S3Client, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    body = noise(MIB)
    info = put(s3, bucket, "key", body)

    async def main() -> None:
        async with (
            reading(store, tmp_path, io_timeout_sec=90.0) as reader,
            trio.open_nursery() as nursery,
        ):
            gateway.kill()

            async def one() -> None:
                assert await reader.read(info, 0, MIB) == body

            nursery.start_soon(one)
            await trio.to_thread.run_sync(gateway.restart)

    trio.run(main)
