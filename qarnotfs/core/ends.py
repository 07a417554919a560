"""Deletions under the names of renames that were cut off: which are still wanted.

Used by `moving` in the life after, before any of them is carried out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

from qarnotfs.core.renaming import Renamer
from qarnotfs.errors import StoreError
from qarnotfs.index.listing import ancestors_of
from qarnotfs.store.base import Condition
from qarnotfs.writeback.debts import Kind
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.records import MoveRow

LOOKS_MAX = 16  # at once


async def look_at_ends(files: Renamer, journal: Journal, rows: Sequence[MoveRow]) -> None:
    """Drop what is not wanted, and owe what is missing; the first error is raised at the end.

    What was to be deleted under a new name, and above, is not, if the bytes have gone from the old
    one: the rename was over, and a full disk did not let the deletion go. And what was removed from
    a directory while that was renamed is not to come back as a copy. Nor is what a file was renamed
    over to replace that, even where the last writer wins: that its bytes are not wanted any more
    may be what the disk did not take.
    """
    for row in rows:
        debt = journal.latest(row.new_key)
        if row.replaced_etag is not None and debt and debt.kind is Kind.PUT and not debt.beside:
            journal.sends_beside(debt, journal.beside(debt.key, time.time()))
    limiter, failures, ends = trio.CapacityLimiter(LOOKS_MAX), list[StoreError](), journal.overlay

    async def look(row: MoveRow) -> None:
        source = await files.current(row.key)
        if ends.get(row.key) is False:
            there = await files.current(row.new_key)
            is_copy = bool(source and there and there.same_version(source))
            if there and is_copy and journal.latest(row.new_key) is None:
                journal.moves.over.add(row.key)  # at the same moment
                files.owe_delete(row.new_key, Condition(etag=there.etag), certain=True)
        elif source is None or row.etag not in (None, source.etag):
            for key in (row.new_key, *ancestors_of(row.new_key)):
                if ends.get(key) is False:
                    journal.drop(key)

    async def look_in_turn(row: MoveRow) -> None:
        async with limiter:
            try:
                await look(row)
            except StoreError as error:
                failures.append(error)

    async with trio.open_nursery() as nursery:
        for row in rows:
            is_removed = ends.get(row.key) is False and row.replaced_etag is None
            if is_removed or (ends.get(row.new_key) is False and not files.is_owed(row.key)):
                nursery.start_soon(look_in_turn, row)
    if failures:
        raise failures[0]
