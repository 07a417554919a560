"""What a mount loads: boto3 and botocore take 0.4 s and 15 MiB, and it needs neither."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from qarnotfs.connection import Connection
from qarnotfs.store.s3 import Keys
from tests.conftest import make_client, remove_bucket
from tests.rgw import Gateway

USE = """
import sys
import qarnotfs.cli.entry, qarnotfs.operations, qarnotfs.session.house
from qarnotfs.connection import Connection
from qarnotfs.store.base import Attributes

plain = Attributes()
store = Connection.from_environment().store(sys.argv[1])
store.check()
store.probe()
body = bytes(6 << 20)
store.put("large", body, plain).result()
large = store.head("large").result()
upload_id = store.create_upload("parts", plain)
etags = [
    store.copy_part("parts", upload_id, 1, large, 0, len(body)),
    store.upload_part("parts", upload_id, 2, b"end").result(),
]
store.complete_upload("parts", upload_id, etags)
store.abort_upload("parts", store.create_upload("parts", plain))
assert store.copy("parts", "copy").size == len(body) + 3
assert len(store.list_page("").objects) == 3
assert store.delete(["large", "parts", "copy", "\\x01"]) == {}
assert not store.list_page("").objects
store.close()
print(sorted({"boto3", "botocore", "urllib3"} & set(sys.modules)))
"""


@pytest.mark.gateway
def test_what_concerns_keys_loads_no_boto3(gateway: Gateway, tmp_path: Path) -> None:
    s3 = make_client(gateway)
    s3.create_bucket(Bucket="loading")
    # A home without files of AWS's.
    environ = {**gateway.environment, "HOME": str(tmp_path)}
    run = [sys.executable, "-c", USE, "loading"]
    said = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
    remove_bucket(s3, "loading")
    s3.close()
    assert (said.stdout, said.returncode) == ("[]\n", 0), said.stderr


@pytest.mark.parametrize(
    ("more", "region", "alone"),
    [
        ({}, "us-east-1", True),
        ({"AWS_CONFIG_FILE": "config"}, "mars", False),
        ({"AWS_SHARED_CREDENTIALS_FILE": "config"}, "mars", False),
        ({"AWS_CONFIG_FILE": "none"}, "us-east-1", True),
    ],
)
def test_files_are_read_where_there_are_any(
    more: Mapping[str, str],
    region: str,
    alone: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The keys are in the environment all the same, but a file may say where they are for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text("[default]\nregion=mars\n")
    environ = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_ENDPOINT_URL": "http://storage.invalid",
        **{name: str(tmp_path / file) for name, file in more.items()},
    }
    connection = Connection.from_environment(environ=environ)
    assert connection._access.region == region
    assert isinstance(connection._access.login, Keys) is alone
    assert connection._access.keys() == Keys("AKIDEXAMPLE", "not-a-secret", None)
