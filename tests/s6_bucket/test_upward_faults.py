"""Local files into a bucket: what a failure, or a change in the middle, must never cost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qarnotfs.bucket import SyncFailed, SyncReport, crowd, transfer, upward
from qarnotfs.bucket.local import reading
from qarnotfs.errors import Refused
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import MemoryStore
from qarnotfs.syncplan import MIB, PART_BYTES
from tests.s6_bucket.stores import held, put, tree, up, write


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transfer, crowd):
        monkeypatch.setattr(module, "backoff_sec", lambda attempts, chance: 0.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def refusing(store: MemoryStore, *methods: str) -> None:
    store.faults = lambda method, key: Refused("no") if method in methods else None


def once(store: MemoryStore, method: str, act: Callable[[], object]) -> None:
    """Do ``act`` in the middle of the next call of ``method``."""

    def faults(called: str, _key: str) -> None:
        if called == method:
            store.faults = lambda method, key: None
            act()

    store.faults = faults


def failed(store: MemoryStore, root: Path) -> SyncReport:
    with pytest.raises(SyncFailed) as caught:
        up(store, root)
    return caught.value.report


# --- what only the bucket has --------------------------------------------------------------


def test_a_source_whose_copy_was_lost_is_not_deleted(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"old": b"content", "other": b"x"})
    root = write(tmp_path, new=b"content")
    refusing(store, "put", "copy_object")
    report = failed(store, root)
    assert (list(report.failed), report.deleted) == (["new"], ("other",))
    assert report.skipped == {"old": "it is kept, for 'new' could not be made of it"}
    assert held(store) == {"old": b"content"}
    store.faults = lambda method, key: None
    assert up(store, root).deleted == ("old",)
    assert held(store) == tree(root)


def test_nothing_is_copied_from_what_was_not_uploaded(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"a": b"olda", "b": b"oldb"})
    refusing(store, "put")
    assert set(failed(store, write(tmp_path, a=b"newnew", b=b"newnew")).failed) == {"a", "b"}
    assert held(store) == {"a": b"olda", "b": b"oldb"}


def test_the_key_slash_is_a_key_like_others(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"/": b"1", "y": b"2", "/a/": b""})
    assert up(store, tmp_path).deleted == ("/", "/a/", "y")
    put(store, {"/": b"", "/y": b"2", "//": b"3"})
    assert up(store, tmp_path, "/").deleted == ("//", "/y")  # the directory itself stays


# --- copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
def test_a_copy_has_what_an_upload_would_have(
    store: MemoryStore, tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a file would become a link on a mount, and a page would be shown as its source."""
    if large:
        monkeypatch.setattr(upward, "PART_BYTES_MAX", 0)
    odd: dict[str, tuple[bytes, Attributes]] = {
        "a.txt": (b"<p>", Attributes({}, "text/plain")),
        "d/": (b"", Attributes({"mode": str(0o040755)}, "application/x-directory")),
        "link": (b"hello", Attributes({"mode": str(0o120777)})),
    }
    for key, (body, attributes) in odd.items():
        store.put(key, body, attributes).result()
    (tmp_path / "d").mkdir()
    write(tmp_path, **{"page.html": b"<p>"}, empty=b"", file=b"hello", new=b"n", twin=b"n")
    assert up(store, tmp_path, delete=False).copied == ("empty", "file", "page.html", "twin")
    infos = {key: store.head(key).result() for key in tree(tmp_path)}
    assert [info.metadata for info in infos.values()] == [{}] * 5
    types = {key: info.content_type for key, info in infos.items()}
    assert types == dict.fromkeys(types, "binary/octet-stream") | {"page.html": "text/html"}


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_goes_while_it_is_copied_is_one_failure(
    store: MemoryStore, tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(upward, "PART_BYTES_MAX", 0)
    put(store, {"old": b"same"})
    root = write(tmp_path, new=b"same", other=b"1")

    def change() -> None:
        store.put("old", b"diff", Attributes()).result()
        (root / "new").unlink()

    once(store, "copy" if large else "copy_object", change)
    assert failed(store, root).failed == {"new": "No such file or directory."}
    assert held(store)["other"] == b"1"


# --- a tree that changes -----------------------------------------------------------------------


def test_a_file_that_goes_while_its_directory_is_read(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, a=b"1", b=b"2")
    scandir = os.scandir

    class Entries:
        def __init__(self, path: str) -> None:
            self._entries = scandir(path)

        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Iterator[Any]:
            for entry in self._entries:
                (root / "a").unlink(missing_ok=True)
                yield entry

    monkeypatch.setattr(os, "scandir", Entries)
    assert up(store, root).uploaded == ("b",)


@pytest.mark.parametrize("size", [1, PART_BYTES])
def test_what_becomes_a_link_is_not_followed(store: MemoryStore, tmp_path: Path, size: int) -> None:
    secret = write(tmp_path / "secret", b=b"s" * size)
    root = write(tmp_path / "t", a=b"1" * size, d__b=b"2" * size)

    def swap() -> None:
        (root / "a").unlink()
        (root / "a").symlink_to(secret / "b")
        (root / "d").rename(tmp_path / "moved")
        (root / "d").symlink_to(secret)

    once(store, "list_page", swap)
    assert set(failed(store, root).failed) == {"a", "d/b"}
    assert held(store) == {}


def test_what_is_looked_at_is_read_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, d__a=b"1")
    with reading(str(tmp_path), "d/a") as file:
        assert (file.name, file.read()) == (str(tmp_path / "d/a"), b"1")
    with pytest.raises(FileNotFoundError):
        reading(str(tmp_path), "none/a")
    assert not (tmp_path / "none").exists()


# --- pipes without an end ------------------------------------------------------------------


def test_the_parts_of_a_pipe_grow_before_they_are_too_many() -> None:
    sizes = [transfer.grown(PART_BYTES, number) for number in range(1, 10_001)]
    assert set(sizes[:4999]) == {PART_BYTES}
    assert sizes == sorted(sizes)
    assert sum(sizes) > 500 << 30
    assert max(sizes) <= 512 * MIB


def test_only_those_of_a_pipe(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "grown", lambda size, number: 2 * size)
    data = os.urandom(3 * PART_BYTES)
    (tmp_path / "file").write_bytes(data)
    with subprocess.Popen(["cat", tmp_path / "file"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        transfer.upload(store, cat.stdout, "pipe", lambda *_: None)
    with (tmp_path / "file").open("rb") as file:
        transfer.upload(store, file, "file", lambda *_: None)
    assert held(store) == {"pipe": data, "file": data}
    counts = [store.head(key).result().etag.partition("-")[2] for key in ("pipe", "file")]
    assert counts == ["2", "3"]
