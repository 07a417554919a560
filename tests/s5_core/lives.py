"""Lives that are killed at a chosen step, and what must be left of them.

A life is a list of acts, lived in a process of its own that is killed at any `Step`; the
store and the directory outlive it. `Left` is what may be found afterwards.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sqlite3
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from qarnotfs.errors import NoSuchEntry
from qarnotfs.store.memory import MemoryStore
from tests.s5_core.acts import Act, Files
from tests.s5_core.house import World, bucket, entered, put
from tests.s5_core.steps import Step, Steps

LIFE_SEC_MAX = 30.0  # a life takes milliseconds; this is for one that hangs


@dataclass(frozen=True)
class Left:
    """What a life must have left: ``before`` and ``after`` the act that it did not end."""

    before: Files
    after: Files

    @classmethod
    def of(cls, acts: Sequence[Act], begun: int, done: int, files: Files) -> Left:
        states = [dict(files)]
        for act in acts[:begun]:
            states.append(dict(states[-1]))
            act.means(states[-1])
        return cls(states[done], states[begun])

    def wrong(self, found: Files) -> Iterator[str]:
        """What is lost, invented or half, in words. Contents must differ from file to file."""
        for path in sorted({*self.before, *self.after, *found}):
            allowed = {self.before.get(path), self.after.get(path)}
            if found.get(path) not in allowed:
                yield f"{path!r} is {_text(found.get(path))}, not {[_text(a) for a in allowed]}"
        kept = set(self.before.values()) & set(self.after.values())
        for content in kept - set(found.values()):
            yield f"{_text(content)} is under no name"


def _text(content: bytes | None) -> str:
    return "nothing" if content is None else f"{content[:20]!r}({len(content)})"


@dataclass(frozen=True)
class Death:
    """How a life ended: ``step`` is what it died at, ``None`` when it came to its end."""

    step: str | None
    begun: int
    done: int


def live(
    store: MemoryStore, directory: Path, acts: Sequence[Act], number: int, **options: Any
) -> Death:
    """Play ``acts`` in a process that is killed at step ``number``, and take over its store."""
    diary, estate = directory / "diary", directory / "estate"
    diary.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        _live_and_die(store, directory, acts, number, options)
    ended = _ending(pid)
    assert ended in (0, -signal.SIGKILL), (directory / "trouble").read_text()
    step = _take_over(store, estate)
    events = diary.stat().st_size
    return Death(step if ended else None, (events + 1) // 2, events // 2)


def _ending(pid: int) -> int:
    """The exit code of a life, negative for a signal; one that hangs is ended."""
    end = os.pidfd_open(pid)
    has_ended, _, _ = select.select([end], [], [], LIFE_SEC_MAX)
    os.close(end)
    if not has_ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert has_ended, "it hangs"
    return os.waitstatus_to_exitcode(status)


def _live_and_die(
    store: MemoryStore,
    directory: Path,
    acts: Sequence[Act],
    number: int,
    options: dict[str, Any],
) -> None:
    """The whole life of the child; it never returns into the test."""
    diary = os.open(directory / "diary", os.O_WRONLY | os.O_APPEND)
    estate = os.open(directory / "estate", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def die(step: Step | None) -> None:
        with store._lock:  # what was answered is in it, and nobody is answered any more
            name = f"{step.where} {step.name}" if step else ""
            things = (store._objects, store._uploads, store._upload_count, name)
            os.write(estate, pickle.dumps(things))
            if step:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)

    async def life() -> None:
        with trio.fail_after(LIFE_SEC_MAX):
            async with entered(store, directory, **options) as world:
                for act in acts:
                    os.write(diary, b"(")
                    await act.play(world)
                    os.write(diary, b")")
                die(None)

    try:
        with Steps(die).watching(store) as steps:
            steps.choose(number)
            trio.run(life)
    except BaseException:
        (directory / "trouble").write_text(traceback.format_exc())
    os._exit(1)


def _take_over(store: MemoryStore, estate: Path) -> str:
    things = pickle.loads(estate.read_bytes())
    store._objects, store._uploads, store._upload_count, name = things
    return str(name)


def unrecorded_uploads(store: MemoryStore, directory: Path) -> set[str]:
    """The uploads in the store that no journal knows of."""
    known = ""
    for path in directory.glob("cache/*/journals/*/journal.db"):
        with sqlite3.connect(path) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                known += repr(db.execute(f"SELECT * FROM {table}").fetchall())
        db.close()
    return {upload_id for upload_id in store._uploads if repr(upload_id)[1:-1] not in known}


def a_bucket(files: Files) -> MemoryStore:
    """A store that holds just these."""
    store = MemoryStore()
    for key, data in files.items():
        put(store, key, data)
    return store


async def shown_by(world: World, path: str = "") -> Files:
    """Every file below a directory. A name that is listed and not there is none: deletions
    are paid meanwhile, and a listing believed from before may name what the last life moved.
    """
    found: Files = {}
    for name in await world.names(path):
        child = f"{path}/{name}" if path else name
        with suppress(NoSuchEntry):
            if (await world.inode(child)).is_directory:
                found |= await shown_by(world, child)
            else:
                found[child] = await world.read(child)
    return found


def files_of(found: dict[str, bytes | None]) -> Files:
    """Without directories."""
    return {path: data for path, data in found.items() if data is not None}


def stored(store: MemoryStore) -> Files:
    """The files of a bucket, without the markers of directories."""
    return {key: data for key, data in bucket(store).items() if not key.endswith("/")}


@dataclass(frozen=True)
class Sequel:
    """What the next life found when it began, and what is on disk when all is paid."""

    shown: Files
    staged: list[str]
    set_aside: list[bytes]
    findings: list[str]
    owed: list[str]  # what could not be paid, and why


def next_life(store: MemoryStore, directory: Path, **options: Any) -> Sequel:
    """Mount again, look, drain, and end as by kill -9."""

    async def life() -> Sequel:
        with trio.fail_after(LIFE_SEC_MAX):
            async with entered(store, directory, **options) as world:
                shown = await shown_by(world)
                await world.drain()
                journal = world.house.journal
                owed = [f"{debt.kind.value} {debt.key}: {debt.error}" for debt in journal.all()]
                places = journal.directory.parent
                staged = [path.name for path in places.glob("*/staged/*")]
                aside = [path.read_bytes() for path in places.glob("*/quarantine/*")]
                return Sequel(shown, staged, aside, list(journal.findings), owed)

    return trio.run(life)
