"""Programs at work on a mount, and the books that say what they were promised.

Used by the kill -9 loop and by the soak. Each `Worker` is a process of `tests/writer.py` in a
directory of its own. What it was told is kept here, outside of the mount: when the daemon
died, at most one change of each worker is in doubt, and all others must be there exactly.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mixtures import is_mixture
from tests.model import walk
from tests.support import eventually
from tests.writer import State, Writes, render

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAM = Path(__file__).with_name("writer.py")
END_SEC = 20.0  # for a worker whose mount has died
QUIET_SEC = 10.0  # without a message, a round ends anyway
PART_BYTES = 8 << 20  # from here on a file goes in parts
SAMPLES = 4  # files of a worker that are read whole after each round, besides the changed


@dataclass
class Figures:
    """What was done and what was compared, for the report."""

    changes: int = 0
    changes_of_large: int = 0  # of files that go in parts
    errors: int = 0
    files_checked: int = 0
    bytes_checked: int = 0


@dataclass
class Worker:
    """One directory, its state as promised, and the process that works there now."""

    name: str
    figures: Figures
    state: State = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    doubt: dict[str, Any] | None = None  # a change that was begun and not promised
    resolved: dict[str, Any] | None = None  # what was in doubt before
    history: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    error: str = ""
    process: subprocess.Popen[bytes] | None = None
    _unread: bytes = b""

    def start(self, top: Path, seed: int) -> None:
        """Work in ``top``/name until the mount dies."""
        (top / self.name).mkdir(exist_ok=True)
        self.error = ""
        self.process = subprocess.Popen(
            [sys.executable, "-I", PROGRAM, top / self.name, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin
        with self.process.stdin as stdin:
            stdin.write(json.dumps(self.state).encode())

    def hear(self) -> int:
        """Take in what it says; how many messages, 0 when it has ended."""
        assert self.process
        assert self.process.stdout
        read = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + read).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return len(lines) or len(read)

    def end(self) -> None:
        """Its mount has died, or it was stopped: hear it out."""
        if self.process is None:
            return
        try:
            self.process.wait(END_SEC)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.name} hangs on a mount that died") from None
        while self.hear():
            pass
        assert self.process.stdout
        self.process.stdout.close()
        self.process = None
        self._unread = b""

    def _take(self, message: dict[str, Any]) -> None:
        assert "wrong" not in message, f"{self.name}/{message['wrong']} was read wrong"
        if "error" in message:
            self.error = message["text"]
        elif "ok" in message:
            assert self.doubt
            for path, writes in self.doubt["changes"].items():
                self._settle(path, writes)
                self.figures.changes_of_large += end_of(writes or []) >= PART_BYTES
            self.doubt = None
            self.figures.changes += 1
        else:
            self.doubt = message
            self.history.append(f"{message['kind']} {' '.join(message['changes'])}")

    def _settle(self, path: str, writes: Writes | None) -> None:
        self.changed.add(path)
        if writes is None:
            self.state.pop(path, None)
        else:
            self.state[path] = writes

    # --- after a death ----------------------------------------------------------------------

    def resolve(self, top: Path) -> None:
        """See what became of the change in doubt: all of it, nothing, or a part allowed."""
        self.resolved = None
        if self.doubt is None:
            return
        kind, changes = self.doubt["kind"], self.doubt["changes"]
        found = {path: content(top / self.name / path) for path in changes}
        for path, writes in changes.items():
            old = self._body(path)
            new = None if writes is None else body_of(path, writes)
            assert allowed(kind, found[path], old, new), self._complaint(path, found[path])
        for path, target in self.doubt["renamed"].items():
            lost = found[path] is None and found[target] != self._body(path)
            assert not lost, self._complaint(path, None)
        for path, writes in changes.items():
            self._adopt(top, path, found[path], writes)
        self.resolved, self.doubt = self.doubt, None

    def _adopt(self, top: Path, path: str, found: bytes | None, writes: Writes | None) -> None:
        """From now on what is there is what was promised; half of something is removed."""
        if found is not None and found == self._body(path):
            return
        if found is not None and (writes is None or found != body_of(path, writes)):
            (top / self.name / path).unlink()
            found = None
        self._settle(path, None if found is None else writes)

    def verify(self, top: Path, dice: random.Random) -> None:
        """Every name, every size; the bytes of what was changed, and of a few others."""
        directory = top / self.name
        listed = [path + "/" * (directory / path).is_dir() for path in walk(directory)]
        lost, doubled = self.state.keys() - set(listed), set(listed) - self.state.keys()
        assert not lost | doubled, (
            f"{self.name}: {lost=} {doubled=}, {self.resolved=}, {self.history}"
        )
        files = [path for path in self.state if not path.endswith("/")]
        for path in files:
            wanted = end_of(self.state[path])
            found = (directory / path).stat().st_size
            assert found == wanted, (
                f"stat: {found} bytes; {self._complaint(path, content(directory / path))}"
            )
        samples = dice.sample(files, min(SAMPLES, len(files)))
        for path in {*samples, *(self.changed & set(files))}:
            self._check(path, content(directory / path))
        self.changed.clear()

    def verify_bucket(self, s3: S3Client, bucket: str) -> None:
        """Byte for byte what was promised, and nothing else."""
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{self.name}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        stored = {key.removeprefix(f"{self.name}/") for key in keys if not key.endswith("/")}
        files = {path for path in self.state if not path.endswith("/")}
        assert stored == files, f"doubled {stored - files}, lost {files - stored}"
        for path in sorted(files):
            answer = s3.get_object(Bucket=bucket, Key=f"{self.name}/{path}")
            self._check(path, answer["Body"].read())

    def _check(self, path: str, found: bytes | None) -> None:
        self.figures.files_checked += 1
        self.figures.bytes_checked += len(found or b"")
        assert found == self._body(path), self._complaint(path, found)

    def _body(self, path: str) -> bytes | None:
        writes = self.state.get(path)
        return None if writes is None else body_of(path, writes)

    def _complaint(self, path: str, found: bytes | None) -> str:
        wanted = self._body(path)
        return (
            f"{self.name}/{path}: {None if found is None else len(found)} bytes, promised were "
            f"{None if wanted is None else len(wanted)}; first difference at "
            f"{first_difference(found or b'', wanted or b'')}; in doubt: {self.doubt}; before: "
            f"{[line for line in self.history if path in line]}"
        )


def end_of(writes: Writes) -> int:
    return max((offset + size for offset, _, size in writes), default=0)


def body_of(path: str, writes: Writes) -> bytes:
    return b"" if path.endswith("/") else render(writes)


def content(path: Path) -> bytes | None:
    """What is there; ``b""`` for a directory."""
    try:
        return path.read_bytes()
    except IsADirectoryError:
        return b""
    except FileNotFoundError:
        return None
    except OSError as error:
        error.add_note(str(path))
        raise


def allowed(kind: str, found: bytes | None, old: bytes | None, new: bytes | None) -> bool:
    """Whether this may be left of a change from ``old`` to ``new`` that was cut short."""
    if found is None:
        return old is None or new is None
    if found in (old, new):
        return True
    if new is None:
        return False
    if kind == "change":
        return old is not None and is_mixture(found, [old, new])
    return kind == "create" and old is None and is_mixture(found, [b"", new])


def first_difference(one: bytes, other: bytes) -> int | None:
    pairs = enumerate(zip(one, other, strict=False))
    found = next((at for at, (a, b) in pairs if a != b), None)
    return min(len(one), len(other)) if found is None and len(one) != len(other) else found


def work(workers: list[Worker], messages: int) -> int:
    """Listen until so many messages came, or nothing more does; how many there were."""
    heard = 0
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            assert worker.process
            assert worker.process.stdout
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        while heard < messages and selector.get_map():
            ready = selector.select(QUIET_SEC)
            if not ready:
                break
            for key, _ in ready:
                count = key.data.hear()
                heard += count
                if not count:
                    selector.unregister(key.fileobj)
    return heard


def no_upload_is_left(s3: S3Client, bucket: str, at_most: int) -> None:
    """Parts of uploads nobody completes are paid for and never seen."""
    eventually(lambda: len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])) <= at_most)
