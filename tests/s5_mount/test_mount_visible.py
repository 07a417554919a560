"""One view serves both doors: `Bucket.visible_files` lists what a mount shows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qarnotfs import Bucket, BucketPrefixFiltering, Connection, PrefixResourcesTransformation
from tests.rgw import Gateway
from tests.s5_mount.conftest import Mounts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["p/a/x", "p/y", "p/p/z", "p2/w", "px", "q/v", "a/x", "y", "p/100%", "p/é/ü b"]


@pytest.mark.parametrize(
    ("prefix", "strip"),
    [
        ("", ""),
        ("p/", ""),
        ("p", "p/"),
        ("p/", "p/"),
        ("", "p"),
        ("", "p/"),
        ("p/a", "p"),
        ("p", "p/p"),
    ],
)
def test_a_mount_shows_what_the_bucket_says(
    mounts: Mounts,
    gateway: Gateway,
    s3: S3Client,
    bucket: str,
    tmp_path: Path,
    prefix: str,
    strip: str,
) -> None:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    connection = Connection.from_environment(environ=gateway.environment)
    view = Bucket(connection, bucket, create=False)
    if prefix:
        view = view.with_filtering(BucketPrefixFiltering(prefix))
    if strip:
        view = view.with_resource_transformation(PrefixResourcesTransformation(strip))
    with view:
        said = {name: file.key.encode() for name, file in view.visible_files().items()}
    connection.close()
    spec = tmp_path / "bucket.json"
    spec.write_text(json.dumps(view.to_json()))
    mount = mounts("--spec", spec)
    shown = {
        os.path.relpath(os.path.join(folder, name), mount.path): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(mount.path)
        for name in names
    }
    assert shown == said
    assert said
