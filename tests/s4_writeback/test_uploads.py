"""The book of multipart uploads: what survives a crash, and what counts after a change."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.store.base import Attributes, Condition
from qarnotfs.writeback.adoption import adopt
from qarnotfs.writeback.budget import Budget
from qarnotfs.writeback.debts import Debt, pack
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.plan import PART_BYTES
from qarnotfs.writeback.records import PartRow
from qarnotfs.writeback.uploads import Upload

ABSENT = Condition(absent=True)
ETAG = "e" * 32


def opened(journal: Journal, key: str = "a") -> Debt:
    """A file of three parts that is being written, and whose upload was begun."""
    staged = journal.staging.create(None)
    staged.write(3 * PART_BYTES - 1, b"x")
    debt = journal.open(key, staged, Attributes(), ABSENT)
    upload = Upload(f"id-{key}", key, staged.path.name, PART_BYTES, None)
    journal.uploads.begin(upload)
    journal.take_upload(debt, upload)
    return debt


def send(journal: Journal, debt: Debt, *numbers: int) -> None:
    assert debt.upload is not None
    for number in numbers:
        debt.upload.arrived(number, ETAG, 0)
        journal.uploads.note_part(debt.upload, number, copied=False)


def close(journal: Journal, debt: Debt) -> None:
    assert debt.staged is not None
    journal.record(debt, debt.staged.seal())
    journal.release(debt, 0.0)


def strays(journal: Journal) -> list[str]:
    return [upload.id for upload in journal.uploads.strays()]


def test_the_parts_of_a_closed_file_are_known_after_a_crash(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = opened(journal)
    send(journal, debt, 1, 3)
    close(journal, debt)
    again = Journal(tmp_path)
    revived = again.latest("a")
    assert revived is not None
    assert revived.upload is not None
    assert revived.upload.id == "id-a"
    assert revived.upload.etags == {}  # not before they were compared with the bytes
    assert revived.upload.claims == {
        1: PartRow(1, ETAG, copied=False),
        3: PartRow(3, ETAG, copied=False),
    }
    assert strays(again) == []


def test_the_upload_of_a_file_that_was_not_closed_is_a_stray(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    send(journal, opened(journal), 1)
    again = Journal(tmp_path)
    assert strays(again) == ["id-a"]
    again.uploads.ended(again.uploads.strays()[0])
    assert strays(Journal(tmp_path)) == []


def test_a_stray_holds_up_its_key(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = opened(journal)
    close(journal, debt)
    moved = journal.move(debt, "b", ABSENT)
    deletion = journal.owe_delete("a", Condition())
    assert strays(journal) == ["id-a"]
    assert moved.upload is None
    assert journal.is_next(moved)
    assert deletion is not None
    assert not journal.is_next(deletion)
    journal.uploads.ended(journal.uploads.strays()[0])
    assert journal.is_next(deletion)


def test_what_was_completed_is_gone_with_its_debt(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    debt = opened(journal)
    close(journal, debt)
    journal.begin(debt)
    journal.paid(debt, None)
    assert strays(journal) == strays(Journal(tmp_path)) == []


def test_the_uploads_of_dead_mounts_are_adopted(tmp_path: Path) -> None:
    dead = Journal(tmp_path / "dead")
    debt = opened(dead, "a")
    send(dead, debt, 2)
    close(dead, debt)
    opened(dead, "b")
    dead.close()
    heir = Journal(tmp_path / "heir")
    adopt(heir, tmp_path / "dead")
    adopted = heir.latest("a")
    assert adopted is not None
    assert adopted.upload is not None
    assert adopted.upload.claims == {2: PartRow(2, ETAG, copied=False)}
    assert strays(heir) == ["id-b"]
    assert Journal(tmp_path / "dead").uploads.strays() == []


def test_a_journal_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It kept the upload in the record of its debt, and no parts."""
    journal = Journal(tmp_path)
    debt = opened(journal)
    close(journal, debt)
    journal.uploads.ended(debt.upload or pytest.fail("no upload"))
    text = old_record(pack(debt))
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("UPDATE debts SET record = ?", (text,))
        db.execute("DROP TABLE uploads")
        db.execute("DROP TABLE parts")
    db.close()
    again = Journal(tmp_path)
    revived = again.latest("a")
    assert revived is not None
    assert revived.upload is None
    assert strays(again) == ["old-id"]


def old_record(text: str) -> str:
    raw = json.loads(text[8:])
    for new in ("error", "perhaps"):
        del raw[new]
    body = json.dumps({**raw, "upload": ["a", "old-id"]}, sort_keys=True)
    return f"{zlib.crc32(body.encode()):08x}{body}"


# --- one upload ---------------------------------------------------------------------------------

CELL = 10
events = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("land"), st.integers(1, 6)),
        st.tuples(st.just("change"), st.integers(0, 70), st.integers(0, 30)),
    ),
    max_size=30,
)


@given(events)
def test_a_part_counts_while_its_bytes_are_those_that_were_sent(
    steps: list[tuple[str, int] | tuple[str, int, int]],
) -> None:
    upload = Upload("id", "a", "staged", CELL, None)
    content = [0] * 100  # of each byte, the step that wrote it
    flying: dict[int, list[int]] = {}
    arrived: dict[int, list[int]] = {}

    def cell(number: int) -> list[int]:
        return content[(number - 1) * CELL : number * CELL]

    for time, (what, number, *size) in enumerate(steps, 1):
        if what == "send" and number not in flying:
            upload.take_off(number)
            flying[number] = cell(number)
        elif what == "land" and number in flying:
            arrived[number] = flying.pop(number)
            if not upload.is_spoilt(number):
                upload.arrived(number, ETAG, CELL)
            upload.land(number)
        elif what == "change":
            end = number + size[0]
            content[number:end] = [time] * len(content[number:end])
            upload.changed(number, end)
        right = {n for n, sent in arrived.items() if sent == cell(n) and n not in flying}
        assert right <= upload.etags.keys()
        assert all(arrived[n] == cell(n) for n in upload.etags)
        assert upload.sent_bytes == CELL * len(upload.etags)


# --- bytes in flight ----------------------------------------------------------------------------


def test_a_budget_is_kept_in_order_and_never_blocks_what_is_too_large() -> None:
    async def main() -> None:
        budget, order = Budget(10), list[int]()
        go_on = trio.Event()

        async def take(size: int) -> None:
            async with budget.taken(size):
                order.append(size)
                await go_on.wait()

        async with trio.open_nursery() as nursery:
            for size in (6, 5, 99, 4):
                nursery.start_soon(take, size)
                await trio.testing.wait_all_tasks_blocked()
            assert order == [6]
            assert not budget.try_take(1)  # others wait
            go_on.set()
        assert order == [6, 5, 99, 4]
        assert budget.try_take(10)

    trio.run(main)


def test_who_stops_waiting_for_bytes_leaves_none_taken() -> None:
    async def main() -> None:
        budget = Budget(10)
        assert budget.try_take(10)
        with trio.move_on_after(0):
            await budget.take(5)
        budget.give(10)
        assert budget.try_take(10)

    trio.run(main)


def test_an_upload_is_taken_over_before_its_debt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who dies in between leaves none that nobody aborts."""
    dead, heir = Journal(tmp_path / "dead"), Journal(tmp_path / "heir")
    send(dead, debt := opened(dead), 1)
    close(dead, debt)
    dead.close()
    with monkeypatch.context() as patch:
        patch.setattr(heir, "_remember", None)  # what comes after the debts are on disk
        with pytest.raises(TypeError):
            adopt(heir, tmp_path / "dead")
    heir.close()
    heir = Journal(tmp_path / "heir")
    adopt(heir, tmp_path / "dead")
    (adopted,) = heir.all()
    assert adopted.upload is not None
    assert strays(heir) == []
