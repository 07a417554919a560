"""Commands that run beside a test, and never longer than it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.s5_mount.mounting import PROGRAM, Cli


@contextmanager
def background(
    cli: Cli, *arguments: str | Path, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """One ``qarnotfs`` command; at the end of the block it has ended, or is killed."""
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        env=cli.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
