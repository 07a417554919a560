"""Beliefs on disk: what is in the file, and what becomes of one that does not work."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from qarnotfs.index import beliefs, database
from qarnotfs.index.index import Index
from qarnotfs.store.base import ObjectInfo
from qarnotfs.store.memory import MemoryStore
from tests.s3_index.asking import LONG_AGO_SEC, TTL_SEC, Clock, ask, put, requests


def test_a_broken_database_is_made_anew(
    store: MemoryStore, make: Callable[..., Index], tmp_path: Path
) -> None:
    (tmp_path / "beliefs.db").write_bytes(b"garbage" * 1000)
    put(store, "a")
    index = make()
    assert ask(lambda: index.info("a")).size == 1
    assert requests(store, lambda: make().info("a")) == 0


def test_a_busy_database_is_left_alone(
    store: MemoryStore,
    make: Callable[..., Index],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It belongs to other mounts, too; what this one finds out it forgets at its end."""
    monkeypatch.setattr(database, "OPEN_SEC", 0.05)
    put(store, "a")
    ask(lambda: make().info("a"))
    path = tmp_path / "beliefs.db"
    before = path.stat().st_ino
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        index = make()
        assert requests(store, lambda: index.info("a")) == 1
        assert requests(store, lambda: index.info("a")) == 0
        other.execute("ROLLBACK")
    assert "cannot be used" in caplog.text
    assert path.stat().st_ino == before
    assert requests(store, lambda: make().info("a")) == 0


def test_a_database_that_cannot_be_opened_is_done_without(
    store: MemoryStore, make: Callable[..., Index], tmp_path: Path
) -> None:
    (tmp_path / "beliefs.db").mkdir()
    put(store, "a")
    index = make()
    assert requests(store, lambda: index.info("a")) == 1
    assert requests(store, lambda: index.info("a")) == 0


def test_the_database_of_another_bucket_is_made_anew(
    store: MemoryStore,
    make: Callable[..., Index],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cache directory may be copied, or renamed by hand."""
    other = tmp_path / "other-bucket"
    other.mkdir()
    put(store, "a")
    index = make()
    ask(lambda: index.info("a"))
    index.close()
    shutil.copy(tmp_path / "beliefs.db", other)
    known = ObjectInfo("a", 1, "", 0)
    for _ in range(2):
        with closing(beliefs.Beliefs(other / "beliefs.db")) as db:
            assert db.object("a") is None
    with closing(beliefs.Beliefs(other / "beliefs.db")) as db:
        db.save_object("a", beliefs.Belief(known, 1.0))
    with closing(beliefs.Beliefs(other / "beliefs.db")) as db:
        assert db.object("a") is not None
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"of {tmp_path.name}, not other-bucket" in warning.getMessage()


@pytest.mark.parametrize("garbage", ['{"mo', "5", "[1]"])
def test_garbage_in_the_database_is_asked_for_anew(
    store: MemoryStore, make: Callable[..., Index], tmp_path: Path, garbage: str
) -> None:
    put(store, "d/a", mode="33188")
    first = make()
    ask(lambda: first.info("d/a"))
    found = ask(first.capabilities)
    first.close()
    with sqlite3.connect(tmp_path / "beliefs.db") as db:
        db.execute("UPDATE attributes SET metadata = ?", (garbage,))
        db.execute("UPDATE facts SET value = ? WHERE name = 'capabilities'", (garbage,))
    again = make()
    assert ask(lambda: again.info("d/a")).metadata == {"mode": "33188"}
    assert ask(again.capabilities) == found


def test_attributes_of_one_version_of_a_key_are_kept(
    store: MemoryStore, make: Callable[..., Index], tmp_path: Path
) -> None:
    index = make()
    for number in range(50):
        index.remember(ObjectInfo("a", number, f"{number:032}", number, {"mode": "33188"}))
    index.close()
    with closing(sqlite3.connect(tmp_path / "beliefs.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM attributes").fetchone() == (1,)


@pytest.mark.decision(8)
@pytest.mark.parametrize("remounted", [False, True])
def test_attributes_changed_in_the_second_they_were_seen_in(
    store: MemoryStore, clock: Clock, make: Callable[..., Index], remounted: bool
) -> None:
    """Neither etag nor LastModified tells: they are shown for the TTL and not for ever."""
    store.clock = clock
    put(store, "d/a", mode="33188")
    index = make()
    ask(lambda: index.info("d/a"))
    put(store, "d/a", mode="33152")
    clock.now_sec += TTL_SEC / 2
    ask(lambda: index.listing("d/"))
    if remounted:
        index.close()
        index = make()
    assert requests(store, lambda: index.info("d/a")) == 0
    clock.now_sec += TTL_SEC / 2  # the listing is believed still
    assert ask(lambda: index.info("d/a")).metadata == {"mode": "33152"}
    clock.now_sec += TTL_SEC
    ask(lambda: index.listing("d/"))
    assert requests(store, lambda: index.info("d/a")) == 0


def test_attributes_that_we_stored_need_no_question_after_the_ttl(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    store.clock = clock
    index = make()
    index.remember(put(store, "d/a", mode="33188"))
    clock.now_sec += TTL_SEC
    ask(lambda: index.listing("d/"))
    assert requests(store, lambda: index.info("d/a")) == 0


def test_another_mount_that_begins_leaves_ours_in_doubt(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """A copy is under way here; then we die, and nobody knows whether it was carried out."""
    first = make()
    ask(lambda: first.listing(""))
    with ExitStack() as stack:
        stack.enter_context(first.doubting("a"))
        make().close()
        ask(lambda: first.listing(""))
        stack.pop_all()
    put(store, "a")
    first.close()
    assert [name for name, _ in ask(lambda: make().listing(""))] == ["a"]


def test_another_mount_that_begins_leaves_a_listing_that_grows(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    for number in range(1500):
        put(store, f"d/{number:05}")
    first = make()
    listing = ask(lambda: first.begun("d/"))
    second = make()
    ask(lambda: first.grow(listing))
    assert listing.complete
    assert requests(store, lambda: second.listing("d/")) == 0
    assert ask(lambda: second.listing("d/")).count == 1500


def test_a_listing_that_nobody_finished_is_not_kept(
    store: MemoryStore, make: Callable[..., Index], tmp_path: Path
) -> None:
    for number in range(1500):
        put(store, f"d/{number:05}")
    other = make()
    for dies in (False, True):
        index = make()
        ask(partial(index.begun, "d/"))
        if not dies:
            index.close()
            assert pages(tmp_path) == 0
    assert pages(tmp_path) == 1
    other.close()
    index._disk._base.close()  # as its process ends
    make().close()
    assert pages(tmp_path) == 0


def pages(place: Path) -> int:
    with closing(sqlite3.connect(place / "beliefs.db")) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM pages").fetchone()
    return int(count)


def test_a_younger_belief_of_another_mount_stays(
    store: MemoryStore, clock: Clock, make: Callable[..., Index]
) -> None:
    """What was heard is written a moment later; meanwhile they may have stored the next version."""
    put(store, "a", b"old")
    first, second = make(), make()
    first._disk.delays = True
    ask(lambda: first.info("a"))
    clock.now_sec += 1
    second.remember(put(store, "a", b"newer"))
    first.close()
    second.close()
    assert ask(lambda: make().info("a")).size == len(b"newer")


def test_what_was_heard_is_known_before_it_is_written(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    put(store, "d/a", mode="33188")
    index = make()
    index._disk.delays = True
    ask(lambda: index.info("d/a"))
    index._objects.clear()
    assert requests(store, lambda: index.info("d/a")) == 0
    assert ask(lambda: index.info("d/a")).metadata == {"mode": "33188"}
    index.close()
    assert requests(store, lambda: make().info("d/a")) == 0


def test_a_copy_does_not_get_the_attributes_of_what_it_replaces(
    store: MemoryStore, make: Callable[..., Index]
) -> None:
    """Of the same bytes, in the same second: two empty files."""
    index = make()
    there = ObjectInfo("a", 0, "d" * 32, int(LONG_AGO_SEC), {"mode": "33261"})
    index.remember(there)
    index.remember(there.without_metadata())
    for one in (index, make()):
        belief = one.believed("a")
        assert belief is not None
        assert belief.info == there.without_metadata()
