"""`sync_directory` of many small files through a long way: the Qarnot SDK's and ours.

    python -m bench.sync_directory          # writes bench/sync_directory.md; about ten minutes

Four synchronisations, one after the other: the first one, one with nothing to do, one after a
file has changed, one after every file was renamed. Each runs in a process of its own, which
logs in as users do; measured is the call alone. The gateway is one of our own, on this
machine, behind `bench.latency_proxy`; it counts the requests. By turns ours, the SDK, ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.latency_proxy import far_away
from tests.qarnot_api import QarnotApi
from tests.rgw import Gateway, Request

RESULT = Path(__file__).with_suffix(".md")
SDK, OURS = "qarnot", "qarnotfs"
TURNS = (OURS, SDK, OURS)
FILE_BYTES = 4 << 10


class Run(NamedTuple):
    """One synchronisation: seconds of the clock and of the client's CPU, and requests by kind."""

    wall_sec: float
    cpu_sec: float
    requests: Counter[str]


# --- the files ------------------------------------------------------------------------------


def first(tree: Path, count: int) -> None:
    """``count`` different files in directories of a hundred."""
    dice = random.Random(1)
    for number in range(count):
        path = tree / "d" / f"{number // 100:03}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(FILE_BYTES))


def nothing(tree: Path, count: int) -> None:
    """All is as it was."""


def one_changed(tree: Path, count: int) -> None:
    """One file has other bytes of the same number."""
    (tree / "d" / "000" / "00000.bin").write_bytes(random.Random(2).randbytes(FILE_BYTES))


def all_renamed(tree: Path, count: int) -> None:
    """The directory above all of them has another name."""
    (tree / "d").rename(tree / "e")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "first": first,
    "nothing to do": nothing,
    "one changed": one_changed,
    "all renamed": all_renamed,
}


# --- measuring ------------------------------------------------------------------------------


@contextmanager
def account(gateway: Gateway, url: str) -> Iterator[dict[str, str]]:
    """The environment of a client whose storage is at ``url``."""
    with QarnotApi(gateway.secret_key, gateway.access_key, url) as api:
        yield os.environ | api.environ | {"NO_PROXY": "127.0.0.1"}


def measured(who: str, bucket: str, tree: Path, environ: dict[str, str], gateway: Gateway) -> Run:
    command = [sys.executable, "-W", "ignore", "-m", "bench.sync_once", who, bucket, str(tree)]
    mark = gateway.mark()
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    requests = Counter(map(kind, gateway.requests(mark)))
    return Run(said["wall_sec"], said["cpu_sec"], requests)


def kind(request: Request) -> str:
    """What a request was for; a copy is a PUT without the file's bytes."""
    if "/" not in request.path.partition("?")[0].strip("/"):
        return {"GET": "LIST", "POST": "multi-DELETE", "PUT": "CREATE"}[request.method]
    return "COPY" if request.method == "PUT" and request.size < FILE_BYTES else request.method


def turn(number: int, count: int, gateway: Gateway, environ: dict[str, str]) -> dict[str, Run]:
    """All steps by one of the two."""
    who = TURNS[number]
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for step, prepare in STEPS.items():
            prepare(Path(folder), count)
            runs[step] = measured(who, f"bench-{number}", Path(folder), environ, gateway)
            print(f"{who:8} {step:13} {runs[step].wall_sec:7.1f} s", file=sys.stderr, flush=True)
    return runs


# --- telling --------------------------------------------------------------------------------


def rows(turns: list[dict[str, Run]]) -> Iterator[str]:
    """Medians of each step, the SDK's and ours below each other."""
    yield "| run | by | seconds | times faster | requests | client's CPU s |"
    yield "|---|---|---:|---:|---|---:|"
    for step in STEPS:
        runs = {
            name: [turn[step] for turn, who in zip(turns, TURNS, strict=True) if who == name]
            for name in (SDK, OURS)
        }
        yield row(step, SDK, runs[SDK], "")
        slow, fast = (median(run.wall_sec for run in runs[name]) for name in (SDK, OURS))
        yield row(step, OURS, runs[OURS], f"**{slow / fast:.1f}**")


def row(step: str, who: str, runs: list[Run], times: str) -> str:
    wall_sec, cpu_sec = (median(sec) for sec in zip(*(run[:2] for run in runs), strict=True))
    counts = sorted(runs[0].requests.items())
    # The bucket was created before the clock started.
    asked = ", ".join(f"{count} {what}" for what, count in counts if what != "CREATE")
    return f"| {step} | {who} | {wall_sec:.2f} | {times} | {asked} | {cpu_sec:.1f} |"


def page(turns: list[dict[str, Run]], given: argparse.Namespace, load: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in (SDK, OURS, "boto3", "awscrt"))
    spread = ", ".join(f"{turn['first'].wall_sec:.1f}" for turn in turns)
    return f"""# sync_directory

The Qarnot SDK's and ours: {given.files} files of {FILE_BYTES} bytes through a round trip of
{given.rtt_ms:g} ms. Seconds of the call alone; medians where there were several turns
({", ".join(TURNS)}: the first run took {spread} s). `make bench-sync` writes this page.

{chr(10).join(rows(turns))}

{packages}; Python {platform.python_version()}; {os.cpu_count()} processors, shared with the
gateway. Load when it began: {load:.1f}; from about 0.5 on, the machine had other things to do.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rtt-ms", type=float, default=20)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        gateway = Gateway(Path(folder) / "gateway")
        gateway.start()
        try:
            with (
                far_away(gateway.endpoint, given.rtt_ms) as url,
                account(gateway, url) as environ,
            ):
                turns = [
                    turn(number, given.files, gateway, environ) for number in range(len(TURNS))
                ]
        finally:
            gateway.stop()
    given.output.write_text(page(turns, given, load))
    print(given.output.read_text())


if __name__ == "__main__":
    main()
