"""How a batch of deletions is carried out, and which are not.

Used by `uploader`. A server that ignores conditions on a DELETE removes whatever has the
name. A deletion that is sent at once means what the program saw; one that comes late, after
an outage or by the next mount, may meet a version that somebody else stored meanwhile. So a
late one looks first, and spares what nobody here has seen; so does one of a name that was free
but for something of ours that may have arrived there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from qarnotfs.bridge import Bridge
from qarnotfs.errors import NoSuchKey, StoreError
from qarnotfs.index.index import Index
from qarnotfs.store.base import UNCONDITIONAL, ObjectInfo, Store
from qarnotfs.writeback.debts import ANY, Debt

log = logging.getLogger(__name__)

LATE_SEC = 10.0  # after the program's call; less is a queue, and to look would double its requests
LOOKS_MAX = 16  # at once


@dataclass(slots=True)
class Deleted:
    """What became of a batch, by key: neither here nor there means deleted."""

    failed: dict[str, Exception] = field(default_factory=dict)
    spared: dict[str, ObjectInfo] = field(default_factory=dict)

    def tell(self, index: Index, debts: Sequence[Debt]) -> None:
        """What is believed from now on about the keys of those that did not fail."""
        with index.at_once():
            for debt in debts:
                if debt.key in self.spared:
                    log.warning("%s was replaced elsewhere and is not deleted", debt.key)
                    index.remember(self.spared[debt.key])
                else:
                    index.remember_missing(debt.key)


async def delete(store: Store, bridge: Bridge, batch: list[Debt], long_ago_sec: float) -> Deleted:
    """Delete the keys of these debts, but for versions that are not ours to delete.

    ``long_ago_sec``: what was to be paid before this time of trio's clock is late.
    """
    done = Deleted()
    late = [
        debt
        for debt in batch
        if debt.attempts or debt.not_before_sec < long_ago_sec or debt.expected.absent
    ]
    await _look(store, bridge, [debt for debt in late if _is_known(debt)], done)
    keys = [debt.key for debt in batch if debt.key not in done.failed | done.spared]
    if keys:
        try:
            done.failed |= await bridge.call(store.delete, keys)
        except StoreError as error:
            done.failed |= dict.fromkeys(keys, error)
    return done


def _is_known(debt: Debt) -> bool:
    """Whether we can tell our versions of the key from others'."""
    return debt.expected != UNCONDITIONAL and ANY not in debt.perhaps


async def _look(store: Store, bridge: Bridge, late: list[Debt], done: Deleted) -> None:
    limiter = trio.CapacityLimiter(LOOKS_MAX)

    async def look(debt: Debt) -> None:
        try:
            async with limiter:
                found = await bridge.wait(store.head(debt.key))
        except NoSuchKey:
            return
        except StoreError as error:
            done.failed[debt.key] = error
        else:
            if found.etag not in (debt.expected.etag, *debt.perhaps):
                done.spared[debt.key] = found

    async with trio.open_nursery() as nursery:
        for debt in late:
            nursery.start_soon(look, debt)
