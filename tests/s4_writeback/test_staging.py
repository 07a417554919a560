"""Staged files: what is read back is what a plain file would hold; what changed is noticed."""

from __future__ import annotations

import errno
import json
import os
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.errors import Corrupt, NoSpace
from qarnotfs.store.base import ObjectInfo
from qarnotfs.writeback.debts import pack, unpack
from qarnotfs.writeback.journal import Journal
from qarnotfs.writeback.staging import Staged, Staging
from tests.s4_writeback.test_journal import put

BASE = bytes(range(40))
INFO = ObjectInfo("k", len(BASE), "e" * 32, 0)

writes = st.tuples(st.integers(0, 60), st.binary(max_size=20))
steps = st.lists(st.one_of(writes, st.integers(0, 60)), max_size=10)


async def read_base(info: ObjectInfo, offset: int, size: int) -> bytes:
    assert info == INFO
    assert offset + size <= len(BASE)
    return BASE[offset : offset + size]


def content(staged: Staged, start: int = 0, size: int = 200) -> bytes:
    return trio.run(staged.read, start, size, read_base)


def apply(staged: Staged, model: bytearray, step: tuple[int, bytes] | int) -> None:
    if isinstance(step, int):
        staged.truncate(step)
        model.extend(bytes(max(0, step - len(model))))
        del model[step:]
        return
    offset, data = step
    staged.write(offset, data)
    if data:
        model.extend(bytes(max(0, offset + len(data) - len(model))))
        model[offset : offset + len(data)] = data


@given(steps, steps, st.booleans(), st.integers(0, 70), st.integers(0, 70))
def test_reads_what_a_file_would_hold(
    first: list[tuple[int, bytes] | int],
    second: list[tuple[int, bytes] | int],
    based: bool,
    start: int,
    size: int,
) -> None:
    with TemporaryDirectory() as directory:
        staging = Staging(Path(directory))
        staged = staging.create(INFO if based else None)
        model = bytearray(BASE if based else b"")
        for step in first:
            apply(staged, model, step)
        assert content(staged) == bytes(model)
        seal = staged.seal()
        staged.verify(seal)
        twin = staging.clone(staged)
        again = staging.recover(staged.path.name, staged.base, seal)
        assert content(again) == bytes(model)
        for step in second:
            apply(twin, model, step)
        assert content(twin, start, size) == bytes(model)[start : start + size]
        twin.verify(twin.seal())
        staged.verify(seal)  # the clone's writes did not touch it
        staged.close()
        twin.close()


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(0, b"x" * 100)
    seal = staged.seal()
    with staged.path.open("r+b") as file:
        file.seek(50)
        file.write(b"y")
    with pytest.raises(Corrupt):
        staged.verify(seal)


def test_a_short_file_is_noticed(tmp_path: Path) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(10, b"x" * 100)
    seal = staged.seal()
    os.truncate(staged.path, 60)
    with pytest.raises(Corrupt):
        staged.verify(seal)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(0, b"x")
    seal = staged.seal()
    staged.close()
    staged.path.unlink()
    with pytest.raises(Corrupt):
        staged.verify(seal)


def test_what_cannot_be_read_now_is_sealed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(2, b"llo")
    staged.write(0, b"he")

    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", none_left)
        with pytest.raises(Corrupt, match="Too many open files"):
            staged.seal()
    assert not staged.sealed
    staged.verify(staged.seal())


def test_a_full_disk_is_said_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(0, b"kept")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace):
        staged.write(4, b"lost")
    monkeypatch.undo()
    assert content(staged) == b"kept"
    staged.verify(staged.seal())


@pytest.mark.parametrize("failing", ["open", "ftruncate"])
def test_a_truncation_that_fails_changes_nothing(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no descriptor for a staged file, or no room; the program is told."""
    staged = Staging(tmp_path).create(INFO)
    staged.write(10, b"kept")
    staged.close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(NoSpace):
        staged.truncate(5)
    monkeypatch.undo()
    assert content(staged) == BASE[:10] + b"kept" + BASE[14:]
    assert staged.draft().base_limit == len(BASE)


def test_the_last_pin_removes_the_file(tmp_path: Path) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(0, b"x")
    staged.pin()
    staged.unpin()
    assert staged.path.exists()
    staged.unpin()
    assert not staged.path.exists()


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_journal_that_names_no_checksum_has_zlibs(tmp_path: Path, spoilt: bool) -> None:
    """So the first ones did."""
    journal = Journal(tmp_path)
    debt = put(journal, "key", b"hello")
    assert debt.staged
    row = json.loads(pack(debt)[8:])
    assert row["seal"].pop("checksum") == "crc32c"
    row["seal"]["crc"] = zlib.crc32(b"hello")
    body = json.dumps(row)
    record = unpack(f"{zlib.crc32(body.encode()):08x}{body}")
    assert record.seal
    if spoilt:
        debt.staged.path.write_bytes(b"helLo")
        with pytest.raises(Corrupt):
            debt.staged.verify(record.seal)
        with pytest.raises(Corrupt):
            debt.staged.checked(record.seal)
    else:
        debt.staged.verify(record.seal)
        assert debt.staged.checked(record.seal) == b"hello"


@pytest.mark.parametrize("spoilt", [b"helLo", b"hell", None])
def test_a_small_file_is_compared_while_it_is_read(tmp_path: Path, spoilt: bytes | None) -> None:
    staged = Staging(tmp_path).create(None)
    staged.write(0, b"hello")
    seal = staged.seal()
    assert staged.small
    assert staged.checked(seal) == b"hello"
    staged.close()
    if spoilt is None:
        staged.path.unlink()
    else:
        staged.path.write_bytes(spoilt)
    with pytest.raises(Corrupt):
        staged.checked(seal)
