"""Reading through a mount: ours, s3fs and rclone by turns, near the gateway and far from it.

    python -m bench.reading              # writes bench/reading.md; half an hour or more
    python -m bench.reading --rows sequential first --rtt-ms 20 --turns 1 --output /tmp/page.md

Each row begins with a client that has just been mounted with an empty cache, unless it says
otherwise; the gateway is one of our own, on this machine, behind `bench.latency_proxy` where
it is far away. What reads is a process of its own, and the row ends when it has ended. By
turns ours, s3fs, rclone, ours, s3fs, rclone, so that whatever else the machine does meets
all of them. It needs s3fs, and rclone from ``.[bench]``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from bench import peers, reading_rows
from bench.latency_proxy import far_away
from bench.mounted import ClientError, Mounted
from bench.peers import RCLONE, S3FS, Place
from bench.reading_page import LIMIT, OURS, Run, goal, table
from bench.reading_rows import Scenario, Sizes, Step
from tests.rgw import Gateway

RESULT = Path(__file__).with_suffix(".md")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
ROWS = ("sequential", "readers", "random", "first", "small", "ls", "find")
PATIENCE_SEC_MIN = 15.0  # a peer gets at least this, however fast we were

# Seconds of each row, by row and client, at one distance.
Found = dict[str, dict[str, list[Run]]]


# --- one client -------------------------------------------------------------------------------


class Bench(NamedTuple):
    """Where everything is, and how long to wait for it."""

    gateway: Gateway
    url: str
    data: Path
    limit_sec: float
    patience: float
    options: tuple[str, ...]

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Empty directories for one client."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            keys = self.gateway.access_key, self.gateway.secret_key
            place = Place(self.url, *keys, Path(folder), self.data, self.options)
            place.mountpoint.mkdir()
            place.cache.mkdir()
            yield place

    def limit(self, ours: list[Run]) -> float:
        """How long a peer may take where we took so long."""
        if not ours:
            return self.limit_sec
        return min(self.limit_sec, max(PATIENCE_SEC_MIN, self.patience * ours[-1].wall_sec))


def act(bench: Bench, client: str, scenario: Scenario, found: Found) -> None:
    """One scenario by one client, as far as it gets."""
    if any(not run.ended for step in scenario.steps for run in found[step.row][client]):
        return  # once is enough
    with bench.place() as place:
        forget_caches()
        mounted = mount(client, place)
        try:
            read_once(["nothing"], bench.limit_sec, mounted.kill)  # now the programs are in memory
            for step in scenario.steps:
                if step.remount:
                    mounted.close()
                    mounted = mount(client, place)
                limit_sec = bench.limit(found[step.row][OURS])
                run = measured(bench.gateway, mounted, step, place, limit_sec)
                found[step.row][client].append(run)
                tell(client, step, run)
                if not run.ended:
                    break
        finally:
            mounted.close()


def mount(client: str, place: Place) -> Mounted:
    return Mounted(peers.CLIENTS[client](place), place.mountpoint, place.folder / "log")


def measured(gateway: Gateway, mounted: Mounted, step: Step, place: Place, limit_sec: float) -> Run:
    mounted.settle()
    mounted.forget_peak()
    cpu_sec, mark = mounted.cpu_sec(), gateway.mark()
    said = read_once(step.words(place.mountpoint), limit_sec, mounted.kill)
    if said is None:
        return Run(limit_sec, 0, 0, len(gateway.requests(mark)), ended=False)
    cpu_sec, peak_mib = mounted.cpu_sec() - cpu_sec, mounted.peak_mib()
    if said["seen"] != step.expected:
        raise ClientError(f"shows {said['seen']} of {step.expected}\n{mounted.log()}")
    return Run(said["wall_sec"], cpu_sec, peak_mib, len(gateway.requests(mark)))


def read_once(
    words: list[str], limit_sec: float, give_up: Callable[[], None]
) -> dict[str, Any] | None:
    """What `bench.read_once` says; none when it took too long."""
    command = [sys.executable, "-m", "bench.read_once", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        try:
            out, err = reader.communicate(timeout=limit_sec)
        except subprocess.TimeoutExpired:
            give_up()  # first: until then the reader may wait in the kernel
            reader.kill()
            return None
    if reader.returncode:
        raise ClientError(f"cannot be read:\n{err.decode(errors='replace')}")
    said: dict[str, Any] = json.loads(out)
    return said


def tell(client: str, step: Step, run: Run) -> None:
    took = f"{'' if run.ended else '> '}{run.wall_sec:.3f} s"
    print(f"{client:12} {step.row:50} {took:>12} {run.requests:7}", file=sys.stderr, flush=True)


def forget_caches() -> None:
    """Nothing of any file is in this machine's memory, if we may."""
    os.sync()
    if may_forget():
        DROP_CACHES.write_text("3")


def may_forget() -> bool:
    return os.access(DROP_CACHES, os.W_OK)


# --- all of them ------------------------------------------------------------------------------


def turns(bench: Bench, chosen: list[Scenario], given: argparse.Namespace) -> Found:
    """Everything at one distance."""
    clients = (OURS, *given.peers)
    rows = [step.row for scenario in chosen for step in scenario.steps]
    found: Found = {row: {client: [] for client in (*clients, LIMIT)} for row in rows}
    for _ in range(given.turns):
        for scenario in chosen:
            if taken_sec(scenario, found) > given.repeat_sec:
                continue
            for client in (*clients, LIMIT) if scenario.bare else clients:
                try:
                    act(bench, client, scenario, found)
                except ClientError as error:
                    print(f"{client} {scenario.name}: {error}", file=sys.stderr, flush=True)
    return found


def taken_sec(scenario: Scenario, found: Found) -> float:
    """How long the first turn of all clients was."""
    firsts = (runs[0] for step in scenario.steps for runs in found[step.row].values() if runs)
    return sum(run.wall_sec for run in firsts)


def fill(gateway: Gateway, data: Path, chosen: list[Scenario], sizes: Sizes) -> None:
    """Make the files here and in the bucket."""
    place = Place(gateway.endpoint, gateway.access_key, gateway.secret_key, data, data)
    program, environ = str(peers.beside_python("qarnotfs")), peers.account(place)
    subprocess.run([program, "mb", peers.BUCKET], env=environ, check=True)
    for directory in sorted(reading_rows.needed(chosen)):
        print(f"making {directory}", file=sys.stderr, flush=True)
        reading_rows.make(data, directory, sizes)
        words = [program, "put", "-r", str(data / directory), f"{peers.BUCKET}:{directory}"]
        subprocess.run(words, env=environ, stdout=subprocess.DEVNULL, check=True)


def page(found: dict[float, Found], given: argparse.Namespace, load: float) -> str:
    sizes, dropped = sizes_of(given), "dropped" if may_forget() else "NOT dropped (not root)"
    told = f" Our mount was given {', '.join(given.options)}." if given.options else ""
    tables, remount = [], reading_rows.remount_row(sizes)
    for rtt_ms, rows in found.items():
        tables.append(f"## {rtt_ms:g} ms\n\n{chr(10).join(table(rows, given.peers))}")
        if remount in rows:
            tables.append(f"{remount}: {goal(rows[remount])}")
    return f"""# Reading

Mounts of one bucket, at a round trip of {" and of ".join(f"{ms:g}" for ms in given.rtt_ms)} ms.
`make bench-read` writes this page.

- **Cold**: a client that was just mounted, with an empty cache directory and the kernel's caches
  {dropped} before.
- **Again**: the same client a second time; its own caches and the kernel's are warm.
- **After a remount**: a new client on the old cache directory. What the kernel knew of the mount
  is gone; the pages of the cache's files may still be in memory, for everybody alike, and for the
  bare pass-through of a local file, too.

Seconds are medians of so many turns ({", ".join((OURS, *given.peers))}, and so on); what took
{given.repeat_sec:g} s and more is not repeated. "s3fs / ours" above 1: s3fs takes so many times as
long. `>`: it was stopped, having taken {given.patience:g} times what we took and at least
{PATIENCE_SEC_MIN:g} s, and was not tried in later turns. `-`: it failed, or was stopped in the row
before.

Requests are those in the gateway's log. CPU and memory (VmHWM) are the client's, for this row
alone. The first byte is the median of {reading_rows.READERS} files. The keys have no bytes, and one
directory unless it says otherwise. Every client believes for {peers.BELIEVE_SEC} s what it has
listed; s3fs has `use_cache`, rclone `--vfs-cache-mode full`: see `bench/peers.py`.{told}

{(chr(10) * 2).join(tables)}

{peers.versions()}; Python {platform.python_version()}; {os.cpu_count()} processors, shared with
the gateway. Load when it began: {load:.1f}; from about 0.5 on, the machine had other things to do.
"""


def sizes_of(given: argparse.Namespace) -> Sizes:
    keys = tuple(given.keys)
    return Sizes(given.file_mib, given.small_files, given.random_reads, keys)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--peers", nargs="*", choices=(S3FS, RCLONE), default=(S3FS, RCLONE))
    parser.add_argument("--rtt-ms", nargs="+", type=float, default=(0.0, 20.0))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat-sec", type=float, default=30, help="what takes longer: once")
    parser.add_argument("--keys", nargs="*", type=int, default=(10_000, 100_000))
    parser.add_argument("--file-mib", type=int, default=256)
    parser.add_argument("--small-files", type=int, default=500)
    parser.add_argument("--random-reads", type=int, default=100)
    parser.add_argument("--limit-sec", type=float, default=600, help="for any row")
    parser.add_argument("--patience", type=float, default=2, help="a peer's limit / our time")
    parser.add_argument("--options", nargs="+", default=(), help="for our mount: attrs=listing")
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


def main() -> None:
    given, load = arguments(), os.getloadavg()[0]
    if given.peers and (lacking := peers.missing()):
        sys.exit(f"not installed: {', '.join(lacking)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmount, stop the gateway
    sizes = sizes_of(given)
    chosen = [each for each in reading_rows.scenarios(sizes) if each.name in given.rows]
    found: dict[float, Found] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        gateway, data = Gateway(Path(folder) / "gateway"), Path(folder) / "data"
        data.mkdir()
        gateway.start()
        try:
            fill(gateway, data, chosen, sizes)
            for ms in given.rtt_ms:
                print(f"--- {ms:g} ms", file=sys.stderr, flush=True)
                way = far_away(gateway.endpoint, ms) if ms else nullcontext(gateway.endpoint)
                with way as url:
                    limits = given.limit_sec, given.patience
                    bench = Bench(
                        gateway,
                        url,
                        data,
                        *limits,
                        tuple(f"--{option}" for option in given.options),
                    )
                    found[ms] = turns(bench, chosen, given)
        finally:
            gateway.stop()
    given.output.write_text(page(found, given, load))
    print(given.output.read_text())


if __name__ == "__main__":
    main()
