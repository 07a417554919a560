"""The control socket: how a running mount is asked for its state, flushed and unmounted.

Each mount listens on a Unix socket that only its owner and root can use. `serve` is the
daemon's side (run by `session`); `Conversation`, `request` and `survey` are the client's
(used by `cli`). One line of JSON asks, one line answers:

    -> {"command": "umount", "args": {"force": false}}
    <- {"ok": {...}}      or    {"error": {"message": "...", "errno": 16, "exit_code": 1}}
    <- {"final": {...}}         the last status, sent to everyone connected as the daemon ends

This package decides nothing about a mount: what a command does is its handler's business.
The client's side does not load trio, so that ``qarnotfs status`` starts at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qarnotfs.control.client import Conversation, MountState, live_mounts, request, survey
from qarnotfs.control.mounttable import FSTYPE, MountEntry, mount_entry, mount_table
from qarnotfs.control.places import (
    canonical,
    is_roots,
    make_private,
    refuse_strangers,
    runtime_dir,
    socket_path,
)

if TYPE_CHECKING:
    import trio

__all__ = [
    "FSTYPE",
    "Conversation",
    "Handler",
    "MountEntry",
    "MountState",
    "canonical",
    "is_roots",
    "live_mounts",
    "make_private",
    "mount_entry",
    "mount_table",
    "refuse_strangers",
    "request",
    "runtime_dir",
    "serve",
    "socket_path",
    "survey",
]

Handler = Callable[[dict[str, object]], Awaitable[dict[str, object]]]


async def serve(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] | None = None,
) -> None:
    """Answer commands on the socket ``path`` until cancelled; see `server.serve`."""
    from qarnotfs.control import server

    await server.serve(path, handlers, task_status=task_status)
