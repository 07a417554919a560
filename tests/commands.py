"""The ``qarnotfs`` command in processes that are forked from one that has imported it.

Each has its own environment, directory, umask, descriptors and exit code, as if it had been started
by a shell. Only the imports, most of the CPU time of a short command, are not done again.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")  # it has no threads: forking it is safe
_FORKS.set_forkserver_preload(
    [
        "tests.commands",
        "boto3",
        "awscrt.s3",
        "rich.progress",
        "trio",
        *(f"qarnotfs.cli.{name}" for name in ("entry", "ls", "mount", "umount", "status", "sync")),
    ]
)


def finished(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_sec: float
) -> tuple[int, str, str]:
    """Exit code (negative for a signal), stdout and stderr of one command. ``TimeoutError``."""
    with tempfile.TemporaryDirectory(prefix="qfs-said-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = _FORKS.Process(
            target=_be_the_command,
            args=(arguments, dict(environment), os.getcwd(), _umask(), out, err),
        )
        child.start()
        child.join(timeout_sec)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise TimeoutError(f"{arguments}: {out.read_text()}{err.read_text()}")
        code = child.exitcode
        child.close()
        return code, out.read_text(), err.read_text()


def _umask() -> int:
    os.umask(umask := os.umask(0))
    return umask


def _be_the_command(
    arguments: Sequence[str],
    environment: dict[str, str],
    cwd: str,
    umask: int,
    out: Path,
    err: Path,
) -> None:
    for number, path in enumerate((Path(os.devnull), out, err)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    # What a process in this environment begins with; the process ends before they are closed.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    os.umask(umask)
    sys.argv = ["qarnotfs", *arguments]

    from qarnotfs.cli import main

    main()
