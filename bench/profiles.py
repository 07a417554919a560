"""What `bench.profiled` found, as a table: whose the processor time of our mount is.

Nothing here measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

KERNEL, MAIN = "kernel", "main"
LEAST_SHARE = 0.03  # what is less is not named


class Profile(NamedTuple):
    """One row. Seconds of processor time by kind of thread, (outside, inside the kernel).

    ``samples``: of the main thread with the GIL, by our package or the library it was in.
    """

    when_sec: float
    rtt_ms: float
    row: str
    amount: int
    threads: dict[str, tuple[float, float]]
    samples: dict[str, int]


def save(path: Path, profiles: Sequence[Profile]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(one._asdict()) + "\n" for one in profiles)


def load(path: Path) -> list[Profile]:
    """The last one of each row, in the order in which rows were first profiled."""
    if not path.exists():
        return []
    found = (Profile(**json.loads(line)) for line in path.read_text().splitlines())
    return list({(one.rtt_ms, one.row): one for one in found}.values())


def shares(one: Profile) -> dict[str, float]:
    """Of all its processor time, the largest first; threads that are not the main one by kind."""
    total_sec = sum(sum(spent) for spent in one.threads.values())
    if not total_sec:
        return {}
    found = {KERNEL: sum(system for _, system in one.threads.values()) / total_sec}
    count = sum(one.samples.values())
    for name, (user_sec, _) in one.threads.items():
        if name != MAIN or not count:
            found[f"{name} threads"] = user_sec / total_sec
            continue
        for whose, seen in one.samples.items():
            found[whose] = user_sec / total_sec * seen / count
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def table(profiles: Sequence[Profile]) -> Iterator[str]:
    """A line for each row."""
    yield "| row | ms | CPU, ms a file, key or MiB | of which |"
    yield "| --- | ---: | ---: | --- |"
    for one in sorted(profiles, key=lambda each: each.rtt_ms):
        each_ms = sum(sum(spent) for spent in one.threads.values()) / one.amount * 1000
        named = {name: part for name, part in shares(one).items() if part >= LEAST_SHARE}
        told = ", ".join(f"{name} {part:.0%}" for name, part in named.items())
        yield f"| {one.row} | {one.rtt_ms:g} | {each_ms:.2f} | {told} |"
