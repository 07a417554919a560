"""What a mount says of itself: the figures of ``qarnotfs status``. It changes nothing.

Used by `life`. One flat dictionary of JSON values; ``qarnotfs status --json`` prints it as it is.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from typing import Any

from qarnotfs.session.house import House
from qarnotfs.session.pace import Pace
from qarnotfs.writeback.debts import State


def report(house: House, state: str, started_sec: float, pace: Pace) -> dict[str, Any]:
    """The status of a mount. Sizes in bytes, times in seconds since 1970."""
    totals, cache = house.uploader.totals, house.reader.stats()
    owed, refused = house.journal.bytes_owed, house.journal.bytes_failed
    return {
        "mountpoint": os.fspath(house.options.mountpoint),
        "bucket": house.bucket.uuid,
        "endpoint": house.bucket.endpoint,
        "view": house.bucket.to_json(),
        "pid": os.getpid(),
        "state": state,
        "started_sec": started_sec,
        "read_only": house.options.read_only,
        "debug": logging.getLogger("qarnotfs").isEnabledFor(logging.DEBUG),
        "pending_files": house.journal.count,
        "pending_bytes": owed,
        "refused_files": len(house.journal.failed),
        "refused_bytes": refused,
        "upload_bytes_per_sec": pace.bytes_per_sec(),
        "upload_eta_sec": pace.eta_sec(owed - refused),
        "transfers": _transfers(house),
        "uploaded_files": totals.files,
        "uploaded_bytes": totals.bytes,
        "deleted_files": totals.deletions,
        "conflicts": list(house.uploader.conflicts),
        "cache_dir": os.fspath(house.options.cache_dir),
        "cache_bytes": cache.bytes_used,
        "cache_bytes_max": house.options.cache_bytes_max,
        "cache": asdict(cache),
        "inodes": len(house.filesystem.lookup.inodes),
        "pins": [asdict(warmth) for warmth in house.warmths.values()],
        "unvalidated_since_sec": house.index.reach.unanswered_since_sec,
        "capabilities": asdict(house.capabilities[0]),
        "best_effort": _best_effort(house),
        "findings": list(house.journal.findings),
        "errors": _errors(house),
    }


def _best_effort(house: House) -> str | None:
    """What this server cannot promise about two writers, for a person."""
    able = house.capabilities[0]
    if house.options.read_only or (able.put_if_absent and able.put_if_match != "no"):
        return None
    return (
        "This server does not check conditions, so a look just before each upload stands in:"
        " two machines that upload a file in the same instant may overwrite each other."
    )


def _transfers(house: House) -> list[dict[str, Any]]:
    """Files on their way to the bucket now."""
    return [
        {
            "path": _path(house, transfer.key),
            "key": transfer.key,
            "bytes": transfer.bytes_total,
            "bytes_sent": transfer.bytes_sent,
        }
        for transfer in house.uploader.transfers()
    ]


def _path(house: House, key: str) -> str:
    """Where a key is seen below the mountpoint; the key itself if it is not."""
    return house.bucket.view.visible(key) or key


def _errors(house: House) -> list[dict[str, Any]]:
    """Debts that failed, or did the last time, each with where its bytes are."""
    return [
        {
            "path": _path(house, debt.key),
            "key": debt.key,
            "message": debt.error,
            "failed": debt.state is State.FAILED,
            "staged_file": os.fspath(debt.staged.path) if debt.staged else None,
            "staged_whole": debt.staged.whole if debt.staged else None,
        }
        for debt in house.journal.all()
        if debt.error
    ]
