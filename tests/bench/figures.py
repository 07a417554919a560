"""Records and rows for the benchmark's tests, with figures that nobody measured."""

from __future__ import annotations

from bench.results import Record, Row, Took


def took(sec: float, *, ended: bool = True) -> Took:
    return Took(sec, cpu_sec=0.5, peak_mib=70.0, requests=3, ended=ended)


def runs(*secs: float) -> list[Took]:
    return [took(sec) for sec in secs]


def row(family: str, measure: str = "", amount: int = 1000, **clients: list[Took]) -> Row:
    """By client; ``pass_through`` stands for the one with a dash."""
    named = {name.replace("_", "-"): some for name, some in clients.items()}
    return Row(family, amount, measure, named)


def record(
    client: str, sec: float | None, *, run: str = "a run", name: str = "a row", when_sec: float = 0
) -> Record:
    """One that was measured, or, without seconds, one that failed."""
    measured = None if sec is None else took(sec)
    error = "it broke" if sec is None else ""
    return Record(run, when_sec, 20.0, client, name, "create", 6400, "durable", measured, error)
