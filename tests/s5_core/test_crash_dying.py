"""A mount is killed at its first step, at its second, and so on to its last; then mounted again.

What was acknowledged is there, nothing half is in the bucket, nothing that was deleted comes
back, and what is left over is gone or was set aside and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from qarnotfs.store.memory import MemoryStore
from tests.s5_core.acts import DRAIN, LIVES, MULTIPART, STORED, Act, Files, patch, rename, write
from tests.s5_core.house import NEVER_SEC, entered
from tests.s5_core.lives import (
    Left,
    a_bucket,
    live,
    next_life,
    stored,
    unrecorded_uploads,
)

pytestmark = pytest.mark.timeout(600)  # hundreds of lives, on a machine with other work

STEPS_MIN = 20  # fewer: they are not seen

Prepare = Callable[[MemoryStore, Path], None]


def die_everywhere(
    tmp_path: Path,
    acts: Sequence[Act],
    files: Files,
    prepare: Prepare = lambda store, directory: None,
    **options: float | int,
) -> int:
    """Kill a life at each of its steps, each time in a new world; how many there were."""
    number, wrong = 0, []
    while True:
        number += 1
        store, directory = a_bucket(STORED), tmp_path / str(number)
        directory.mkdir()
        prepare(store, directory)
        death = live(store, directory, acts, number, **options)
        at = f"step {number}, {death.step}, in act {death.begun}: "
        left = Left.of(acts, death.begun, death.done, files)
        wrong += [at + complaint for complaint in complaints(store, directory, left)]
        if death.step is None:
            break
    assert not wrong, "\n".join(["", *wrong])
    return number


def complaints(store: MemoryStore, directory: Path, left: Left) -> list[str]:
    """Live once more, and look at what there is."""
    ownerless = unrecorded_uploads(store, directory)
    sequel = next_life(store, directory)
    found = [*left.wrong(sequel.shown), *left.wrong(stored(store))]
    if leftover := set(store._uploads) - ownerless:
        found.append(f"uploads are left over: {leftover}")
    found += [f"not paid: {debt}" for debt in sequel.owed]
    if sequel.staged:
        found.append(f"staged files are left over: {sequel.staged}")
    if sequel.set_aside and not sequel.findings:
        found.append(f"set aside without a word: {sequel.set_aside}")
    return found


WHEN_DRAINED = ("rewriting", "renaming")  # where it matters what waits; the others cost time


@pytest.mark.parametrize(
    ("life", "delay_sec"),
    [*((life, 0.0) for life in LIVES), *((life, NEVER_SEC) for life in WHEN_DRAINED)],
)
def test_dying_at_every_step(life: str, delay_sec: float, tmp_path: Path) -> None:
    count = die_everywhere(tmp_path, LIVES[life], STORED, upload_delay_sec=delay_sec)
    assert count > STEPS_MIN


def test_dying_at_every_step_of_a_multipart_upload(tmp_path: Path) -> None:
    assert die_everywhere(tmp_path, MULTIPART, STORED) > STEPS_MIN


def test_dying_at_every_step_of_an_adoption(tmp_path: Path) -> None:
    """Two mounts die; the next one takes over what both owed, and dies of it, at each step."""
    first = [write("one", b"1"), rename("old", "renamed"), write("gone", b"changed")]
    second = [write("two", b"2"), rename("two", "three"), patch("dir/a", 3, b"A")]

    def prepare(store: MemoryStore, directory: Path) -> None:
        async def lives() -> None:
            async with (
                entered(store, directory, upload_delay_sec=NEVER_SEC) as one,
                entered(store, directory, upload_delay_sec=NEVER_SEC) as two,
            ):
                for act in first:
                    await act.play(one)
                for act in second:
                    await act.play(two)

        trio.run(lives)

    files = Left.of([*first, *second], 6, 6, STORED).after
    assert die_everywhere(tmp_path, [DRAIN], files, prepare) > STEPS_MIN
