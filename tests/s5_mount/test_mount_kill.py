"""Killed a hundred times under load: what was promised is there, and nothing that was deleted.

`QARNOTFS_KILL_SEED` repeats a run; a failure says which it was.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.killing import KillLoop
from tests.s5_mount.conftest import Mounts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROUNDS = 100
SEED = int(os.environ.get("QARNOTFS_KILL_SEED", "1"))  # `make soak` draws others
REPEAT = f"QARNOTFS_KILL_SEED={SEED} python -m pytest tests/s5_mount/test_mount_kill.py"


@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_nothing(mounts: Mounts, s3: S3Client, bucket: str) -> None:
    loop = KillLoop(mounts("--upload-delay", "0"), s3, SEED)
    try:
        for _ in range(ROUNDS):
            loop.round()
        loop.drain()
    except Exception as error:
        error.add_note(f"round {loop.rounds} of {REPEAT}")
        raise
    finally:
        loop.stop()
    assert loop.figures.changes > ROUNDS  # else nobody was at work
    assert loop.figures.changes_of_large > ROUNDS // 10
    assert loop.figures.bytes_checked > 1 << 28
