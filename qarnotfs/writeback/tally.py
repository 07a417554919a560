"""What a mount has uploaded and what is on its way, in figures. Pure.

Made by `uploader`, read by whoever reports on a mount.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qarnotfs.writeback.debts import Debt, Kind, State


@dataclass(slots=True)
class Totals:
    """What was paid since the mount began, for `status`."""

    files: int = 0
    bytes: int = 0
    deletions: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file on its way, and how much of what was written in it has arrived."""

    key: str
    bytes_total: int
    bytes_sent: int


def transfers(debts: Iterable[Debt]) -> list[Transfer]:
    """Those of the debts that are on their way."""
    return [
        Transfer(debt.key, debt.dirty_bytes, debt.dirty_bytes - debt.unsent_bytes)
        for debt in debts
        if debt.kind is Kind.PUT and (debt.state is State.PAYING or debt.upload)
    ]
