"""A server that hangs, goes away or answers nonsense: an error in time, never an absence."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import FaultProxy
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts
from tests.s5_mount.mounting import bucket_keys
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = random.Random(1).randbytes(1 << 20) * 40
IMPATIENT = ("--io-timeout", "2")


@contextmanager
def paused(gateway: Gateway) -> Iterator[None]:
    gateway.pause()
    try:
        yield
    finally:
        gateway.resume()


@contextmanager
def gone(gateway: Gateway) -> Iterator[None]:
    gateway.kill()
    try:
        yield
    finally:
        gateway.restart()


@pytest.fixture(params=[paused, gone])
def outage(request: pytest.FixtureRequest, gateway: Gateway) -> Callable[[], contextmanager[None]]:  # type: ignore[valid-type] # typing has no name for it
    return lambda: request.param(gateway)


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    with FaultProxy(gateway) as one:
        yield one
