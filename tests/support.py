"""Small helpers that any test may use. Nothing in here knows a gateway or a mount."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SEC = 0.02


def eventually(condition: Callable[[], T], within_sec: float = 60.0) -> T:
    """Call ``condition`` until what it returns is true, and return that.

    Instead of a sleep that hopes. The deadline is for a machine under load: a test that
    passes does not come near it, but where a mount is to end: namespaces that others make
    meanwhile hold it for as long as they last. Exceptions are the condition's own business.
    """
    deadline = time.monotonic() + within_sec
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {within_sec:g} s: {_text(condition)}")
        time.sleep(POLL_SEC)
    return value


def _text(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
