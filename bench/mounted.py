"""A client while it serves a mountpoint: its start, its end, what it spends.

Used by `bench.run`. Whatever asks the mountpoint something is a process of its own, with
a time limit: a client that hangs must not make us hang.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from bench.peers import Command

START_SEC_MAX = 30.0
END_SEC_MAX = 60.0
IDLE_SEC = 0.3  # without using the processor: it has done what it had to do
SETTLE_SEC_MAX = 10.0
TICKS = os.sysconf("SC_CLK_TCK")
LOG_LINES = 5


class ClientError(Exception):
    """A client that does not do what it is there for; one message for a person."""


class Nobody:
    """No client: the program works on the local disk, or talks with the gateway itself."""

    def close(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def settle(self) -> None:
        pass

    def forget_peak(self) -> None:
        pass

    def log(self) -> str:
        return ""

    def pids(self) -> list[int]:
        return []

    def cpu_sec(self) -> None:
        return None

    def peak_mib(self) -> None:
        return None


class Mounted:
    """One mount, from its making until `close`."""

    def __init__(self, command: Command, mountpoint: Path, log_path: Path) -> None:
        self._mountpoint, self._log_path = mountpoint, log_path
        with log_path.open("ab") as log:
            self._client = subprocess.Popen(
                command.words,
                env=command.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who then unmount
            )
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SEC_MAX
        while not (self._is_there() and self._answers()):
            if self._client.poll() is not None:
                raise ClientError(f"ended with status {self._client.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise ClientError(f"does not answer after {START_SEC_MAX:g} s\n{self.log()}")
            time.sleep(0.02)  # between two looks, until the deadline

    def _is_there(self) -> bool:
        """As the kernel says, which does not ask the client."""
        table = Path("/proc/self/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self._mountpoint) for line in table)

    def _answers(self) -> bool:
        command = ["stat", str(self._mountpoint)]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, timeout=5, check=False)
            return done.returncode == 0
        return False

    def log(self) -> str:
        """The last lines of what the client said."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-LOG_LINES:])

    # --- its end --------------------------------------------------------------------------

    def close(self) -> None:
        """Unmount as a user does, and wait until the client has ended."""
        deadline = time.monotonic() + END_SEC_MAX
        while self._is_there() and self._client.poll() is None and time.monotonic() < deadline:
            subprocess.run(
                ["fusermount3", "-u", str(self._mountpoint)], capture_output=True, check=False
            )
            time.sleep(0.02)  # between two tries, until the deadline
        try:
            self._client.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass  # then the hard way
        finally:
            self.kill()

    def kill(self) -> None:
        """It ends now; who waits for its answer gets an error. Repeating is harmless."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._client.wait()
        if self._is_there():
            subprocess.run(["fusermount3", "-uz", str(self._mountpoint)], check=False)

    # --- what it spends -------------------------------------------------------------------

    def pids(self) -> list[int]:
        """The client and the processes it has started, if it still runs."""
        found = [] if self._client.poll() is not None else [self._client.pid]
        for pid in found:  # grows on the way
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found += map(int, path.read_text().split())
        return found

    def cpu_sec(self) -> float:
        """Since the client's start, with its children that have ended."""
        ticks = 0
        for pid in self.pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, stat[11:15]))
        return ticks / TICKS

    def forget_peak(self) -> None:
        """From here on, `peak_mib` is the peak."""
        for pid in self.pids():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The most memory it had at once since `forget_peak`: VmHWM."""
        kib = 0
        for pid in self.pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return kib / 1024

    def settle(self) -> None:
        """Wait while it still works on what was before."""
        deadline = time.monotonic() + SETTLE_SEC_MAX
        used_sec = -1.0
        while (now_sec := self.cpu_sec()) - used_sec > 1.5 / TICKS and time.monotonic() < deadline:
            used_sec = now_sec
            time.sleep(IDLE_SEC)  # whether it idles is seen over a while
