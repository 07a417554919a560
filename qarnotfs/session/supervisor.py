"""What systemd is told: the mount is there, how its uploads go, it is alive, it ends.

Used by `life`. See sd_notify(3). Without a supervisor all of it does nothing.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import trio

PINGS = 3  # in the time after which the watchdog bites


class Supervisor:
    """Whoever started this process and listens on ``$NOTIFY_SOCKET``, if anybody does."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self._status = ""
        its_own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_sec = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 if its_own else 0.0

    def ready(self) -> None:
        """The mount answers."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """It is unmounted, and uploads what is left."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; the same line again is not sent."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    async def reassure(self) -> None:
        """Say that the loop still runs, for as long as it does."""
        while self._watchdog_sec:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog_sec / PINGS)

    def _tell(self, line: str) -> None:
        """Never waits, and never fails: a supervisor that went away is no reason to end."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
            speaking.setblocking(False)
            speaking.sendto(line.encode(), self._address)
