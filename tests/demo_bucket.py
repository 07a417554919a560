"""The demo's bucket, from the S3 side: what somebody without qarnotfs does and sees.

    python tests/demo_bucket.py fill         # make the bucket, once
    python tests/demo_bucket.py head KEY     # show an object's headers

Used by tests/demo.sh. Plain boto3, pointed by the AWS_* variables.
"""

from __future__ import annotations

import email
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "demo"


def objects() -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of a small project: two packages of Python, data, results."""
    for package in (email, json):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            yield f"{folder.name}/{path.relative_to(folder)}", path.read_bytes()
    for frame in range(24):
        yield f"frames/frame-{frame:04}.raw", bytes([frame]) * 65536
    rows = "".join(f"{frame},{frame * 41},done\n" for frame in range(24))
    yield "reports/frames.csv", f"frame,milliseconds,state\n{rows}".encode()
    yield "reports/empty.log", b""
    yield "video.raw", bytes(16 << 20)


def main() -> None:
    client = boto3.client(
        "s3",
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    if sys.argv[1] == "head":
        answer = client.head_object(Bucket=BUCKET, Key=sys.argv[2])
        print(f"s3://{BUCKET}/{sys.argv[2]}  {answer['ContentLength']} bytes")
        print(f"  Content-Type: {answer['ContentType']}")
        for name, value in sorted(answer["Metadata"].items()):
            print(f"  x-amz-meta-{name}: {value}")
        return
    try:
        client.head_bucket(Bucket=BUCKET)
    except ClientError:
        client.create_bucket(Bucket=BUCKET)
        found = list(objects())
        for key, body in found:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        print(f"bucket {BUCKET}: {len(found)} objects")


if __name__ == "__main__":
    main()
