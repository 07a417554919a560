"""Watching a mount process upload what it owes: until it is done, or has ended.

Used by ``umount``, ``flush`` and ``run``. The process does not need to be watched: whoever
stops watching loses the picture, nothing else.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from qarnotfs import control
from qarnotfs.cli.progress import Display, display
from qarnotfs.cli.units import bytes_text, files_text
from qarnotfs.errors import NoDaemon, QarnotfsError

POLL_SEC = 0.2
KEPT = (
    "They are kept in the journal, and the next mount of the bucket with the same cache"
    " directory uploads them."
)
END_SEC = 30.0  # from a daemon's last words to its end: closing files


class Drain:
    """One mount on its way out. Raises `NoDaemon` when no process serves ``mountpoint``.

    The connection is held from before the unmount, so that the process's last words are
    heard however soon it ends.
    """

    def __init__(self, mountpoint: Path) -> None:
        self._talk = control.Conversation(control.socket_path(mountpoint))
        self._status = self._talk.ask("status")

    def __enter__(self) -> Drain:
        return self

    def __exit__(self, *exc: object) -> None:
        self._talk.__exit__(*exc)

    def unmount(self, *, force: bool) -> None:
        """Take the mount away; `QarnotfsError` with ``EBUSY`` when it is in use."""
        if self._status["state"] != "serving":
            return  # someone else has done it
        try:
            self._talk.ask("umount", force=force)
        except NoDaemon:
            if self._talk.final is None:
                raise

    def watch(self, timeout_sec: float | None = None) -> dict[str, Any]:
        """Wait for the end of the process and return its last status.

        Raises `QarnotfsError` when something is left to upload, or after ``timeout_sec``.
        """
        with display(f"Uploading to {self._status['bucket']}") as picture:
            final = self._last_words(picture, _deadline(timeout_sec))
            picture.show(final)
        self._talk.wait_process(END_SEC)
        check_arrived(final)
        return final

    def _last_words(self, picture: Display, deadline: float | None) -> dict[str, Any]:
        try:
            while self._talk.final is None:
                self._status = self._talk.ask("status")
                picture.show(self._status)
                _check_time(deadline, self._status)
                with contextlib.suppress(TimeoutError):
                    self._talk.receive(POLL_SEC)  # nothing is due but the end
        except NoDaemon as error:
            if self._talk.final is None:
                raise QarnotfsError(
                    f"The mount process died with {files_text(self._status['pending_files'])}"
                    f" to upload. {KEPT}"
                ) from error
        return self._talk.final or self._status


def wait_for_uploads(mountpoint: Path, timeout_sec: float | None) -> None:
    """Watch until everything written so far is in the bucket; the errors of `Drain.watch`."""
    path = control.socket_path(mountpoint)
    deadline = _deadline(timeout_sec)
    with control.Conversation(path) as waiting, control.Conversation(path) as asking:
        status = asking.ask("status")
        waiting.send("flush")
        with display(f"Uploading to {status['bucket']}") as picture:
            while not _answered(waiting):
                status = asking.ask("status")
                picture.show(status)
                _check_time(deadline, status)


def check_arrived(status: dict[str, Any]) -> None:
    """Raise unless everything is in the bucket."""
    left: int = status["pending_files"]
    refused = [f"\n  {error['path']}: {error['message']}" for error in status["errors"]]
    if left or refused:
        raise QarnotfsError(
            f"{files_text(left)} ({bytes_text(status['pending_bytes'])}) could not be uploaded"
            f" to '{status['bucket']}'. {KEPT}{''.join(refused)}"
        )


def _answered(waiting: control.Conversation) -> bool:
    try:
        waiting.receive(POLL_SEC)
    except TimeoutError:
        return False
    return True


def _deadline(timeout_sec: float | None) -> float | None:
    return None if timeout_sec is None else time.monotonic() + timeout_sec


def _check_time(deadline: float | None, status: dict[str, Any]) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise QarnotfsError(
            f"Not uploaded yet: {files_text(status['pending_files'])}. It goes on in the"
            f" background (process {status['pid']}); 'qarnotfs status' shows it."
        )
