"""The tests' own gateway does what tests rely upon."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.conftest import make_client
from tests.rgw import Gateway, Request
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway


def test_counts_requests_since_a_mark(gateway: Gateway, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key='a "b"', Body=b"1")
    mark = gateway.mark()
    assert gateway.requests(mark) == []
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="none")
    s3.get_object(Bucket=bucket, Key='a "b"')["Body"].read()
    assert gateway.requests(mark) == [
        Request("HEAD", f"/{bucket}/none", 404, 0),
        Request("GET", f"/{bucket}/a%20%22b%22", 200, 1),
    ]


def test_comes_back_with_its_data(gateway: Gateway, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    gateway.kill()
    with pytest.raises(EndpointConnectionError):
        s3.head_object(Bucket=bucket, Key="k")
    gateway.restart()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_outlives_the_thread_that_restarted_it(gateway: Gateway, bucket: str) -> None:
    thread = threading.Thread(target=gateway.restart)
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    thread.join()
    eventually(lambda: not task.exists())
    eventually(gateway.answers)


def test_hangs_until_resumed(gateway: Gateway, bucket: str) -> None:
    gateway.pause()
    assert not gateway.answers(timeout_sec=0.2)
    gateway.resume()
    eventually(gateway.answers)


def test_serves_tls(gateway_tls: Gateway) -> None:
    assert gateway_tls.endpoint.startswith("https:")
    client = make_client(gateway_tls)
    client.create_bucket(Bucket="secure")
    client.put_object(Bucket="secure", Key="k", Body=b"1")
    client.close()


def test_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = """if True:
        import pathlib, sys, time
        from tests.rgw import Gateway
        Gateway(pathlib.Path(sys.argv[1])).start()
        print("up", flush=True)
        time.sleep(60)  # it is killed long before
    """
    folder = tmp_path / "g"
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        pids = [int(path.read_text()) for path in folder.glob("*.pid")]
        assert len(pids) == 3
        parent.kill()
    eventually(lambda: not any(_lives_in(pid, folder) for pid in pids))


def _lives_in(pid: int, folder: Path) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except OSError:
        return False
