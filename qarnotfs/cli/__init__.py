"""The command line: ``qarnotfs mount | umount | flush | status | run``.

Turns argv, environment and JSON into a `Bucket` and `MountOptions`, and whatever goes
wrong into one sentence and an exit code. It holds no state and does no file system work.

Exit codes: 0 done, 1 it failed or something is left to upload, 2 wrong usage; ``run`` has
its own (see there).

    entry                            the group of commands; errors -> exit codes
    mount  umount  status  run       one command each (``flush`` is in umount)
    child                            the command of ``run``, with our signals
    daemon                           starting the mount process, and being it
    drain  progress                  watching it upload what it owes
    request  options  units          what was asked for, in which words
    mountpoint                       directories: free, in use, left dead
"""

from __future__ import annotations

from qarnotfs.cli.entry import main

__all__ = ["main"]
