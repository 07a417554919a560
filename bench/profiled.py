"""Where our mount's processor time goes in each row: the profile beside the page's figures.

    python -m bench.profiled --rows small create --rtt-ms 20 --small-files 2000

Adds to bench/profiles.jsonl, of which `python -m bench.page` makes a table. Each row is done
once, by our mount alone, while `py-spy` looks at who has the GIL. The kernel's counters say how
much time each kind of thread took, in Python or libraries and in the kernel; what `py-spy` saw
says whose code the main thread was in. Under it everything takes longer: shares are of use.
`py-spy` comes with .[bench]; it needs root, or a kernel that lets users look at other processes.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from bench import reading_rows, writing_rows
from bench.measure import Act, Allowed, Bench, Report
from bench.mounted import TICKS, ClientError
from bench.page import PROFILES
from bench.peers import OURS, Place
from bench.profiles import MAIN, Profile, save
from bench.results import Took
from bench.rows import Step
from bench.run import arguments, benches, sizes_of

RATE_HZ = 200
READY_SEC = 1.0  # until `py-spy` samples
LAST = re.compile(r"\((?P<path>[^()]+?)(?::\d+)?\)$")  # the file of a frame
OURS_IN = re.compile(r"qarnotfs/(\w+)")
LIBRARIES = ("trio", "outcome", "pyfuse3", "awscrt")
AWSCRT_THREADS = "Aws"


class Threads:
    """The processor time of a process's threads since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = dict(self._now())

    def spent(self) -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}
        for (name, number), (user, system) in self._now():
            before = self._before.get((name, number), (0.0, 0.0))
            so_far = found.get(name, (0.0, 0.0))
            found[name] = so_far[0] + user - before[0], so_far[1] + system - before[1]
        return found

    def _now(self) -> Iterator[tuple[tuple[str, int], tuple[float, float]]]:
        for path in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                head, _, tail = (path / "stat").read_text().rpartition(")")
                number, user, system = int(path.name), *map(int, tail.split()[11:13])
                yield (
                    (kind(head.partition("(")[2], number == self._pid), number),
                    (
                        user / TICKS,
                        system / TICKS,
                    ),
                )


def kind(name: str, is_main: bool) -> str:
    """What a thread is there for."""
    if is_main:
        return MAIN
    return "awscrt" if name.startswith(AWSCRT_THREADS) else "worker"


def rooms(lines: Iterable[str]) -> Counter[str]:
    """Of the main thread's stacks, as ``py-spy record --format raw`` writes them."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any("MainThread" in frame for frame in frames[:2]):
            found[room(frames[-1])] += int(count)
    return found


def room(frame: str) -> str:
    """Whose code a frame is."""
    path = found["path"] if (found := LAST.search(frame)) else ""
    if ours := OURS_IN.search(path):
        return ours[1]
    return next((name for name in LIBRARIES if name in path), "other")


class Watched(Act):
    """Our mount's scenario, with somebody looking on."""

    def __init__(self, bench: Bench, place: Place, keep: list[Profile], rtt_ms: float) -> None:
        super().__init__(bench, OURS, place)
        self._keep, self._rtt_ms, self._data = keep, rtt_ms, bench.data

    def _measured(self, step: Step, allowed: Allowed, report: Report) -> bool:
        (pid,) = self._serving.pids()[:1]
        raw = self._data.parent / "profile.raw"
        command = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            "-p",
            str(pid),
            "-r",
            str(RATE_HZ),
            "-t",
            "-g",
        ]
        command += ["-d", "unlimited", "-f", "raw", "-o", str(raw)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as spy:
            time.sleep(READY_SEC)  # it says nothing when it is ready; late, it sees less of the row
            threads = Threads(pid)
            ended = super()._measured(step, allowed, report)
            spent = threads.spent()
            spy.send_signal(signal.SIGINT)
            _, said = spy.communicate()
        if not raw.exists():
            raise ClientError(f"py-spy: {said.decode(errors='replace')}")
        seen = dict(rooms(raw.read_text().splitlines()))
        raw.unlink()
        self._keep.append(Profile(time.time(), self._rtt_ms, step.row, step.amount, spent, seen))
        return ended


def main() -> None:
    given = arguments()
    sizes = sizes_of(given)
    everything = *reading_rows.scenarios(sizes), *writing_rows.scenarios(sizes)
    chosen = [scenario for scenario in everything if scenario.name in given.rows]
    with closing(benches(given, chosen, sizes)) as places:
        for ms, bench in places:
            for scenario in chosen:
                keep: list[Profile] = []
                with bench.place() as place:
                    watched = Watched(bench, place, keep, ms)
                    watched.play(scenario, lambda *_: given.limit_sec, _said)
                save(PROFILES, keep)


def _said(step: Step, measure: str, took: Took) -> None:
    print(f"{step.row} {measure}: {took.wall_sec:.2f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
