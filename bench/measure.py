"""One scenario by one client: mounted, asked, watched from outside, unmounted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import peers
from bench.bare_once import BARE_DOINGS
from bench.mounted import ClientError, Mounted, Nobody
from bench.peers import AWSCRT, BARE_TOP, DISK, PASSTHROUGH, Place
from bench.results import DURABLE, RETURNED, Took
from bench.rows import DATA, NEW, Scenario, Step
from bench.watch import Outside, Watch, asked_by_client

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
MOST_LASTING_SEC = 300.0
ERROR_MAX = 1000
LOCAL = (PASSTHROUGH, DISK)  # what they write is on this disk


class Bench(NamedTuple):
    """Where everything is. ``url``: the gateway's, from where the clients are."""

    outside: Outside
    url: str
    data: Path
    options: tuple[str, ...]
    keeps_caches: bool

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Empty directories for one client."""
        with tempfile.TemporaryDirectory(prefix="bench-", dir=self.data.parent) as folder:
            gateway = self.outside.gateway
            keys = gateway.access_key, gateway.secret_key
            place = Place(self.url, *keys, Path(folder), self.data, self.options)
            place.mountpoint.mkdir()
            place.cache.mkdir()
            yield place


# What is found: the step, which measure of it, and the figures.
Report = Callable[[Step, str, Took], None]
# How long a client gets for a measure of a step.
Allowed = Callable[[Step, str], float]


class Act:
    """One client's scenario in a place of its own."""

    def __init__(self, bench: Bench, client: str, place: Place) -> None:
        self._bench, self._client, self._place = bench, client, place
        tops = {DISK: bench.data, AWSCRT: BARE_TOP}
        self._top = tops.get(client, place.mountpoint)
        self._serving: Mounted | Nobody = Nobody()

    def play(self, scenario: Scenario, allowed: Allowed, report: Report) -> None:
        """As far as it gets. Raises ClientError when the client does not do it."""
        self._forget_new()  # what arrived late from a client that was killed
        try:
            self._prepare(scenario)
            self._mount(empty=True)
            self._ask(["nothing"], 60.0)  # now the programs are in memory
            for step in scenario.steps:
                if self._client == AWSCRT and step.doing not in BARE_DOINGS:
                    continue
                if step.remount or step.elsewhere:
                    self._serving.close()
                    self._mount(empty=step.elsewhere)
                if not self._measured(step, allowed, report):
                    break
        finally:
            self._serving.close()
            self._forget_new()

    def _prepare(self, scenario: Scenario) -> None:
        for source, target in scenario.before:
            if self._client not in LOCAL:
                self._bench.outside.copy(source, target)
            elif (self._bench.data / source).is_dir():
                shutil.copytree(self._bench.data / source, self._bench.data / target)
            else:
                shutil.copy(self._bench.data / source, self._bench.data / target)

    def _mount(self, *, empty: bool) -> None:
        if empty:
            shutil.rmtree(self._place.cache)
            self._place.cache.mkdir()
            if not self._bench.keeps_caches:
                forget_caches()
        if self._client in peers.CLIENTS:
            command = peers.CLIENTS[self._client](self._place)
            log = self._place.folder / "log"
            self._serving = Mounted(command, self._place.mountpoint, log)

    def _forget_new(self) -> None:
        """Whatever is left of what was written."""
        for path in self._bench.data.glob(f"{NEW}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._bench.outside.forget_new()

    # --- one step -------------------------------------------------------------------------

    def _measured(self, step: Step, allowed: Allowed, report: Report) -> bool:
        """Whether it came to its end."""
        warm(step, self._bench.data)
        if step.effect is None or self._client in LOCAL:
            measure = RETURNED if step.effect else ""
            limit_sec, spending = allowed(step, measure), self._spending()
            said = self._asked(step, limit_sec)
            took = spending.took(said["wall_sec"], said) if said else None
            report(step, measure, took or Took(limit_sec, ended=False))
            return said is not None
        with closing(Watch(self._bench.outside, step.effect, self._bench.data)) as watch:
            once = self._lasting if step.lasting else self._durable
            return once(step, watch, allowed, report)

    def _durable(self, step: Step, watch: Watch, allowed: Allowed, report: Report) -> bool:
        limit_sec, spending = allowed(step, DURABLE), self._spending()
        said = self._asked(step, limit_sec)
        if said is None:
            for measure in (RETURNED, DURABLE):
                report(step, measure, Took(limit_sec, ended=False))
            return False
        returned_sec = said["wall_sec"]
        report(step, RETURNED, spending.took(returned_sec, said, under_way=True))
        moment = watch.wait(said["begun_sec"] + limit_sec)
        if moment is None:
            report(step, DURABLE, Took(limit_sec, ended=False))
            return False
        took = spending.took(max(returned_sec, moment - said["begun_sec"]), said)
        watch.verify()
        report(step, DURABLE, took)
        return True

    def _lasting(self, step: Step, watch: Watch, allowed: Allowed, report: Report) -> bool:
        """It says its own seconds, which have nothing to do with how long it takes."""
        limit_sec, spending = MOST_LASTING_SEC, self._spending()
        deadline = time.monotonic() + limit_sec
        said = self._asked(step, limit_sec, lambda: watch.wait(deadline))
        if said is None:
            return False
        took = spending.took(said["wall_sec"], said)
        watch.verify()
        report(step, "", took)
        return True

    def _asked(
        self, step: Step, limit_sec: float, until: Callable[[], object] | None = None
    ) -> dict[str, Any] | None:
        said = self._ask(step.words(self._top, self._bench.data), limit_sec, until)
        if said is not None and said["seen"] != step.expected:
            raise ClientError(f"shows {said['seen']} of {step.expected}\n{self._serving.log()}")
        return said

    def _ask(
        self, words: list[str], limit_sec: float, until: Callable[[], object] | None = None
    ) -> dict[str, Any] | None:
        """What the program says; none when it took too long. It is told when ``until`` is over."""
        module = "bench.bare_once" if self._client == AWSCRT else "bench.do_once"
        environ = os.environ | peers.account(self._place)
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", module, *words]
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environ, start_new_session=True
        ) as doing:
            try:
                if until is not None:
                    until()
                out, err = doing.communicate(timeout=limit_sec)
            except BaseException as stop:
                self._serving.kill()  # first: until then it may wait in the kernel
                os.killpg(doing.pid, signal.SIGKILL)  # what it has started, too
                if isinstance(stop, subprocess.TimeoutExpired):
                    return None
                raise
        if doing.returncode:
            raise ClientError(f"cannot {words[0]}:\n{err.decode(errors='replace')[-ERROR_MAX:]}")
        said: dict[str, Any] = json.loads(out)
        return said

    def _spending(self) -> Spending:
        self._serving.settle()
        self._serving.forget_peak()
        return Spending(self._serving, self._bench.outside)


class Spending:
    """What a client spends from here on."""

    def __init__(self, serving: Mounted | Nobody, outside: Outside) -> None:
        self._serving, self._gateway = serving, outside.gateway
        self._cpu_sec = serving.cpu_sec()
        self._mark = outside.gateway.mark()

    def took(self, wall_sec: float, said: dict[str, Any], *, under_way: bool = False) -> Took:
        """Until now. Requests are only counted when none is under way."""
        now_sec = self._serving.cpu_sec()
        if now_sec is None or self._cpu_sec is None:
            cost = said["cpu_sec"], said["peak_mib"]  # no client but the program itself
        else:
            cost = now_sec - self._cpu_sec, self._serving.peak_mib()
        if under_way:
            return Took(wall_sec, *cost)
        return Took(wall_sec, *cost, asked_by_client(self._gateway.requests(self._mark)))


def warm(step: Step, data: Path) -> None:
    """What is written from is in memory: the disk is not what is measured."""
    for arg in step.args:
        if arg.startswith(DATA):
            top = data / arg.removeprefix(DATA)
            for path in [top, *top.rglob("*")]:
                if path.is_file():
                    with path.open("rb") as file:
                        while file.read(1 << 20):
                            pass


def forget_caches() -> None:
    """Nothing of any file is in this machine's memory, if we may."""
    os.sync()
    if may_forget():
        DROP_CACHES.write_text("3")


def may_forget() -> bool:
    return os.access(DROP_CACHES, os.W_OK)
