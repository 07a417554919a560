"""What a directory of very many files costs: made, listed, renamed and removed on one mount.

    python -m bench.many 100000      # writes bench/many.md

After each step that changes something the bucket itself is listed and compared, by name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3
from botocore.config import Config

from bench.compared import significant
from bench.mounted import Mounted
from bench.peers import BUCKET, CLIENTS, OURS, Command, Place, account
from bench.run import running

PAGE = Path(__file__).with_suffix(".md")
OLD, NEW = "old", "new"
RENAMED_EVERY = 100

Work = Callable[[], object]


class Many:
    """One mount, one directory of ``count`` files, and what each step took."""

    def __init__(self, place: Place, count: int) -> None:
        self.lines: list[str] = []
        self._top, self._count = place.mountpoint, count
        self._command: Command = CLIENTS[OURS](place)
        self._mount = Mounted(self._command, place.mountpoint, place.folder / "log")
        settings = Config(s3={"addressing_style": "path"})
        self._s3 = boto3.client("s3", endpoint_url=place.url, config=settings)

    def run(self) -> None:
        names = [f"{number:06}" for number in range(self._count)]
        renamed = [f"x{name}" if n % RENAMED_EVERY == 0 else name for n, name in enumerate(names)]
        self._step("make them", lambda: self._make(names))
        self._step("until the bucket has them", self._flush, {f"{OLD}/{name}" for name in names})
        self._step("`ls`", lambda: self._see(["ls"], OLD))
        self._step("`ls` again", lambda: self._see(["ls"], OLD))
        self._step("`ls -l`", lambda: self._see(["ls", "-l"], OLD, more=1))
        self._step("rename the directory", lambda: (self._top / OLD).rename(self._top / NEW))
        wanted = {f"{NEW}/{name}" for name in names}
        self._step("until the bucket has that", self._flush, wanted)
        self._step("`ls` of it", lambda: self._see(["ls"], NEW))
        self._step(f"rename one in {RENAMED_EVERY}", lambda: self._rename(names, renamed))
        wanted = {f"{NEW}/{name}" for name in renamed}
        self._step("until the bucket has that", self._flush, wanted)
        self._step("`rm -r`", lambda: subprocess.run(["rm", "-r", self._top / NEW], check=True))
        self._step("until the bucket is empty", self._flush, set())

    def close(self) -> None:
        self._mount.close()

    def _step(self, name: str, work: Work, wanted: set[str] | None = None) -> None:
        begun_sec, begun_cpu_sec = time.monotonic(), self._mount.cpu_sec()
        self._mount.forget_peak()
        work()
        wall_sec, cpu_sec = time.monotonic() - begun_sec, self._mount.cpu_sec() - begun_cpu_sec
        found = [significant(wall_sec), significant(cpu_sec), f"{self._mount.peak_mib():.0f}"]
        self.lines.append(f"| {' | '.join([name, *found])} |")
        print(self.lines[-1], file=sys.stderr, flush=True)
        if wanted is not None and (stored := self._stored()) != wanted:
            raise SystemExit(f"The bucket has {len(stored)} names, {len(stored ^ wanted)} wrong.")

    def _stored(self) -> set[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = {entry["Key"] for page in pages for entry in page.get("Contents", ())}
        return {key for key in keys if not key.endswith("/")}

    def _make(self, names: list[str]) -> None:
        (self._top / OLD).mkdir()
        for name in names:
            (self._top / OLD / name).write_text(name)

    def _rename(self, names: list[str], renamed: list[str]) -> None:
        for old, new in zip(names, renamed, strict=True):
            if old != new:
                (self._top / NEW / old).rename(self._top / NEW / new)

    def _see(self, words: list[str], name: str, more: int = 0) -> None:
        done = subprocess.run(
            [*words, self._top / name], capture_output=True, text=True, check=True
        )
        if done.stdout.count("\n") != self._count + more:
            raise SystemExit(f"{words} shows {done.stdout.count(chr(10))} lines.")

    def _flush(self) -> None:
        command = [sys.executable, "-m", "qarnotfs", "flush", str(self._top)]
        subprocess.run(command, env=self._command.environ, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="many-") as name, running(Path(name, "gw")) as gateway:
        folder = Path(name)
        place = Place(gateway.endpoint, gateway.access_key, gateway.secret_key, folder, folder)
        for path in (place.mountpoint, place.cache):
            path.mkdir()
        os.environ.update(account(place))
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        many = Many(place, count)
        try:
            many.run()
        finally:
            many.close()
    PAGE.write_text(HEAD.format(count=count) + "\n".join(many.lines) + "\n")


HEAD = """# A directory of {count:,} files

Written by `python -m bench.many {count}`: one mount, the gateway on the same machine. After each
step that changes something the bucket was listed, and had exactly the names it should.

| step | seconds | client's CPU s | peak RSS MiB |
|---|---:|---:|---:|
"""


if __name__ == "__main__":
    main()
