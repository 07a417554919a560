"""The daemon's side of a control socket.

Used by `session` through `control.serve`. It knows no command: what one does is its
handler's business. A handler that fails, or a client that misbehaves, never ends it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from qarnotfs.control.client import PEER, Conversation
from qarnotfs.errors import NoDaemon, QarnotfsError, UsageError

if TYPE_CHECKING:
    from qarnotfs.control import Handler

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 1 << 16  # a command is a few words; more is not a client of ours
BACKLOG = 16
REFUSED_SEC = 1.0  # between two tries to take a client for whom there is no descriptor
LAST_WORDS_SEC = 2.0  # what a client that does not read may cost an ending daemon


async def serve(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] | None = None,
) -> None:
    """Answer commands on the socket ``path`` until cancelled, then remove it.

    When cancelled, everyone connected is sent one last ``status``: its handler must still
    work then. Raises `UsageError` when another daemon serves this path.
    ``path`` comes from `socket_path`; its mountpoint is noted by `announce`.
    """
    with _listening(path) as listener:
        if task_status is not None:
            task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError as error:  # too many open files: who asks has to wait
                    log.error("Nobody can ask this mount now: %s", error.strerror)
                    await trio.sleep(REFUSED_SEC)
                else:
                    nursery.start_soon(_converse, trio.SocketStream(connection), handlers)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[trio.socket.SocketType]:
    """A listening socket on ``path``, in place of the one a dead daemon may have left.

    It gets its name when it listens already: a client that found nobody behind a name
    would take it for a dead daemon's and remove it.
    """
    _refuse_company(path)
    newborn = path.with_suffix(f".{os.getpid()}")
    newborn.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.bind(os.fspath(newborn))
        newborn.chmod(0o600)
        inode = newborn.stat().st_ino
        plain.listen(BACKLOG)
        newborn.rename(path)
        plain.setblocking(False)
        try:
            yield trio.socket.from_stdlib_socket(plain)
        finally:
            _remove(path, inode)


def _refuse_company(path: Path) -> None:
    with contextlib.suppress(NoDaemon), Conversation(path):
        raise UsageError("Another mount process still serves this mountpoint.")


def _remove(path: Path, inode: int) -> None:
    """Remove our own socket; never the one of a successor."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


async def _converse(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    """One client, from its first command to its last."""
    async with stream:
        try:
            if not _may_ask(stream.socket):
                await _say(stream, _refusal("Only its owner and root may ask a mount."))
                return
            lines = _Lines(stream)
            while (line := await lines.next()) is not None:
                await _say(stream, await _answer(line, handlers))
        except trio.BrokenResourceError:
            return  # it hung up
        except trio.Cancelled:
            await _last_words(stream, handlers)
            raise
        except Exception:
            log.exception("A client of the control socket is given up")


def _may_ask(connection: trio.socket.SocketType) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    _, uid, _ = PEER.unpack(raw)
    return uid in {0, os.getuid()}


class _Lines:
    """What a client sends, cut into lines."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unread = b""

    async def next(self) -> bytes | None:
        """The next line; ``None`` when there is none, or none that could be a command."""
        while b"\n" not in self._unread:
            data = await self._stream.receive_some()
            self._unread += data
            if not data or len(self._unread) > LINE_BYTES_MAX:
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        return line


async def _say(stream: trio.SocketStream, message: Mapping[str, object]) -> None:
    """Send a whole line: half of one would spoil the last words behind it."""
    with trio.move_on_after(LAST_WORDS_SEC, shield=True):
        await stream.send_all(json.dumps(message).encode() + b"\n")


async def _last_words(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    if "status" not in handlers:
        return
    try:
        with trio.move_on_after(LAST_WORDS_SEC, shield=True):
            await _say(stream, {"final": await handlers["status"]({})})
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # it did not wait for them
    except Exception:
        log.exception("The last status failed")


async def _answer(line: bytes, handlers: Mapping[str, Handler]) -> dict[str, object]:
    try:
        message = json.loads(line)
        handler, args = handlers[message["command"]], message.get("args", {})
    except (ValueError, KeyError, TypeError, RecursionError):
        return _refusal("This mount process does not know that command; versions may differ.")
    try:
        return {"ok": await handler(args)}
    except QarnotfsError as error:
        return _refusal(str(error), error.errno, error.exit_code)
    except Exception:
        log.exception("The command %s failed", message["command"])
        return _refusal("The mount process failed to carry this out; its log says why.")


def _refusal(message: str, number: int = errno.EIO, exit_code: int = 1) -> dict[str, object]:
    return {"error": {"message": message, "errno": number, "exit_code": exit_code}}
