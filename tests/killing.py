"""The kill -9 loop: programs work, the daemon dies, the mount comes back, the books are compared.

Used by `test_mount_kill` for a hundred rounds and by the soak for hours. A seed decides
what the programs do and after how many of their messages the daemon is killed.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.load import Figures, Worker, work
from tests.s5_mount.mounting import Mount
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MESSAGES = (4, 120)  # of all workers, before the daemon is killed
DELAYS = ("0", "0", "0.2")  # before an upload; short ones kill more uploads
ROUNDS_UNTIL_DRAIN = 25


class KillLoop:
    """One mount and its workers. ``environment`` is what the mount is started with.

    ``disturb`` is called in each round while the programs work, ``calm`` before the mount comes
    back; with them, programs may get errors.
    """

    def __init__(
        self,
        mount: Mount,
        s3: S3Client,
        seed: int,
        *,
        workers: int = 3,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        disturb: Callable[[], None] | None = None,
        calm: Callable[[], None] = lambda: None,
    ) -> None:
        self.figures = Figures()
        self.workers = [Worker(f"w{number}", self.figures) for number in range(workers)]
        self.rounds = self.drains = 0
        self.late_starts = 0  # repeated because the gateway was too busy to answer
        self._mount, self._s3 = mount, s3
        self._dice = random.Random(seed)
        self._options, self._environment = options, environment or {}
        self._disturb, self._calm = disturb, calm

    def round(self) -> None:
        """Work, kill, mount again, compare."""
        for worker in self.workers:
            worker.start(self._mount.path, self._dice.getrandbits(32))
        if self._disturb:
            self._disturb()
        work(self.workers, self._dice.randint(*MESSAGES))
        errors = [worker.error for worker in self.workers if worker.error]
        assert self._disturb or not errors, errors
        self.figures.errors += len(errors)
        self._mount.kill9()
        for worker in self.workers:
            worker.end()
        self.rounds += 1
        self._calm()
        self._start()
        for worker in self.workers:
            worker.resolve(self._mount.path)
            worker.verify(self._mount.path, self._dice)
        if self.rounds % ROUNDS_UNTIL_DRAIN == 0:
            self.drain()
            self._start()

    def drain(self) -> None:
        """Unmount, and compare the bucket itself."""
        self._mount.unmount()
        eventually(self._mount.has_ended)
        self.drains += 1
        for worker in self.workers:
            worker.verify_bucket(self._s3, self._mount.bucket)

    def stop(self) -> None:
        """Leave no process behind, however it went."""
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGKILL)
        for worker in self.workers:
            if worker.process is not None:
                worker.process.wait()
                assert worker.process.stdout
                worker.process.stdout.close()

    def _start(self) -> None:
        delay = ("--upload-delay", self._dice.choice(DELAYS))
        options = [*delay, *self._options]
        self.late_starts += self._mount.start_patiently(options, self._environment)
