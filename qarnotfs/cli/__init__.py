"""The command line: ``qarnotfs mount | umount | flush | status | check | run`` for mounts, and
``ls | get | put | sync | cp | rm | mb | rb | cat`` for buckets without mounting them.

Turns argv, environment and JSON into a `Bucket` and `MountOptions`, and whatever goes
wrong into one sentence and an exit code. It holds no state and does no file system work.

Exit codes: 0 done, 1 it failed or something is left to upload, 2 wrong usage; ``run`` has
its own (see there).

    entry                            the group of commands; errors -> exit codes
    sections  account                options: how they look in help; server, account and view

    mount  umount  status  run       one command each (``flush`` is in umount)
    withfuse  nofuse  places  child  the buckets of ``run``, mounted or copied; its command
    mounthelper                      ``mount.qarnotfs``, for mount(8)
    daemon                           starting the mount process, and being it
    drain  progress                  watching it upload what it owes
    request  options  units          what was asked for, in which words
    mountpoint                       directories: free, in use, left dead

    ls  get  put  sync  cp  rm       one command each (``cat`` is in get)
    buckets                          ``mb`` and ``rb``
    target                           BUCKET:KEY or a local path
    listing                          what a view of a bucket shows
    outcome                          what was done, said to people or programs
"""

from __future__ import annotations

from qarnotfs.cli.entry import main

__all__ = ["main"]
