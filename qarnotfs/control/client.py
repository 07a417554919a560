"""The client's side of a control socket: blocking, without an event loop.

Used by `cli`. It removes the socket of a daemon that died, and only when the mountpoint
is no longer mounted either; it never unmounts anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qarnotfs.control.mounttable import FSTYPE, mount_table
from qarnotfs.control.places import runtime_dir, socket_path
from qarnotfs.errors import NoDaemon, QarnotfsError

ANSWER_SEC = 30.0  # a busy daemon answers in milliseconds; a stopped one never does
SURVEY_SEC = 3.0  # to look at all of them, nobody waits that long for each
PEER = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Conversation:
    """One connection to a daemon. Raises `NoDaemon` when none listens, or it ended.

    ``final`` is the last status the daemon sent as it ended, once it has.
    """

    def __init__(self, path: Path) -> None:
        self.final: dict[str, Any] | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SEC)
        self._unread = b""
        try:
            self._socket.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError) as error:
            self._socket.close()
            raise NoDaemon(f"No mount process listens on {path}.") from error
        except OSError as error:
            self._socket.close()
            raise QarnotfsError(f"Cannot ask the mount process on {path}: {error}.") from error
        self._process = _process_of(self._socket)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()
        if self._process is not None:
            os.close(self._process)

    def wait_process(self, timeout_sec: float) -> None:
        """Wait until the daemon's process has ended: only then its files are closed."""
        if self._process is not None:
            select.select([self._process], [], [], timeout_sec)

    def ask(
        self, command: str, timeout_sec: float | None = ANSWER_SEC, **args: object
    ) -> dict[str, Any]:
        """Send ``command`` and return its answer; ``None`` waits as long as it takes."""
        self.send(command, **args)
        try:
            return self.receive(timeout_sec)
        except TimeoutError as error:
            raise QarnotfsError(
                f"The mount process did not answer '{command}' within {timeout_sec:g} s."
            ) from error

    def send(self, command: str, **args: object) -> None:
        line = json.dumps({"command": command, "args": args}) + "\n"
        # A daemon that is ending may have closed already; what it said last is still unread.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(line.encode())

    def receive(self, timeout_sec: float | None = ANSWER_SEC) -> dict[str, Any]:
        """The answer to what was sent. An error of the handler is raised as it was there.

        Raises `TimeoutError` when none came in time; the answer may still come.
        """
        self._socket.settimeout(timeout_sec)
        message = json.loads(self._line())
        if "error" in message:
            raise _rebuilt(message["error"])
        if "final" in message:
            self.final = message["final"]
            raise NoDaemon("The mount process has ended.")
        answer: dict[str, Any] = message["ok"]
        return answer

    def _line(self) -> bytes:
        while b"\n" not in self._unread:
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise NoDaemon("The mount process has ended.")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _process_of(connection: socket.socket) -> int | None:
    """A pidfd of who listens; ``None`` where it cannot be had (another pid namespace)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    pid: int = PEER.unpack(raw)[0]
    try:
        return os.pidfd_open(pid) if pid else None
    except OSError:
        return None


def _rebuilt(error: dict[str, Any]) -> QarnotfsError:
    rebuilt = QarnotfsError(error["message"])
    rebuilt.errno = error["errno"]
    rebuilt.exit_code = error["exit_code"]
    return rebuilt


def request(
    path: Path, command: str, timeout_sec: float | None = ANSWER_SEC, **args: object
) -> dict[str, Any]:
    """One question on a connection of its own. No answer in time is a `QarnotfsError`."""
    with Conversation(path) as talk:
        return talk.ask(command, timeout_sec, **args)


@dataclass(frozen=True, slots=True)
class MountState:
    """One mount of this user. ``status`` is ``None`` for one whose daemon does not answer:

    then ``listening`` tells a daemon that hangs from one that died, or is out of reach.
    """

    mountpoint: Path
    listening: bool
    status: dict[str, Any] | None


def survey() -> list[MountState]:
    """Every mount of this user, alive or dead, sorted by mountpoint.

    A daemon that drains after its unmount is one too; a socket that nobody listens on and
    whose mountpoint is no longer mounted is removed.
    """
    mounted = {
        socket_path(entry.mountpoint): entry.mountpoint
        for entry in mount_table()
        if entry.fstype == FSTYPE and entry.owner_uid == os.getuid()
    }
    sockets = set(runtime_dir().glob("*.sock")) | set(mounted)
    states = (_state(path, mounted.get(path)) for path in sockets)
    return sorted((s for s in states if s is not None), key=lambda state: state.mountpoint)


def live_mounts() -> list[Path]:
    """The mountpoints whose daemons answer."""
    return [state.mountpoint for state in survey() if state.status is not None]


def _state(path: Path, mountpoint: Path | None) -> MountState | None:
    try:
        status = request(path, "status", SURVEY_SEC)
    except NoDaemon:
        if mountpoint is None:
            path.unlink(missing_ok=True)
            return None
        return MountState(mountpoint, listening=False, status=None)
    except QarnotfsError:
        return MountState(mountpoint or path, listening=True, status=None)
    return MountState(Path(str(status["mountpoint"])), listening=True, status=status)
