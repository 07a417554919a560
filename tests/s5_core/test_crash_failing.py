"""The first step of a life fails, then the second, and so on to its last: once each.

The program is told, or its bytes arrive; when it tries again it succeeds. The mount lives,
and everything that was accepted before arrives. A traceback in the log is a defect.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from qarnotfs import bridge
from qarnotfs.errors import QarnotfsError, Refused, Unavailable
from qarnotfs.store.memory import MemoryStore
from qarnotfs.writeback import plan
from tests.s5_core.acts import ENDING, LIVES, MULTIPART, STORED, Act, Files
from tests.s5_core.house import World, entered
from tests.s5_core.lives import LIFE_SEC_MAX, Left, a_bucket, files_of, next_life, stored
from tests.s5_core.steps import Step, Steps

TRIES_MAX = 3
pytestmark = pytest.mark.timeout(600)  # hundreds of lives, on a machine with other work

STEPS_MIN = 20  # fewer: they are not seen


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(plan, "BACKOFF_SEC_MAX", 0.01)
    monkeypatch.setattr(bridge, "REPEAT_SEC", 0.01)


def full(step: Step) -> None:
    """The disk is full; the network drops a request, or its answer."""
    if step.where == "file":
        raise OSError(errno.ENOSPC, "No space left on device")
    if step.where == "sql":
        raise sqlite3.OperationalError("database or disk is full")
    raise Unavailable("The connection was reset.")


def broken(step: Step) -> None:
    """The disk cannot be written; the server refuses a request."""
    if step.where == "file":
        raise OSError(errno.EIO, "Input/output error")
    if step.where == "sql":
        raise sqlite3.OperationalError("disk I/O error")
    if step.where == "request":
        raise Refused("No.")
    raise Unavailable("The connection was reset.")


TROUBLES = {"full": full, "broken": broken}


async def attempt(world: World, act: Act, after: Files) -> str:
    """Play an act until it succeeds; what the program was told, if it never does."""
    heard = ""
    for _ in range(TRIES_MAX):
        try:
            await act.play(world)
        except (QarnotfsError, OSError) as error:
            heard = f"{type(error).__name__}: {error}"
        else:
            return ""
    if files_of(await world.tree()) == after:
        return ""  # it was carried out, though the program was told otherwise
    return heard


async def life(world: World, acts: Sequence[Act], steps: Steps) -> tuple[Left, list[str]]:
    """Every act on a world where one step fails; what must be left, and what is wrong."""
    left, wrong = Left(STORED, STORED), []
    for act in acts:
        left = Left.of([act], 1, 0, left.after)
        if heard := await attempt(world, act, left.after):
            wrong += [f"never succeeds: {heard}"] if act.whole else []
            break
        left = Left(left.after, left.after)
    await world.drain()
    steps.choose(0)  # looking is not a part of it
    return left, [*wrong, *left.wrong(files_of(await world.tree()))]


def live(
    store: MemoryStore, directory: Path, acts: Sequence[Act], steps: Steps, number: int
) -> tuple[Left, list[str]]:
    """One life, whose step ``number`` fails."""

    async def play() -> tuple[Left, list[str]]:
        with trio.fail_after(LIFE_SEC_MAX):
            async with entered(store, directory) as world:
                steps.choose(number)
                return await life(world, acts, steps)

    with steps.watching(store):
        return trio.run(play)


def fail_everywhere(
    troubles: Sequence[Callable[[Step], None]],
    tmp_path: Path,
    acts: Sequence[Act],
    caplog: pytest.LogCaptureFixture,
) -> int:
    """Live as often as there are steps, each time with another one failing; how many.

    The ``troubles`` take turns.
    """
    number, wrong = 0, []
    while True:
        number += 1
        caplog.clear()
        store, directory = a_bucket(STORED), tmp_path / str(number)
        steps = Steps(troubles[number % len(troubles)])
        left, found = live(store, directory, acts, steps, number)
        if steps.met is None:
            break
        # It asks: a belief that could not be stored is one that others changed meanwhile.
        sequel = next_life(store, directory, cache_ttl_sec=0)
        found += [f"not paid: {debt}" for debt in sequel.owed]
        found += [f"defect: {record.getMessage()}" for record in caplog.records if record.exc_info]
        found += left.wrong(stored(store))
        wrong += [f"step {number}, {steps.met}: {complaint}" for complaint in found]
    assert not wrong, "\n".join(["", *wrong])
    return number


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", LIVES)
def test_failing_at_every_step(
    name: str, trouble: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    acts = [act for act in LIVES[name] if act is not ENDING]
    assert fail_everywhere([TROUBLES[trouble]], tmp_path, acts, caplog) > STEPS_MIN


def test_failing_at_every_step_of_a_multipart_upload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By turns, as these lives take time: steps of one kind follow each other."""
    assert fail_everywhere([*TROUBLES.values()], tmp_path, MULTIPART, caplog) > STEPS_MIN
