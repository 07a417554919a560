"""The next page of a listing, asked for as soon as the one before it has arrived.

Used by `index`, which keeps one beside each listing that it reads on, and by the stores, which ask:
reading a page takes as long as it takes to get one, and need not come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from qarnotfs.store.base import Flight, ListPage


class Early:
    """At most one page ahead, while ``is_wanted``. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self.is_wanted = False
        self._lock = threading.Lock()  # guards the two below
        self._token = ""
        self._flight: Flight[ListPage] | None = None

    def ask(self, token: str, send: Callable[[], Flight[ListPage]]) -> None:
        """The page ``token`` comes next: ``send`` the request for it, unless one is under way."""
        with self._lock:
            if self.is_wanted and self._flight is None:
                self._token, self._flight = token, send()

    def take(self, token: str | None) -> Flight[ListPage] | None:
        """The page of this token, if it was asked for; another one is of no use any more."""
        with self._lock:
            flight, self._flight = self._flight, None
            is_another = token != self._token
        if flight is not None and is_another:
            flight.abort()
            return None
        return flight

    def drop(self) -> None:
        """No page is wanted any more."""
        self.is_wanted = False
        self.take(None)
