"""Local files into a bucket: what is asked of the store, and what happens when it fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qarnotfs.bucket import SyncFailed, crowd, transfer, upward
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.sources import Sources
from qarnotfs.errors import (
    CredentialsExpired,
    NoSuchBucket,
    NoSuchKey,
    Refused,
    Unavailable,
)
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import Faults, MemoryStore
from qarnotfs.syncplan import PART_BYTES
from tests.s6_bucket.stores import asked, held, put, tree, up, write


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transfer, crowd):
        monkeypatch.setattr(module, "backoff_sec", lambda attempts, chance: 0.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def only(*methods: str, key: str = "", error: Exception | None = None) -> Faults:
    """A fault of some methods, of one key or all."""
    failure = error or Unavailable("busy")
    return lambda method, at: failure if method in methods and key in ("", at) else None


# --- what it costs ----------------------------------------------------------------------


def test_each_run_asks_for_what_differs(store: MemoryStore, tmp_path: Path) -> None:
    root = write(tmp_path / "t", **{f"d__f{n:04}": b"%d" % n for n in range(1200)})
    assert up(store, root).bytes_moved == sum(map(len, tree(root).values()))
    assert asked(store) == {"list_page": 1, "put": 1200}
    assert len(up(store, root).unchanged) == 1200
    assert asked(store) == {"list_page": 2}
    write(root, d__f0007="é".encode())
    report = up(store, root)
    assert (report.uploaded, report.bytes_moved) == (("d/f0007",), 2)
    assert asked(store) == {"list_page": 2, "put": 1}
    (root / "d").rename(root / "e")
    report = up(store, root)
    assert (len(report.copied), len(report.deleted), report.bytes_moved) == (1200, 1200, 0)
    assert asked(store) == {"list_page": 2, "copy_object": 1200, "delete": 2}
    assert held(store) == tree(root)


def test_identical_files_are_uploaded_once(store: MemoryStore, tmp_path: Path) -> None:
    large = os.urandom(PART_BYTES)
    root = write(tmp_path, a=b"same", b=b"same", c__d=b"same", large=large, larger=large)
    report = up(store, root)
    assert (len(report.uploaded), len(report.copied)) == (2, 3)
    assert held(store) == tree(root)
    assert len(up(store, root).unchanged) == 5


def test_a_swap_and_a_rotation(store: MemoryStore, tmp_path: Path) -> None:
    root = write(tmp_path, a=b"1", b=b"2", l1=b"x", l2=b"y", l3=b"z")
    up(store, root)
    write(root, a=b"2", b=b"1", l1=b"new", l2=b"x", l3=b"y")
    report = up(store, root)
    assert held(store) == tree(root)
    assert {"l2", "l3"} <= set(report.copied)
    assert len(report.uploaded) == 2


def test_what_another_tool_cut_differently_is_not_sent_again(
    store: MemoryStore, tmp_path: Path
) -> None:
    data = os.urandom(20 << 20)
    for key, part in (("five", 5 << 20), ("sixteen", 16 << 20)):
        upload_id = store.create_upload(key, Attributes())
        parts = [data[at : at + part] for at in range(0, len(data), part)]
        etags = [
            store.upload_part(key, upload_id, number, body).result()
            for number, body in enumerate(parts, 1)
        ]
        store.complete_upload(key, upload_id, etags)
    put(store, {"whole": data})
    root = write(tmp_path, five=data, sixteen=data, whole=data)
    assert len(up(store, root).unchanged) == 3
    assert asked(store) == {"list_page": 1}


files = st.dictionaries(
    st.sampled_from(["a", "ab/x", "a/x", "b/c/d", "b/c/e", "b/f"]).filter(lambda name: name != "a"),
    st.sampled_from([b"", b"1", b"2", b"3", b"long"]),
    max_size=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files, files, st.sampled_from(["", "a/", "b/"]))
def test_any_two_trees_become_equal(
    tmp_path_factory: pytest.TempPathFactory,
    local: dict[str, bytes],
    remote: dict[str, bytes],
    base: str,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    write(root, **{name.replace("/", "__"): data for name, data in local.items()})
    store = MemoryStore()
    put(store, remote)
    up(store, root, base)
    kept = {key: data for key, data in remote.items() if not key.startswith(base)}
    assert held(store) == kept | {base + name: data for name, data in local.items()}
    asked(store)
    up(store, root, base)
    assert asked(store) == {"list_page": 1}


# --- what it leaves alone -----------------------------------------------------------------


def test_a_directory_is_no_prefix(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"a/old": b"1", "ab/x": b"2", "a": b"3"})
    assert up(store, write(tmp_path, new=b"4"), "a/").deleted == ("a/old",)
    assert held(store) == {"a/new": b"4", "ab/x": b"2", "a": b"3"}


def test_nothing_is_deleted_unless_asked(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"other": b"1"})
    up(store, write(tmp_path, new=b"2"), delete=False)
    assert held(store) == {"other": b"1", "new": b"2"}


def test_a_dry_run_only_tells(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"b": b"b", "z": b"z"})
    root = write(tmp_path, a=b"a", c=b"b", d=b"d", e=b"d")
    told = up(store, root, dry_run=True)
    assert asked(store) == {"list_page": 1}
    done = up(store, root)
    assert told == done
    assert (told.uploaded, told.copied, told.deleted) == (("a", "d"), ("c", "e"), ("b", "z"))


def test_links_are_skipped_and_what_they_may_stand_for_is_kept(
    store: MemoryStore, tmp_path: Path
) -> None:
    root = write(tmp_path / "t", a=b"1")
    (root / "link").symlink_to(tmp_path)
    (root / "dir").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    put(store, {"link": b"target", "dir/x": b"2", "dirx": b"3"})
    report = up(store, root)
    assert held(store) == {"a": b"1", "link": b"target", "dir/x": b"2"}
    assert set(report.skipped) == {"link", "dir", "pipe"}


def test_markers_of_directories_that_exist_are_kept(store: MemoryStore, tmp_path: Path) -> None:
    root = write(tmp_path, d__x=b"1")
    (root / "empty").mkdir()
    put(store, {"base/": b"", "base/d/": b"", "base/empty/": b"", "base/gone/": b""})
    assert up(store, root, "base/").deleted == ("base/gone/",)


def test_a_directory_that_cannot_be_read_is_not_taken_for_empty(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, d__x=b"1", e=b"2")
    put(store, {"d/x": b"1", "d/deep/y": b"3"})
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("/d"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SyncFailed, match="'d': Permission denied") as caught:
        up(store, root)
    assert held(store) == {"d/x": b"1", "d/deep/y": b"3", "e": b"2"}
    assert list(caught.value.report.failed) == ["d"]


def test_a_name_that_is_no_text_is_a_failure_by_name(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff")).write_bytes(b"1")
    with pytest.raises(SyncFailed, match="not UTF-8") as caught:
        up(store, write(tmp_path, b=b"2"))
    assert list(caught.value.report.failed) == ["a\\xff"]
    assert held(store) == {"b": b"2"}


def test_files_that_are_named_may_be_links_and_must_exist(
    store: MemoryStore, tmp_path: Path
) -> None:
    write(tmp_path, a=b"1")
    (tmp_path / "link").symlink_to("a")
    put(store, {"gone": b"kept"})
    paths = {"l": "link", "gone": "none", "d": "."}
    named = {key: str(tmp_path / path) for key, path in paths.items()}
    with pytest.raises(SyncFailed) as caught:
        upward.sync(store, Sources.of_files(named, ""), Manner(delete=True))
    assert set(caught.value.report.failed) == {"gone", "d"}
    assert held(store) == {"l": b"1", "gone": b"kept"}


# --- when something fails -----------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("busy"), Refused("no")])
@pytest.mark.parametrize("method", ["put", "upload_part", "create_upload", "complete_upload"])
def test_one_upload_fails_and_the_rest_is_done(
    store: MemoryStore, tmp_path: Path, method: str, error: Exception
) -> None:
    root = write(
        tmp_path, a=b"1", b=b"2", large=bytes(PART_BYTES), **{"large.bin": b"x" * 9 * 2**20}
    )
    put(store, {"old": b"3"})
    key = "a" if method == "put" else "large"
    store.faults = only(method, key=key, error=error)
    with pytest.raises(SyncFailed) as caught:
        up(store, root)
    report = caught.value.report
    assert report.failed == {key: str(error)}
    assert str(caught.value).startswith("1 could not be synchronised, run it again: ")
    assert report.to_json()["failed"] == {key: str(error)}
    assert held(store) == {name: data for name, data in tree(root).items() if name != key}
    store.faults = lambda method, key: None
    assert up(store, root).uploaded == (key,)
    assert held(store) == tree(root)


def test_a_copy_that_fails_is_uploaded_instead(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"old": b"same"})
    store.faults = only("copy_object", error=NoSuchKey("gone"))
    report = up(store, write(tmp_path, new=b"same"))
    assert (report.uploaded, report.copied) == (("new",), ())
    assert held(store) == {"new": b"same"}


def test_a_source_replaced_before_it_is_copied(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"old": b"same"})

    def replaced(method: str, key: str) -> Exception | None:
        if method == "copy_object":
            store.faults = lambda method, key: None
            store.put("old", b"other", Attributes()).result()
        return None

    store.faults = replaced
    assert up(store, write(tmp_path, new=b"same")).uploaded == ("new",)
    assert held(store) == {"new": b"same"}


def test_copies_of_what_was_not_uploaded_are_uploaded(store: MemoryStore, tmp_path: Path) -> None:
    root = write(tmp_path, a=b"same", b=b"same", c=b"same")
    store.faults = only("put", key="a")
    with pytest.raises(SyncFailed) as caught:
        up(store, root)
    assert (list(caught.value.report.failed), held(store)) == (["a"], {"b": b"same", "c": b"same"})


def test_a_deletion_that_fails(store: MemoryStore, tmp_path: Path) -> None:
    put(store, {"a": b"1", "b": b"2"})
    store.faults = only("delete_key", key="a", error=Refused("no"))
    with pytest.raises(SyncFailed) as caught:
        up(store, tmp_path)
    assert (caught.value.report.deleted, caught.value.report.failed) == (("b",), {"a": "no"})


def test_what_is_busy_for_a_moment_is_asked_again(store: MemoryStore, tmp_path: Path) -> None:
    failed: set[tuple[str, str]] = set()

    def once(method: str, key: str) -> Exception | None:
        if (method, key) in failed:
            return None
        failed.add((method, key))
        return Unavailable("busy")

    root = write(tmp_path, a=b"1", b=b"1", c=bytes(9 << 20))
    put(store, {"old": b"2"})
    store.faults = once
    up(store, root)
    assert held(store) == tree(root)


def test_when_the_store_is_gone_it_is_not_asked_for_each_file(
    store: MemoryStore, tmp_path: Path
) -> None:
    root = write(tmp_path, **{f"f{n}": b"%d" % n for n in range(300)})
    write(tmp_path, **{f"large{n}": bytes([n]) * PART_BYTES for n in range(6)})
    put(store, {f"old{n}": b"old" for n in range(10)})
    store.faults = only("put", "create_upload", "delete")
    with pytest.raises(SyncFailed) as caught:
        up(store, root)
    assert len(caught.value.report.failed) == 316
    assert set(caught.value.report.failed.values()) == {"busy"}
    counts = asked(store)
    assert counts.keys() == {"list_page", "put"}
    assert counts["put"] <= (crowd.IN_FLIGHT_MAX + crowd.OUTAGE_FAILURES) * transfer.TRIES


def test_large_files_too_are_given_up(store: MemoryStore, tmp_path: Path) -> None:
    write(tmp_path, **{f"large{n}": bytes([n]) * PART_BYTES for n in range(20)})
    store.faults = only("create_upload")
    with pytest.raises(SyncFailed) as caught:
        up(store, tmp_path)
    assert len(caught.value.report.failed) == 20
    most = upward.LARGE_AT_ONCE + crowd.OUTAGE_FAILURES
    assert asked(store)["create_upload"] <= most * transfer.TRIES


@pytest.mark.parametrize("error", [NoSuchBucket("gone"), CredentialsExpired("log in")])
def test_what_every_file_will_meet_is_raised_as_it_is(
    store: MemoryStore, tmp_path: Path, error: Exception
) -> None:
    store.faults = only("put", "create_upload", error=error)
    for root in (write(tmp_path / "a", x=b"1"), write(tmp_path / "b", x=bytes(PART_BYTES))):
        with pytest.raises(type(error)):
            up(store, root)


@pytest.mark.parametrize("size", [10, PART_BYTES, 3 * PART_BYTES])
def test_a_file_that_changes_while_it_is_read_is_a_failure(
    store: MemoryStore, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, a=bytes(size), b=b"1")
    state_of = transfer.state_of

    def written_after(file: IO[bytes]) -> tuple[int, int] | None:
        state = state_of(file)
        if file.name == str(root / "a"):
            os.utime(root / "a", ns=(1, 1 + (state or (0, 0))[1]))
        return state

    monkeypatch.setattr(transfer, "state_of", written_after)
    with pytest.raises(SyncFailed, match="'a': It changed while it was read"):
        up(store, root)
    assert held(store) == {"b": b"1"}
    counts = asked(store)
    assert counts.get("create_upload") == counts.get("abort_upload")


def test_a_file_that_goes_before_it_is_read(store: MemoryStore, tmp_path: Path) -> None:
    root = write(tmp_path, a=b"1", b=b"22", c=bytes(PART_BYTES))

    def vanish(method: str, key: str) -> Exception | None:
        if method == "list_page":
            (root / "a").unlink()
            (root / "c").unlink()
        return None

    store.faults = vanish
    with pytest.raises(SyncFailed, match="No such file") as caught:
        up(store, root)
    assert list(caught.value.report.failed) == ["a", "c"]
    assert held(store) == {"b": b"22"}
