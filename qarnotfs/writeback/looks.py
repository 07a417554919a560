"""When the debts are looked through: soon after each change, at once for whoever waits.

Used by `uploader`, whose task looks. A look costs time for each debt that waits, so that the more
there are, the rarer it is; what happened meanwhile is met by one look.
"""

from __future__ import annotations

import trio

LOOK_SEC = 0.02  # many files are closed at once: one look for them all
DEBT_SEC = 50e-6  # a pause for each debt, far above what looking at it takes, but no more than
PAUSE_SEC_MAX = 1.0  # this, however many there are


class Looks:
    """What has been heard of since the last look began."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A look begins: what is heard of from now on is for the next one."""
        self._heard, self._asked = trio.Event(), trio.Event()
        self._is_payment = False

    def hear(self) -> None:
        """The debts have changed."""
        self._heard.set()

    def hear_payment(self) -> None:
        """A payment has ended: what waited for it need not wait as long as for other changes."""
        self._is_payment = True
        self._heard.set()

    def ask(self) -> None:
        """Somebody waits, or there is room for more of what was found due: look at once."""
        self._asked.set()
        self._heard.set()

    async def wait(self, next_sec: float, count: int) -> None:
        """Return when the next look is due, at ``next_sec`` if nothing is heard of.

        ``count``: of debts that wait.
        """
        with trio.move_on_at(next_sec):
            await self._heard.wait()
        is_change = self._heard.is_set() and not self._is_payment
        pause_sec = max(LOOK_SEC if is_change else 0.0, min(count * DEBT_SEC, PAUSE_SEC_MAX))
        with trio.move_on_after(pause_sec):
            await self._asked.wait()
