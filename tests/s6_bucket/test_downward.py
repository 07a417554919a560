"""A bucket into a local directory: what is asked, what is kept out, and what happens on failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qarnotfs.bucket import SyncFailed, SyncReport, crowd, downward, transfer
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.report import Tally
from qarnotfs.errors import MissingFile, Refused, Unavailable
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import MemoryStore
from qarnotfs.syncplan import PART_BYTES
from tests.s6_bucket.stores import asked, down, held, put, tree, up, write

ODD = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "a//b",
    "d/../../x",
    "x" * 256,
    "/",
    "//",
    "e/",
]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transfer, crowd):
        monkeypatch.setattr(module, "backoff_sec", lambda attempts, chance: 0.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "box" / "out"


# --- what it costs ----------------------------------------------------------------------


def test_only_what_differs_is_fetched(store: MemoryStore, out: Path) -> None:
    put(
        store,
        {f"d/f{n}": b"%d" % n for n in range(300)} | {"empty": b"", "d/large": b"x" * 9 * 2**20},
    )
    report = down(store, out)
    assert tree(out) == held(store)
    assert (len(report.downloaded), report.bytes_moved) == (302, sum(map(len, tree(out).values())))
    assert asked(store) == {"list_page": 1, "get": 302}  # two for the large one, none for nothing
    assert len(down(store, out).unchanged) == 302
    assert asked(store) == {"list_page": 1}
    write(out, d__f7=b"X")
    assert down(store, out).downloaded == ("d/f7",)
    assert tree(out) == held(store)


def test_a_file_replaced_by_one_of_the_same_size_and_date(store: MemoryStore, out: Path) -> None:
    put(store, {"a": b"new"})
    write(out, a=b"old")
    assert down(store, out).downloaded == ("a",)
    assert tree(out) == {"a": b"new"}


def test_what_was_synchronised_up_comes_down_unchanged(store: MemoryStore, out: Path) -> None:
    write(out, a=b"1", d__b=bytes(PART_BYTES), e__f=b"")
    up(store, out)
    assert len(down(store, out, delete=True).unchanged) == 3


names = st.sampled_from(["a", "b/c", "b/d", "b/e/f", "g"])
trees = st.dictionaries(names, st.sampled_from([b"", b"1", b"2", b"long"]), max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees, trees)
def test_any_two_trees_become_equal(
    tmp_path_factory: pytest.TempPathFactory, local: dict[str, bytes], remote: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    write(root, **{name.replace("/", "__"): data for name, data in local.items()})
    store = MemoryStore()
    put(store, remote)
    told = down(store, root, delete=True, dry_run=True)
    assert tree(root) == local
    assert down(store, root, delete=True) == told
    assert tree(root) == remote
    asked(store)
    assert not down(store, root, delete=True).downloaded
    assert asked(store) == {"list_page": 1}


# --- what stays outside ---------------------------------------------------------------------


def test_s13_no_key_leads_outside(store: MemoryStore, out: Path) -> None:
    put(store, dict.fromkeys(ODD, b"bad") | {"good": b"1", "d/good": b"2", "f": b"3", "f/g": b"4"})
    report = down(store, out)
    assert tree(out.parent) == {"out/good": b"1", "out/d/good": b"2", "out/f/g": b"4"}
    assert set(report.skipped) == {*ODD, "f"}
    assert all(report.skipped.values())


@pytest.mark.parametrize("size", [3, 0, 9 << 20])
def test_no_link_leads_outside(store: MemoryStore, out: Path, size: int) -> None:
    outside = write(out.parent / "outside", f=b"kept")
    out.mkdir()
    (out / "dir").symlink_to(outside)
    (out / "file").symlink_to(outside / "f")
    (out / "dead").symlink_to(outside / "new")
    body = b"n" * size
    put(store, {"dir/f": body, "dir/g": body, "file": body, "dead": body})
    with pytest.raises(SyncFailed) as caught:
        down(store, out, delete=True)
    assert set(caught.value.report.failed) == {"dir/f", "dir/g"}
    assert tree(outside) == {"f": b"kept"}
    assert tree(out) == {"dead": body, "file": body}


def test_nor_does_one_that_appears_meanwhile(store: MemoryStore, out: Path) -> None:
    outside = write(out.parent / "outside", x=b"kept")
    put(store, {"dir/x": b"1", "dir/y": b"2"})
    write(out, dir__x=b"0")

    def swap(method: str, key: str) -> Exception | None:
        if method == "get" and not (out / "dir").is_symlink():
            (out / "dir").rename(out.parent / "moved")
            (out / "dir").symlink_to(outside)
        return None

    store.faults = swap
    with pytest.raises(SyncFailed) as caught:
        down(store, out)
    assert set(caught.value.report.failed) == {"dir/x", "dir/y"}
    assert tree(outside) == {"x": b"kept"}


def test_deleting_never_goes_through_links(store: MemoryStore, out: Path) -> None:
    outside = write(out.parent / "outside", f=b"kept")
    write(out, d__old=b"1", d__e__old=b"2", keep=b"3")
    (out / "link").symlink_to(outside)
    put(store, {"keep": b"3"})
    report = down(store, out, delete=True)
    assert report.deleted == ("d/e/old", "d/old")
    assert list(report.skipped) == ["link"]
    assert sorted(os.listdir(out)) == ["keep", "link"]
    assert tree(outside) == {"f": b"kept"}


def test_nothing_is_deleted_unless_asked(store: MemoryStore, out: Path) -> None:
    put(store, {"a": b"1"})
    down(store, write(out, other=b"2"))
    assert tree(out) == {"a": b"1", "other": b"2"}


def test_deleting_makes_room_for_what_has_its_name(store: MemoryStore, out: Path) -> None:
    write(out, a=b"file", d__x=b"1", d__y__z=b"2")
    put(store, {"a/b": b"3", "d": b"4"})
    with pytest.raises(SyncFailed) as caught:
        down(store, out)
    assert set(caught.value.report.failed) == {"a/b", "d"}
    assert down(store, out, delete=True).deleted == ("a", "d/x", "d/y/z")
    assert tree(out) == held(store)


def test_directories_have_markers_or_files(store: MemoryStore, out: Path) -> None:
    put(
        store,
        {"base/": b"", "base/empty/deep/": b"", "base/d/": b"", "base/d/x": b"1", "basement": b"2"},
    )
    down(store, out, "base/", delete=True)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "d",
        "d/x",
        "empty",
        "empty/deep",
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_directory_that_is_not_there_deletes_nothing(
    store: MemoryStore, out: Path, dry_run: bool
) -> None:
    """A typing mistake is no wish to delete."""
    put(store, {"results/a": b"1", "empty/": b""})
    write(out, precious=b"2")
    with pytest.raises(ValueError, match="no directory 'reslts/' in 'memory'"):
        down(store, out, "reslts/", delete=True, dry_run=dry_run)
    assert down(store, out, "reslts/") == SyncReport()
    with pytest.raises(MissingFile):
        downward.sync(store, str(out), "reslts/", Manner(), must_exist=True)
    assert tree(out) == {"precious": b"2"}
    assert down(store, out, "empty/", delete=True, dry_run=dry_run).deleted == ("precious",)


def test_a_file_that_is_replaced_hands_on_its_permissions(store: MemoryStore, out: Path) -> None:
    put(store, {"a": b"new", "b": b"new"})
    write(out, a=b"old")
    (out / "a").chmod(0o4750)
    (out / "b").symlink_to("a")
    down(store, out)
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((out / "b").stat().st_mode) & 0o111 == 0
    assert tree(out) == {"a": b"new", "b": b"new"}


@pytest.mark.parametrize("delete", [False, True])
def test_a_rehearsal_tells_what_is_in_the_way(store: MemoryStore, out: Path, delete: bool) -> None:
    write(out, file=b"1", dir__x=b"2", linked__x=b"3", d__keep=b"")
    (out.parent / "elsewhere").mkdir()
    (out / "link").symlink_to(out.parent / "elsewhere")
    (out / "linked/link").symlink_to("x")
    (out / "empty").mkdir()
    keys = ["file/y", "dir", "linked", "link/y", "link/deep/", "empty", "d/new", "d/keep"]
    put(store, {key: b"" if key.endswith("/") else b"4" for key in keys})
    reports = []
    for dry_run in (True, False):
        with pytest.raises(SyncFailed) as caught:
            down(store, out, delete=delete, dry_run=dry_run)
        reports.append(caught.value.report)
    assert reports[0] == reports[1]
    always = {"linked", "link/y", "link/deep", "empty"}
    assert set(reports[0].failed) == (always if delete else {*always, "file/y", "dir"})


# --- when something fails ---------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("busy"), Refused("no")])
@pytest.mark.parametrize("size", [5, 9 << 20])
def test_one_download_fails_and_the_rest_is_done(
    store: MemoryStore, out: Path, size: int, error: Exception
) -> None:
    put(store, {"a": b"a" * size, "b": b"b" * size, "c": b"c"})
    write(out, a=b"old", gone=b"x")
    store.faults = lambda method, key: error if (method, key) == ("get", "a") else None
    with pytest.raises(SyncFailed) as caught:
        down(store, out, delete=True)
    assert caught.value.report.failed == {"a": str(error)}
    assert tree(out) == {"a": b"old", "b": b"b" * size, "c": b"c"}
    store.faults = lambda method, key: None
    assert down(store, out, delete=True).downloaded == ("a",)
    assert tree(out) == held(store)


@pytest.mark.parametrize("size", [5, 17 << 20])
def test_an_object_replaced_meanwhile_is_not_mixed(
    store: MemoryStore, out: Path, size: int
) -> None:
    put(store, {"a": b"a" * size})

    def replace(method: str, key: str) -> Exception | None:
        if method == "get":
            store.faults = lambda method, key: None
            store.put("a", b"b" * size, Attributes()).result()
        return None

    store.faults = replace
    with pytest.raises(SyncFailed, match=r"'a': .*another version"):
        down(store, out)
    assert tree(out) == {}
    down(store, out)
    assert tree(out) == held(store)


def test_a_full_disk_leaves_no_half_file(
    store: MemoryStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, {"a": b"1", "b": b"2" * (9 << 20)})
    write(out, a=b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SyncFailed, match="No space left on device") as caught:
        down(store, out)
    assert set(caught.value.report.failed) == {"a", "b"}
    assert tree(out) == {"a": b"old"}


def test_what_is_asked_for_by_name_is_fetched_without_a_look(store: MemoryStore, out: Path) -> None:
    put(store, {"k": b"1"})
    info = store.head("k").result()
    write(out, other=b"2")
    report = downward.get(store, str(out), [("d/n", info), ("..", info)], Manner(), Tally())
    assert (report.downloaded, list(report.skipped)) == (("d/n",), [".."])
    assert tree(out) == {"d/n": b"1", "other": b"2"}
