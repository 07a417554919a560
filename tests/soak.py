"""Hours of kills, faults and random lives, and the page that says how they went.

    make soak SOAK_MINUTES=30

One gateway, with a fault proxy before it that mounts are pointed at. In turn: rounds of the
kill -9 loop with every fault and restarts of the gateway, trees copied through each fault,
lives of the reference model. It ends at the first difference, with the seed that repeats it;
else it writes its figures into docs/RELIABILITY.md, where nobody types them.
"""

from __future__ import annotations

import os
import platform
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, seed, settings

from tests.conftest import make_client, remove_bucket
from tests.copying import (
    FAULTS,
    but_for_conflicts,
    check,
    cp,
    drain,
    in_bucket,
    in_directory,
    make_files,
    rule,
    write_files,
)
from tests.faults import Fault, FaultProxy, Rule
from tests.killing import KillLoop
from tests.model import twins_on
from tests.rgw import RGW, Gateway
from tests.s5_mount.mounting import Cli, Mount
from tests.steps import Step, any_large, any_local, any_or_death, any_remote, lives
from tests.support import eventually

if TYPE_CHECKING:
    pass

PAGE = Path(__file__).parent.parent / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- figures: begin, written by make soak -->\n", "<!-- figures: end -->\n"
ROUNDS_AT_A_TIME = 15
RESTART_SHARE = 0.15  # of the rounds; the gateway goes away and comes back under load
COPY_COUNT = 150
LIVES_AT_A_TIME = 25
CHANGES_OF_LARGE = "changes promised to programs, of large files"
LATE_STARTS = "mount starts repeated because the gateway was too busy"
IMPATIENT = ("--io-timeout", "2")
SHARE = 0.01  # of all requests, for each kind of fault, when all kinds are injected at once
ASKING = ("--cache-ttl", "0", "--upload-delay", "0")
BELIEVING = ("--cache-ttl", "3600", "--upload-delay", "0.05")
LIVES = (
    (any_local, BELIEVING, 60),
    (any_remote, ASKING, 60),
    (any_or_death, BELIEVING, 60),
    (any_large, BELIEVING, 25),
)


class Soak:
    """One run. Everything it does follows from ``number``, but for what the machine adds."""

    def __init__(self, place: Path, gateway: Gateway, proxy: FaultProxy, number: int) -> None:
        self.figures: Counter[str] = Counter()
        self.injected: Counter[Fault] = Counter()
        self._place, self._gateway, self._proxy = place, gateway, proxy
        self._dice = random.Random(number)
        self._faults = cycle(self._dice.sample(FAULTS, len(FAULTS)))  # each has its turn
        self._runtime = Path(tempfile.mkdtemp(prefix="qfs-"))
        self._cli = Cli(place, self._runtime, gateway.environment)
        self._s3 = make_client(gateway)

    def run(self, minutes: float) -> None:
        """Until the time is over; what is under way then is finished."""
        deadline = time.monotonic() + 60 * minutes
        parts = (self.kill, self.copy, self.live)
        turn = 0
        while time.monotonic() < deadline or turn < len(parts):
            parts[turn % len(parts)]()
            turn += 1
            self._say()

    # --- parts --------------------------------------------------------------------------

    def kill(self) -> None:
        """Rounds of the kill -9 loop, with faults while the programs work."""
        with self._mounted(IMPATIENT, self._broken()) as mount:
            loop = KillLoop(
                mount,
                self._s3,
                self._dice.getrandbits(32),
                options=IMPATIENT,
                environment=self._broken(),
                disturb=self._disturb,
                calm=self._calm,
            )
            try:
                for _ in range(ROUNDS_AT_A_TIME):
                    loop.round()
                loop.drain()
            finally:
                loop.stop()
        self.figures["kill -9 rounds"] += loop.rounds
        self.figures[LATE_STARTS] += loop.late_starts
        self.figures["changes promised to programs"] += loop.figures.changes
        self.figures[CHANGES_OF_LARGE] += loop.figures.changes_of_large
        self.figures["errors told to programs"] += loop.figures.errors
        self._checked(loop.figures.files_checked, loop.figures.bytes_checked)

    def copy(self) -> None:
        """A tree in and out through one kind of fault."""
        fault = next(self._faults)
        files = make_files(self._dice.getrandbits(32), COPY_COUNT)
        with tempfile.TemporaryDirectory(dir=self._place) as folder:
            source, target = Path(folder, "source"), Path(folder, "target")
            write_files(source, files)
            target.mkdir()
            with self._mounted(IMPATIENT, self._broken()) as mount:
                self._inject(rule(fault))
                told = cp(source, mount.path)
                drain(mount, self._proxy, fault, IMPATIENT)
                self._calm()
                stored = in_bucket(self._s3, mount.bucket)
                outcome = check(files, but_for_conflicts(fault, files, stored), told)
                mount.cache_dir = mount.cache_dir.with_name(mount.cache_dir.name + "-fresh")
                self._start(mount, IMPATIENT, self._broken())
                self._inject(rule(fault))
                told = cp(mount.path, target)
                self._calm()
                back = check(stored, in_directory(target, stored), told)
        self.figures["trees copied in and out"] += 1
        self.figures["errors told to programs"] += outcome.told + back.told
        self._checked(outcome.right + back.right, outcome.bytes_checked + back.bytes_checked)

    def live(self) -> None:
        """Lives of the reference model, which has no faults in it but death."""
        step, options, longest = self._dice.choice(LIVES)
        with self._mounted(options, {}) as mount:

            @seed(self._dice.getrandbits(32))
            @settings(
                max_examples=LIVES_AT_A_TIME,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(lives(step, longest))
            def live(life: list[Step]) -> None:
                twins_on(mount, self._s3, options).live(life)
                self.figures["steps beside a local directory"] += len(life)

            live()
            mount.unmount()

    # --- helpers ------------------------------------------------------------------------

    @contextmanager
    def _mounted(self, options: tuple[str, ...], environment: dict[str, str]) -> Iterator[Mount]:
        bucket = f"soak-{secrets.token_hex(4)}"
        self._s3.create_bucket(Bucket=bucket)
        with tempfile.TemporaryDirectory(dir=self._place) as folder:
            mount = Mount(self._cli, bucket, Path(folder, "mnt"), Path(folder, "cache"))
            try:
                self._start(mount, options, environment)
                yield mount
            except Exception as error:
                error.add_note(f"{self._cli('status').out}{mount.log_tail()}")
                raise
            finally:
                self._calm()
                mount.remove()
                remove_bucket(self._s3, bucket)

    def _start(self, mount: Mount, options: tuple[str, ...], environment: dict[str, str]) -> None:
        self.figures[LATE_STARTS] += mount.start_patiently(options, environment)

    def _broken(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self._proxy.endpoint}

    def _disturb(self) -> None:
        self._inject(*[Rule(fault, probability=SHARE) for fault in FAULTS if fault not in LIES])
        if self._dice.random() < RESTART_SHARE:
            self._gateway.kill()
            self._gateway.restart()
            self.figures["gateway restarts under load"] += 1

    def _inject(self, *rules: Rule) -> None:
        self._calm()
        self._proxy.inject(*rules)

    def _calm(self) -> None:
        """Only forward, from now on; what was refused before is over."""
        self._proxy.calm()
        eventually(self._proxy.is_listening)
        self.injected += self._proxy.injected
        self._proxy.injected.clear()

    def _checked(self, files: int, size: int) -> None:
        self.figures["files compared"] += files
        self.figures["bytes compared"] += size

    def _say(self) -> None:
        told = ", ".join(f"{name}: {figure:,}" for name, figure in self.figures.items())
        print(f"{told}; faults: {self.injected.total():,}", flush=True)

    def close(self) -> None:
        """Leave nothing behind."""
        self._s3.close()
        shutil.rmtree(self._runtime)


# Not under the kill loop, whose books know of no excuse: a wrong byte in a part of an object
# cannot be noticed (S3 has no checksum for it but TLS's), and who is told another etag has to
# believe that somebody else stored an object, spares it, and keeps both.
LIES = {Fault.WRONG_BYTES, Fault.WRONG_ETAG}


def page(soak: Soak, minutes: float, command: str) -> str:
    """What stands between the markers."""
    when = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        f"`{command}` on {when}, {minutes:.0f} minutes.",
        f"Commit {commit()}. {machine()}.",
        "",
        "| what | how often |",
        "|---|---:|",
        *(f"| {name} | {figure:,} |" for name, figure in sorted(soak.figures.items())),
        "| **promised bytes lost, files doubled or come back** | **0** |",
        "",
        "| fault injected | how often |",
        "|---|---:|",
        *(f"| {fault} | {soak.injected[fault]:,} |" for fault in FAULTS),
        f"| all | {soak.injected.total():,} |",
    ]
    return "\n".join(lines) + "\n"


def commit() -> str:
    """Which code was at work; told when it was not all committed."""
    return printed("git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=, changed")


def machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in cpus if line.startswith("model name")), "CPU")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    ceph = printed(RGW, "--version").split()[2]
    return (
        f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, Linux {platform.release()},"
        f" Python {platform.python_version()}, Ceph {ceph}"
    )


def printed(*command: str) -> str:
    done = subprocess.run(command, cwd=PAGE.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def publish(text: str) -> None:
    """Put it between the markers of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + text + END + after)


def main() -> int:
    minutes = float(os.environ.get("SOAK_MINUTES") or 10)
    number = int(os.environ.get("SOAK_SEED") or secrets.randbits(32))
    command = f"make soak SOAK_MINUTES={minutes:g} SOAK_SEED={number}"
    print(command, flush=True)
    began = time.monotonic()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        gateway = Gateway(place / "gateway")
        stack.callback(gateway.stop)
        gateway.start()
        proxy = stack.enter_context(FaultProxy(gateway, number))
        soak = Soak(place, gateway, proxy, number)
        stack.callback(soak.close)
        try:
            soak.run(minutes)
        except Exception as error:
            error.add_note(f"repeat with: {command}")
            raise
    text = page(soak, (time.monotonic() - began) / 60, command)
    print(text, end="")
    publish(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
