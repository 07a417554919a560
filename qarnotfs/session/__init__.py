"""One mount: builds the house, opens the kernel's door, and closes it without losing a byte.

Used by `cli`. `build` puts every room together; `run_mount` is a mount's whole life: check,
mount, serve, unmount, drain. Nothing here decides what a file system call means.

    options   what can be chosen            kernel   mounting and unmounting
    house     the rooms, connected          report   what a mount says of itself
    life      serve, drain, end             warm     a cache filled without a mount
    supervisor                              what systemd is told
"""

from qarnotfs.session.house import House, build
from qarnotfs.session.life import run_mount
from qarnotfs.session.options import MountOptions
from qarnotfs.session.warm import unpin, warm

__all__ = ["House", "MountOptions", "build", "run_mount", "unpin", "warm"]
