"""A bucket mounted by the real command line, and the ways a mount can end.

Used by every test of this storey, mostly through the fixture ``mounts``. What a test does
to the mount it does with system calls and programs, never through the package's modules.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.commands import finished
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

PROGRAM = Path(sys.executable).with_name("qarnotfs")
COMMAND_SEC_MAX = 100.0
LOG_LINES = 60
START_SEC_MAX = 180.0  # with a server that is alive, on a machine that does too much at once
UNANSWERED = re.compile("The object store (did not answer|.* gave no complete answer)")
BUSY = "Device or resource busy"  # others may look at every mount of the machine at this moment


class Cli:
    """The ``qarnotfs`` command with an environment in which only the gateway is known."""

    def __init__(self, home: Path, runtime_dir: Path, account: Mapping[str, str]) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "QARNOTFS_RUNTIME_DIR": str(runtime_dir),
            **account,
        }

    def __call__(self, *arguments: str | Path, **environment: str) -> Done:
        """Run one command to its end, whatever that is."""
        words = [os.fspath(word) for word in arguments]
        return Done(*finished(words, self.environment | environment, COMMAND_SEC_MAX))


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def ok(self) -> Done:
        assert self.code == 0, f"exit code {self.code}\n{self.out}{self.err}"
        return self


class Mount:
    """One mount, from `start` on. ``path`` is where, ``log_path`` what the daemon says."""

    def __init__(self, cli: Cli, bucket: str, path: Path, cache_dir: Path) -> None:
        self.bucket = bucket
        self.path = path
        self.cache_dir = cache_dir
        self.log_path = cache_dir / "logs" / f"{bucket}.log"
        self.pid = 0
        self._cli = cli

    def start(self, options: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Mount it, which must succeed."""
        self.try_start(options, environment).ok()
        self.pid = self.status()["pid"]

    def start_patiently(self, options: Sequence[str | Path], environment: Mapping[str, str]) -> int:
        """Mount it; how often that was repeated because the server was too busy to answer.

        Any other failure is one, and so is a server that does not answer for minutes.
        """
        busy: list[Done] = []

        def is_started() -> bool:
            done = self.try_start(options, environment)
            if done.code and UNANSWERED.search(done.err):
                busy.append(done)
                return False
            done.ok()
            return True

        eventually(is_started, START_SEC_MAX)
        self.pid = self.status()["pid"]
        return len(busy)

    def try_start(self, options: Sequence[str | Path], environment: Mapping[str, str]) -> Done:
        if not self.is_mounted():  # a dead mount answers nothing, not even that it is there
            self.path.mkdir(exist_ok=True)
        cache = ["--cache-dir", str(self.cache_dir)]
        return self._cli("mount", self.bucket, self.path, *cache, *options, **environment)

    def status(self) -> dict[str, Any]:
        """This mount's entry in ``qarnotfs status --json``."""
        entries = json.loads(self._cli("status", "--json").ok().out)
        [entry] = [entry for entry in entries if entry["mountpoint"] == str(self.path)]
        assert isinstance(entry, dict)
        return entry

    def text_status(self) -> str:
        """What ``qarnotfs status`` tells a person about this mount."""
        return self._cli("status", self.path).ok().out

    def flush(self) -> None:
        """Return when everything written is in the bucket."""
        self.try_flush().ok()

    def try_flush(self) -> Done:
        return self._cli("flush", self.path)

    def unmount(self, *options: str) -> Done:
        """``qarnotfs umount``, which must say that everything arrived."""
        return self.unmount_unless_busy(*options).ok()

    def unmount_unless_busy(self, *options: str) -> Done:
        """`try_unmount`, repeated while somebody else looks at it."""

        def tried() -> Done | None:
            done = self.try_unmount(*options)
            return None if BUSY in done.err else done

        done = eventually(tried)
        assert done
        return done

    def try_unmount(self, *options: str) -> Done:
        return self._cli("umount", self.path, *options)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill9(self) -> None:
        """The daemon dies at once; the dead mount stays."""
        self.signal(signal.SIGKILL)
        eventually(self.has_ended)

    def has_ended(self) -> bool:
        """Whether there is no daemon any more."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            threads = os.listdir(f"/proc/{self.pid}/task")
        except (FileNotFoundError, ProcessLookupError):
            return True
        # Dead, and nobody has asked for its exit code. Its files are open while a thread lives.
        return state == "Z" and len(threads) == 1

    def is_mounted(self) -> bool:
        """As the kernel says, which does not ask the daemon."""
        table = Path("/proc/self/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self.path) for line in table)

    def remove(self) -> None:
        """Whatever is left of it goes, however it stands."""
        if self.pid and not self.has_ended():
            self.kill9()
        while self.is_mounted():  # one that died is below the one that took its place
            subprocess.run(["fusermount3", "-uz", self.path], check=True)

    def log_tail(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            lines = ["(no log)"]
        return "\n".join(lines[-LOG_LINES:])


class Seen:
    """A mounted bucket from the S3 side, by paths of the mount.

    ``by_others``: `put` stores behind the mount's back, which the mount must then ask about.
    """

    def __init__(self, mount: Mount, s3: S3Client, *, by_others: bool) -> None:
        self.mount, self._s3, self._by_others = mount, s3, by_others

    def key(self, path: Path) -> str:
        return str(path.relative_to(self.mount.path))

    def put(self, path: Path, body: bytes) -> Path:
        """Make it an object of the bucket."""
        if self._by_others:
            self._s3.put_object(Bucket=self.mount.bucket, Key=self.key(path), Body=body)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            self.mount.flush()
        return path

    def content(self, path: Path) -> bytes:
        """The object's bytes, once everything has arrived."""
        self.mount.flush()
        return self.content_now(path)

    def content_now(self, path: Path) -> bytes:
        return self._s3.get_object(Bucket=self.mount.bucket, Key=self.key(path))["Body"].read()

    def metadata(self, path: Path, suffix: str = "") -> dict[str, str]:
        """The object's user metadata, once everything has arrived."""
        self.mount.flush()
        key = self.key(path) + suffix
        return self._s3.head_object(Bucket=self.mount.bucket, Key=key)["Metadata"]

    def keys(self, directory: Path | None = None) -> list[str]:
        """Every key, or those below a directory, once everything has arrived."""
        self.mount.flush()
        prefix = f"{self.key(directory)}/" if directory else ""
        return bucket_keys(self._s3, self.mount.bucket, prefix)


def bucket_keys(s3: S3Client, bucket: str, prefix: str = "") -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def patiently(call: Callable[[], T]) -> T:
    """What a call returns, repeated while the server is said to have been too slow for it.

    Of a mount that hardly waits for its server, where that is there and nothing is to be shown.
    """

    def answered() -> tuple[T] | None:
        try:
            return (call(),)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ETIMEDOUT):
                raise
            return None

    value = eventually(answered)
    assert value
    return value[0]


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    within_sec: float = COMMAND_SEC_MAX,
) -> str:
    """What a program prints; it must end well, and in time."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"LC_ALL": "C.UTF-8"} | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_sec,
        check=False,
    )
    Done(done.returncode, f"{command}:\n{done.stdout}", done.stderr).ok()
    return done.stdout
