"""Mounts beside each other: ours, s3fs, rclone and whoever else is installed, by turns.

    python -m bench.run              # adds to bench/results.jsonl, writes bench/results.md
    python -m bench.run --rows create change --rtt-ms 20 --turns 1 --small-files 200

Each row begins with a client that has just been mounted with an empty cache, unless it says
otherwise; the gateway is one of our own, on this machine, behind `bench.latency_proxy` where
it is far away. What reads and writes is a process of its own, and whether the bucket has it
is seen from outside. By turns ours, s3fs, rclone, ours, s3fs, rclone, so that whatever else
the machine does meets all of them. Several runs, of different rows, add up to one page.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from bench import data, peers, reading_rows, writing_rows
from bench.goals import BETTER_OF, least
from bench.latency_proxy import far_away
from bench.measure import Act, Bench, may_forget
from bench.mounted import ClientError
from bench.page import LEAST_SEC, RESULTS, write_page
from bench.peers import LIMITS, OURS, PEERS, Place
from bench.results import Record, Setting, Took, append
from bench.rows import Scenario, Sizes, Step, in_bucket, on_disk
from bench.watch import Outside
from tests.rgw import Gateway

STORE_BYTES = 20 << 30  # in memory, and only what is used
BEYOND_GOAL = 1.1  # a peer is stopped when we are so far beyond the goal
ROWS = (
    *("read", "read4", "random", "first", "small", "narrow", "ls", "ls-l", "find"),
    *("write", "write4", "create", "rsync", "clone", "untar", "change", "rename", "mixed", "stat"),
)


class Turns:
    """Everything at one distance, each client in its turn."""

    def __init__(self, bench: Bench, rtt_ms: float, given: argparse.Namespace) -> None:
        self._bench, self._rtt_ms, self._given = bench, rtt_ms, given
        self._found: dict[tuple[str, str, str], list[Took]] = {}

    def play(self, chosen: list[Scenario]) -> None:
        for _ in range(self._given.turns):
            for scenario in chosen:
                if self._taken_sec(scenario) <= self._given.repeat_sec:
                    limits = [limit for limit in scenario.limits if limit in self._given.limits]
                    for client in (OURS, *self._given.peers, *limits):
                        self._act(scenario, client)

    def _act(self, scenario: Scenario, client: str) -> None:
        runs = [took for step in scenario.steps for took in self._of(step, client)]
        if any(not took.ended for took in runs):
            return  # once is enough
        under_way = scenario.steps[0]

        def report(step: Step, measure: str, took: Took) -> None:
            nonlocal under_way
            under_way = step
            self._record(step, client, measure, took)

        def allowed(step: Step, measure: str) -> float:
            nonlocal under_way
            under_way = step
            return self._allowed(step, measure, client)

        try:
            with self._bench.place() as place:
                Act(self._bench, client, place).play(scenario, allowed, report)
        except ClientError as error:
            self._record(under_way, client, "", None, str(error))

    def _record(
        self, step: Step, client: str, measure: str, took: Took | None, error: str = ""
    ) -> None:
        what = step.row, step.family, step.amount, measure, took, error
        record = Record(self._given.run, time.time(), self._rtt_ms, client, *what)
        append(self._given.results, record)
        if took:
            self._found.setdefault((step.row, measure, client), []).append(took)
        said = f"{'' if took.ended else '> '}{took.wall_sec:.3f} s" if took else error
        print(f"{client:12} {record.name:60} {said:>12}", file=sys.stderr, flush=True)

    def _of(self, step: Step, client: str) -> list[Took]:
        known = self._found.items()
        return [
            took
            for (row, _, who), some in known
            if (row, who) == (step.row, client)
            for took in some
        ]

    def _allowed(self, step: Step, measure: str, client: str) -> float:
        """How long it may take: we as long as we like, the others by what we took."""
        ours = self._found.get((step.row, measure, OURS))
        most_sec: float = self._given.limit_sec
        if client == OURS or not ours:
            return most_sec
        patience: float = max(self._given.patience, BEYOND_GOAL * least(step.family))
        return min(most_sec, max(LEAST_SEC, patience * ours[-1].wall_sec))

    def _taken_sec(self, scenario: Scenario) -> float:
        """How long the first turn was of all clients that would get another."""
        rows = {step.row for step in scenario.steps}
        firsts = (some[0] for (row, *_), some in self._found.items() if row in rows)
        return sum(took.wall_sec for took in firsts if took.ended)


# --- all of them ------------------------------------------------------------------------------


def fill(gateway: Gateway, top: Path, chosen: list[Scenario], sizes: Sizes) -> None:
    """Make the files here and in the bucket."""
    place = Place(gateway.endpoint, gateway.access_key, gateway.secret_key, top, top)
    program, environ = peers.program(OURS), peers.account(place)
    subprocess.run([program, "mb", peers.BUCKET], env=environ, check=True)
    stored = in_bucket(chosen)
    for name in sorted(stored | on_disk(chosen)):
        print(f"making {name}", file=sys.stderr, flush=True)
        data.make(top, name, sizes)
        if name in stored:
            words = [program, "put", "-r", str(top / name), f"{peers.BUCKET}:{name}"]
            subprocess.run(words, env=environ, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def working_directory() -> Iterator[Path]:
    """One whose directories do not share what ext4 calls a block group.

    A new file takes ext4 ten times as long in a group where thousands were deleted in the last
    minutes: one client would pay for the files of the one before it.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        subprocess.run(["chattr", "+T", folder], capture_output=True, check=False)  # ext4 alone
        yield Path(folder)


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(folder)
    gateway.store_bytes = STORE_BYTES
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def setting(given: argparse.Namespace) -> Setting:
    versions = peers.versions(given.peers)
    load, processors = os.getloadavg()[0], os.cpu_count() or 0
    where = platform.python_version(), processors, load, may_forget() and not given.keep_caches
    return Setting(given.run, *where, given.patience, given.repeat_sec, versions, given.options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    there = peers.installed()
    wanted = [peer for peer in PEERS if peer in there or peer in BETTER_OF]
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=wanted)
    parser.add_argument("--limits", nargs="*", choices=LIMITS, default=LIMITS)
    parser.add_argument("--rtt-ms", nargs="+", type=float, default=(0.0, 20.0))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat-sec", type=float, default=120, help="what takes longer: once")
    parser.add_argument("--keys", nargs="+", type=int, default=(1000, 10_000, 100_000))
    parser.add_argument(
        "--file-mib", nargs="+", type=int, default=(1024,), help="the first: all rows"
    )
    parser.add_argument("--change-mib", type=int, default=256)
    parser.add_argument("--small-files", type=int, default=6400)
    parser.add_argument("--source-files", type=int, default=2000)
    parser.add_argument("--renamed-files", type=int, default=1000)
    parser.add_argument("--random-reads", type=int, default=100)
    parser.add_argument("--limit-sec", type=float, default=600, help="for any row")
    parser.add_argument("--patience", type=float, default=2, help="a peer's limit / our time")
    parser.add_argument("--options", nargs="+", default=[], help="for our mount: attrs=listing")
    parser.add_argument("--keep-caches", action="store_true", help="all of this machine's")
    parser.add_argument("--run", default=time.strftime("%Y-%m-%d %H:%M:%S"), help="its name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if lacking := [peer for peer in given.peers if peer not in there]:
        parser.error(f"not installed: {', '.join(lacking)}; install them, or choose --peers")
    given.options = [f"--{option}" for option in given.options]
    return given


def sizes_of(given: argparse.Namespace) -> Sizes:
    return Sizes(
        file_mib=tuple(given.file_mib),
        change_mib=given.change_mib,
        small_files=given.small_files,
        source_files=given.source_files,
        renamed_files=given.renamed_files,
        random_reads=given.random_reads,
        keys=tuple(given.keys),
    )


def benches(
    given: argparse.Namespace, chosen: list[Scenario], sizes: Sizes
) -> Generator[tuple[float, Bench], None, None]:
    """One for each distance, with all files made; to be closed, which stops the gateway."""
    with working_directory() as folder:
        top = folder / "data"
        top.mkdir()
        with running(folder / "gateway") as gateway:
            fill(gateway, top, chosen, sizes)
            for ms in given.rtt_ms:
                print(f"--- {ms:g} ms", file=sys.stderr, flush=True)
                near = nullcontext(gateway.endpoint)
                with far_away(gateway.endpoint, ms) if ms else near as url:
                    options = tuple(given.options)
                    yield ms, Bench(Outside(gateway), url, top, options, given.keep_caches)


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmount, stop the gateway
    sizes = sizes_of(given)
    everything = *reading_rows.scenarios(sizes), *writing_rows.scenarios(sizes)
    chosen = [scenario for scenario in everything if scenario.name in given.rows]
    append(given.results, setting(given))
    with closing(benches(given, chosen, sizes)) as places:
        for ms, bench in places:
            Turns(bench, ms, given).play(chosen)
    print(write_page(given.results))


if __name__ == "__main__":
    main()
