"""Synchronise a directory once, and say in JSON what it cost. Run by `bench.sync_directory`.

    python -m bench.sync_once qarnot|qarnotfs BUCKET DIRECTORY

Logs in with ``QARNOT_CLIENT_TOKEN`` at ``QARNOT_CLUSTER_URL``, and makes the bucket; both
happen before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def sdk_bucket(name: str) -> Any:
    from qarnot.bucket import Bucket
    from qarnot.connection import Connection

    return Bucket(Connection(), name)


def our_bucket(name: str) -> Any:
    from qarnotfs import Bucket, Connection

    return Bucket(Connection.from_environment(), name)


def main() -> None:
    who, name, directory = sys.argv[1:]
    bucket = {"qarnot": sdk_bucket, "qarnotfs": our_bucket}[who](name)
    wall_sec, cpu_sec = time.monotonic(), time.process_time()
    bucket.sync_directory(directory)
    cost = {
        "wall_sec": time.monotonic() - wall_sec,
        "cpu_sec": time.process_time() - cpu_sec,
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
