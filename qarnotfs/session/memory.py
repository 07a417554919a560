"""What parts of files leave behind: memory for the next ones, which the system gets back later.

Used by `life`. A part is MiB large and lives for a moment. To take new pages for each costs the
kernel a tenth of all that a large file costs us, and far more in a virtual machine whose host has
to find them first. See "Malloc Tunable Parameters" in the manual of the GNU C library; elsewhere
nothing is done.
"""

from __future__ import annotations

import ctypes
import time
from contextlib import suppress

import trio

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
SETTINGS = {
    M_ARENA_MAX: 1,  # else each thread keeps some
    M_MMAP_THRESHOLD: 32 << 20,  # the most it takes: above, pages come and go with what is in them
    M_TRIM_THRESHOLD: 256 << 20,
}
LOOK_SEC = 5.0
QUIET_SHARE = 0.05  # of a processor


def reuse_parts() -> None:
    """Keep what is freed, for what is needed next. To be called before there are threads."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in SETTINGS.items():
            mallopt(name, value)


async def give_back_when_quiet() -> None:
    """Each time that little was done for a while after much was, what is free goes back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    was_busy, spent_sec = False, time.process_time()
    while trim is not None:
        await trio.sleep(LOOK_SEC)
        before_sec, spent_sec = spent_sec, time.process_time()
        is_busy = spent_sec - before_sec > QUIET_SHARE * LOOK_SEC
        if was_busy and not is_busy:
            await trio.to_thread.run_sync(trim, 0)
        was_busy = is_busy
