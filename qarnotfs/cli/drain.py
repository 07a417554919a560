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
from qarnotfs.cli.sections import Option, section_of
from qarnotfs.cli.units import duration
from qarnotfs.errors import NoDaemon, QarnotfsError
from qarnotfs.figures import bytes_text, files_text

POLL_SEC = 0.2
UPLOADS_HELP = (
    "Upload for at most this long; what is left stays on this machine, with exit code 1."
    " [default: as long as it takes]"
)
END_SEC = 30.0  # from a daemon's last words to its end: closing files


def timeout_option(help_text: str) -> Option:
    """``--timeout TIME``, in seconds or ``None``."""
    return section_of("Writing")("--timeout", type=duration, metavar="TIME", help=help_text)


class Drain:
    """One mount on its way out. Raises `NoDaemon` when no process serves ``mountpoint``.

    The connection is held from before the unmount, so that the process's last words are
    heard however soon it ends.
    """

    def __init__(self, mountpoint: Path) -> None:
        self._socket = control.socket_path(mountpoint)
        self._talk = control.Conversation(self._socket)
        self._status = self._talk.ask("status")

    def __enter__(self) -> Drain:
        return self

    def __exit__(self, *exc: object) -> None:
        self._talk.__exit__(*exc)

    def unmount(self, *, force: bool, timeout_sec: float | None = None) -> None:
        """Take the mount away; `QarnotfsError` with ``EBUSY`` when it is in use.

        After ``timeout_sec`` the mount process ends, with what is not uploaded in its journal.
        """
        try:
            self._talk.ask("umount", force=force, within_sec=timeout_sec)
        except NoDaemon:
            if self._talk.final is None:
                raise

    def hurry(self) -> None:
        """End it now, also from a signal handler that interrupts `watch`."""
        with contextlib.suppress(QarnotfsError):
            control.request(self._socket, "umount", force=True, within_sec=0.0)

    def watch(self) -> dict[str, Any]:
        """Wait for the end of the process and return its last status.

        Raises `QarnotfsError` when something is left to upload.
        """
        with display(f"Uploading to {self._status['bucket']}") as picture:
            final = self._last_words(picture)
            picture.show(final)
        self._talk.wait_process(END_SEC)
        check_arrived(final)
        return final

    def _last_words(self, picture: Display) -> dict[str, Any]:
        try:
            while self._talk.final is None:
                self._status = self._talk.ask("status")
                picture.show(self._status)
                with contextlib.suppress(TimeoutError):
                    self._talk.receive(POLL_SEC)  # nothing is due but the end
        except NoDaemon as error:
            if self._talk.final is None:
                raise QarnotfsError(
                    f"The mount process died with {files_text(self._status['pending_files'])}"
                    f" to upload. {_kept(self._status)}"
                ) from error
        return self._talk.final or self._status


def wait_for_uploads(mountpoint: Path, timeout_sec: float | None) -> None:
    """Watch until everything written so far is in the bucket, while the mount goes on.

    Raises `QarnotfsError` when the bucket refused something, or after ``timeout_sec``.
    """
    path = control.socket_path(mountpoint)
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    with control.Conversation(path) as waiting, control.Conversation(path) as asking:
        status = asking.ask("status")
        waiting.send("flush")
        with display(f"Uploading to {status['bucket']}") as picture:
            while (done := _answer(waiting)) is None:
                status = asking.ask("status")
                picture.show(status)
                if deadline is not None and time.monotonic() > deadline:
                    raise QarnotfsError(
                        f"Not uploaded yet: {files_text(status['pending_files'])}. It goes on in"
                        f" the background (process {status['pid']}); 'qarnotfs status' shows it."
                    )
    if any(error["failed"] for error in done["errors"]):
        check_arrived(done)


def check_arrived(status: dict[str, Any]) -> None:
    """Raise unless everything is in the bucket."""
    left: int = status["pending_files"]
    refused = [f"\n  {error['path']}: {error['message']}" for error in status["errors"]]
    if left or refused:
        raise QarnotfsError(
            f"{files_text(left)} ({bytes_text(status['pending_bytes'])}) could not be uploaded"
            f" to '{status['bucket']}'. {_kept(status)}{''.join(refused)}"
        )


def _kept(status: dict[str, Any]) -> str:
    return (
        f"What is left is kept in {status['cache_dir']}, and the next mount of the bucket with"
        " this cache directory uploads it."
    )


def _answer(waiting: control.Conversation) -> dict[str, Any] | None:
    try:
        return waiting.receive(POLL_SEC)
    except TimeoutError:
        return None
