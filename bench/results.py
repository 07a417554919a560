"""What was measured, as JSON lines that only grow: runs of parts of it add up to one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers import LIMITS

RETURNED, DURABLE = "returned", "durable"


class Took(NamedTuple):
    """One measurement, and what the client spent on it.

    ``ended``: false when it was stopped after ``wall_sec``, which is then the least it takes.
    ``cpu_sec`` and ``peak_mib`` are none of a client that was stopped; ``requests``, where
    the client still had to send some.
    """

    wall_sec: float
    cpu_sec: float | None = None
    peak_mib: float | None = None
    requests: int | None = None
    ended: bool = True


class Record(NamedTuple):
    """One row, by one client, once. Without ``took`` it failed, and ``error`` says how.

    ``run``: the name of its `Setting`. ``when_sec``: since 1970. ``family``, ``amount``: as in
    `bench.rows.Step`. ``measure``: returned, durable, or nothing where a row has only one.
    """

    run: str
    when_sec: float
    rtt_ms: float
    client: str
    row: str
    family: str
    amount: int
    measure: str
    took: Took | None
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.row}, {self.measure}" if self.measure else self.row


class Setting(NamedTuple):
    """One run of the benchmark: when, where and with what. ``load``: when it began."""

    run: str
    python: str
    processors: int
    load: float
    caches_dropped: bool
    patience: float
    repeat_sec: float
    versions: dict[str, str]
    options: list[str]


class Row(NamedTuple):
    """All measurements of one row at one distance, by client, in the order of the turns."""

    family: str
    amount: int
    measure: str
    clients: Mapping[str, Sequence[Took]]


# By the row's name.
Rows = dict[str, Row]


def append(path: Path, one: Record | Setting) -> None:
    """At once: what was measured stays, whatever happens to the run."""
    with path.open("a") as file:
        file.write(json.dumps({type(one).__name__.lower(): _plain(one)}) + "\n")


def _plain(one: Record | Setting) -> dict[str, Any]:
    fields = one._asdict()
    if isinstance(one, Record) and one.took:
        fields["took"] = one.took._asdict()
    return fields


def load(path: Path) -> tuple[list[Record], dict[str, Setting]]:
    """The records in their order, and the settings by the run's name."""
    records, settings = [], {}
    for line in path.read_text().splitlines():
        told = json.loads(line)
        if "setting" in told:
            setting = Setting(**told["setting"])
            settings[setting.run] = setting
        else:
            fields = told["record"]
            took = fields.pop("took")
            records.append(Record(took=Took(**took) if took else None, **fields))
    return records, settings


def latest(records: Iterable[Record]) -> list[Record]:
    """Of each row at each distance, one run only: ratios are of figures taken side by side.

    It is the one with the most clients, and of these the last: to try something with our
    mount alone does not forget the peers.
    """
    runs: dict[tuple[float, str], dict[str, list[Record]]] = {}
    for record in records:
        runs.setdefault((record.rtt_ms, record.row), {}).setdefault(record.run, []).append(record)
    return [record for row in runs.values() for record in max(row.values(), key=_worth)]


def _worth(run: list[Record]) -> tuple[int, float]:
    clients = {record.client for record in run} - set(LIMITS)
    return len(clients), max(record.when_sec for record in run)


def by_distance(records: Iterable[Record]) -> dict[float, Rows]:
    """By round trip in ms, the smallest first; rows in the order they were first measured."""
    found: dict[float, Rows] = {}
    for one in records:
        rows = found.setdefault(one.rtt_ms, {})
        row = rows.setdefault(one.name, Row(one.family, one.amount, one.measure, {}))
        runs = row.clients.get(one.client, [])
        assert isinstance(row.clients, dict)
        row.clients[one.client] = [*runs, one.took] if one.took else runs
    return dict(sorted(found.items()))
