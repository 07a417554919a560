"""The SDK's `Bucket` and ours: a local directory made equal to a bucket, and back.

A difference on purpose is stated for both and has its number in docs/SEMANTICS.md.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qarnotfs import SyncFailed
from tests.rgw import Gateway
from tests.s6_bucket.conftest import Content, Face, fill, found

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway

PART = 8 << 20
FILES = {"a": b"1", "d/b": b"2", "d/e/é": b"3", "empty": b"", "with space": b"5"}


def methods(gateway: Gateway, mark: int) -> list[str]:
    """What was asked beyond listings."""
    return [request.method for request in gateway.requests(mark) if request.method != "GET"]


# --- up: what every synchronisation does ----------------------------------------------------


@pytest.mark.parametrize("end", ["", "/"])
def test_a_first_time(one: Any, content: Content, tree: Path, end: str) -> None:
    fill(tree, FILES)
    (tree / "nothing").mkdir()
    one.sync_directory(f"{tree}{end}")
    assert content.all() == FILES


def test_a_second_time(one: Any, gateway: Gateway, tree: Path) -> None:
    fill(tree, FILES | {"large": random.Random(1).randbytes(PART), "larger": bytes(20 << 20)})
    one.sync_directory(str(tree))
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert methods(gateway, mark) == []


@pytest.mark.parametrize("body", [b"x", b"2", b"changed", bytes(PART), b""])
def test_a_file_has_changed(one: Any, content: Content, tree: Path, body: bytes) -> None:
    fill(tree, FILES)
    one.sync_directory(str(tree))
    fill(tree, {"a": body})
    one.sync_directory(str(tree))
    assert content.all() == FILES | {"a": body}


def test_a_large_file_has_changed(one: Any, content: Content, tree: Path) -> None:
    body = bytearray(random.Random(2).randbytes(20 << 20))
    fill(tree, {"large": bytes(body)})
    one.sync_directory(str(tree))
    body[10 << 20] ^= 1
    fill(tree, {"large": bytes(body)})
    one.sync_directory(str(tree))
    assert content["large"] == body


def test_a_file_is_gone(one: Any, content: Content, tree: Path) -> None:
    fill(tree, FILES)
    one.sync_directory(str(tree))
    (tree / "d" / "b").unlink()
    one.sync_directory(str(tree))
    assert list(content.all()) == ["a", "d/e/é", "empty", "with space"]


def test_everything_is_gone(one: Any, content: Content, tree: Path) -> None:
    content["a"] = b"1"
    one.sync_directory(str(tree))
    assert content.all() == {}


def uploads(gateway: Gateway, mark: int, size: int) -> int:
    """How many requests carried a body at least so long."""
    return sum(
        request.method in {"PUT", "POST"} and request.size >= size
        for request in gateway.requests(mark)
    )


def test_a_file_was_renamed(one: Any, gateway: Gateway, content: Content, tree: Path) -> None:
    body = random.Random(3).randbytes(100_000)
    fill(tree, {"before": body, "kept": b"1"})
    one.sync_directory(str(tree))
    (tree / "before").rename(tree / "after")
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert content.all() == {"after": body, "kept": b"1"}
    assert uploads(gateway, mark, len(body)) == 0


def test_two_files_swapped_names(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"a": b"was a", "b": b"was b", "c": b"c"})
    one.sync_directory(str(tree))
    fill(tree, {"a": b"was b", "b": b"was a"})
    one.sync_directory(str(tree))
    assert content.all() == {"a": b"was b", "b": b"was a", "c": b"c"}


@pytest.mark.parametrize("shift", [1, -1])
def test_names_moved_on(one: Any, content: Content, tree: Path, shift: int) -> None:
    """Each name has its neighbour's content now: every copy's source is overwritten too."""
    fill(tree, {f"{number}": f"was {number}".encode() for number in range(6)})
    one.sync_directory(str(tree))
    moved = {f"{number}": f"was {(number + shift) % 6}".encode() for number in range(6)}
    fill(tree, moved)
    one.sync_directory(str(tree))
    assert content.all() == moved


def test_duplicates_are_sent_once(one: Any, gateway: Gateway, content: Content, tree: Path) -> None:
    body = random.Random(4).randbytes(100_000)
    fill(tree, {"a": body, "d/b": body, "c": body, "other": b"1"})
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert content.all() == found(tree)
    assert uploads(gateway, mark, len(body)) == 1


def test_content_that_is_in_the_bucket_is_copied(
    one: Any, gateway: Gateway, content: Content, tree: Path
) -> None:
    body = random.Random(5).randbytes(100_000)
    fill(tree, {"a": body})
    one.sync_directory(str(tree))
    fill(tree, {"d/again": body})
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert content.all() == {"a": body, "d/again": body}
    assert uploads(gateway, mark, len(body)) == 0


@pytest.mark.parametrize("remote", ["r", "r/", "/r", "r//"])
def test_below_a_remote_directory(one: Any, content: Content, tree: Path, remote: str) -> None:
    content["other"], content["r/old"] = b"kept", b"goes"
    fill(tree, FILES)
    one.sync_directory(str(tree), False, remote)
    expected = {f"r/{name}": body for name, body in FILES.items()} | {"other": b"kept"}
    assert content.all() == expected


def test_files_by_name(one: Any, content: Content, tree: Path) -> None:
    fill(tree, {"x": b"1", "y": b"2"})
    content["old"] = b"goes"
    one.sync_files({"d/é": str(tree / "x"), "e": str(tree / "y")})
    assert content.all() == {"d/é": b"1", "e": b"2"}
    one.sync_files({"d": str(tree / "x")}, remote="f")
    assert content.all() == {"d/é": b"1", "e": b"2", "f/d": b"1"}


def test_verbose(face: Face, one: Any, tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tree, {"a": b"1", "b": b"1"})
    with caplog.at_level(logging.INFO):
        one.sync_directory(str(tree), verbose=True)
        (tree / "a").unlink()
        one.sync_directory(str(tree), verbose=True)
    said = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert sum(line.startswith("Upload: ") for line in said) == 1
    assert sum(line.startswith("Copy ") for line in said) == 1
    assert said[-1] == "Remove: a"


# --- up: where we differ --------------------------------------------------------------------


def test_what_it_returns(face: Face, one: Any, tree: Path) -> None:
    """D14: ours says what it did."""
    fill(tree, {"a": b"1", "b": b"1"})
    report = one.sync_directory(str(tree))
    if face.is_sdk:
        assert report is None
    else:
        assert (len(report.uploaded), len(report.copied)) == (1, 1)
        assert one.sync_directory(str(tree)).unchanged == ("a", "b")


def test_a_remote_is_a_directory(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D15: the SDK takes it as the beginning of a key, and deletes the neighbours."""
    content["r/old"], content["rx/theirs"] = b"goes", b"theirs"
    fill(tree, {"a": b"1"})
    one.sync_directory(str(tree), remote="r")
    kept = {} if face.is_sdk else {"rx/theirs": b"theirs"}
    assert content.all() == {"r/a": b"1"} | kept


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_directory_that_is_none(
    face: Face, one: Any, content: Content, tree: Path, name: str
) -> None:
    """D16: the SDK takes it for an empty one, and deletes the whole bucket."""
    fill(tree, {"file": b"1"})
    content["precious"] = b"1"
    if face.is_sdk:
        one.sync_directory(str(tree / name))
        assert content.all() == {}
    else:
        with pytest.raises(IOError, match="directory"):
            one.sync_directory(str(tree / name))
        assert content.all() == {"precious": b"1"}


def test_a_changed_file_is_replaced(face: Face, one: Any, gateway: Gateway, tree: Path) -> None:
    """D17: the SDK deletes first: until the upload ends, or for good if it fails, it is gone."""
    fill(tree, {"a": b"old"})
    one.sync_directory(str(tree))
    fill(tree, {"a": b"new"})
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert methods(gateway, mark) == (["DELETE", "PUT"] if face.is_sdk else ["PUT"])


def test_one_file_cannot_be_read(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D18: the SDK does nothing at all; ours does the rest, then names it."""
    fill(tree, {"a": b"1"})
    files = {"a": str(tree / "a"), "b": str(tree / "none")}
    with pytest.raises(FileNotFoundError if face.is_sdk else SyncFailed) as caught:
        one.sync_files(files)
    assert content.all() == ({} if face.is_sdk else {"a": b"1"})
    if isinstance(caught.value, SyncFailed):
        assert list(caught.value.report.failed) == ["b"]


def test_markers_of_directories(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D23: a mount made them, for the directories that are here too."""
    fill(tree, {"d/a": b"1"})
    (tree / "empty").mkdir()
    markers = {"d/": b"", "empty/": b""}
    for key in (*markers, "gone/"):
        content[key] = b""
    one.sync_directory(str(tree))
    assert content.all() == {"d/a": b"1"} | ({} if face.is_sdk else markers)


def test_links_in_a_directory(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D8: as above; and one that leads nowhere ends the SDK's synchronisation."""
    fill(tree, {"d/file": b"1"})
    (tree / "link").symlink_to("d")
    (tree / "file-link").symlink_to("d/file")
    report = one.sync_directory(str(tree))
    assert content.all() == {"d/file": b"1"} | ({"file-link": b"1"} if face.is_sdk else {})
    (tree / "nowhere").symlink_to("none")
    if face.is_sdk:
        with pytest.raises(FileNotFoundError):
            one.sync_directory(str(tree))
    else:
        assert set(report.skipped) == {"link", "file-link"}
        assert "nowhere" in one.sync_directory(str(tree)).skipped


def test_what_was_not_looked_at(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D26: the SDK deletes what a link to a directory may stand for."""
    fill(tree, {"a": b"1"})
    (tree.parent / "elsewhere").mkdir()
    (tree / "dir-link").symlink_to(tree.parent / "elsewhere")
    content["dir-link/file"] = b"2"
    one.sync_directory(str(tree))
    assert content.all() == {"a": b"1"} | ({} if face.is_sdk else {"dir-link/file": b"2"})


def test_parts_of_another_size(
    face: Face, one: Any, gateway: Gateway, s3: S3Client, bucket: str, tree: Path
) -> None:
    """D19: what another tool uploaded in other parts is the same content."""
    body = random.Random(6).randbytes(20 << 20)
    fill(tree, {"large": body})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    sent: list[Any] = []
    for number, at in enumerate(range(0, len(body), 5 << 20), start=1):
        part = body[at : at + (5 << 20)]
        answer = s3.upload_part(
            Bucket=bucket, Key="large", UploadId=upload, PartNumber=number, Body=part
        )
        sent.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="large", UploadId=upload, MultipartUpload={"Parts": sent}
    )
    mark = gateway.mark()
    one.sync_directory(str(tree))
    assert bool(methods(gateway, mark)) is face.is_sdk


def test_the_extras_of_ours(one: Any, face: Face, content: Content, tree: Path) -> None:
    """D14: the SDK has neither of these."""
    if face.is_sdk:
        with pytest.raises(TypeError):
            one.sync_directory(str(tree), dry_run=True)
        return
    content["old"] = b"1"
    fill(tree, {"a": b"1", "b": b"2"})
    planned = one.sync_directory(str(tree), dry_run=True)
    assert (planned.deleted, content.all()) == (("old",), {"old": b"1"})
    one.sync_directory(str(tree), delete=False)
    assert content.all() == {"a": b"1", "b": b"2", "old": b"1"}


# --- down -----------------------------------------------------------------------------------


def test_down(one: Any, content: Content, tree: Path) -> None:
    for name, body in FILES.items():
        content[name] = body
    content["d/again"] = FILES["a"]
    content["dir/"] = b""
    fill(tree, {"a": b"old", "mine": b"kept"})
    one.sync_remote_to_local(str(tree))
    assert found(tree) == FILES | {"d/again": FILES["a"], "mine": b"kept"}
    assert (tree / "dir").is_dir()


@pytest.mark.parametrize("remote", ["r", "r/"])
def test_down_from_a_remote_directory(one: Any, content: Content, tree: Path, remote: str) -> None:
    content["r/a"], content["r/d/é"], content["other"] = b"1", b"2", b"3"
    one.sync_remote_to_local(str(tree / "new" / "place"), remote)
    assert found(tree) == {"new/place/a": b"1", "new/place/d/é": b"2"}


def test_all_files(one: Any, content: Content, tree: Path) -> None:
    for name, body in FILES.items():
        content[name] = body
    one.get_all_files(str(tree / "out"))
    assert found(tree / "out") == FILES


def test_down_a_second_time(face: Face, one: Any, gateway: Gateway, tree: Path) -> None:
    """D21: the SDK fetches everything again."""
    fill(tree, FILES)
    one.sync_directory(str(tree))
    mark = gateway.mark()
    one.sync_remote_to_local(str(tree))
    assert (len(gateway.requests(mark)) > 1) is face.is_sdk


def test_down_from_a_remote_that_begins_another(
    face: Face, one: Any, content: Content, tree: Path
) -> None:
    """D15: as above; the SDK puts ``rx/b`` into ``x/b``."""
    content["r/a"], content["rx/b"] = b"1", b"2"
    one.sync_remote_to_local(str(tree), "r")
    assert found(tree) == {"a": b"1"} | ({"x/b": b"2"} if face.is_sdk else {})


@pytest.mark.parametrize("method", ["get_all_files", "sync_remote_to_local"])
def test_nothing_is_written_outside(
    face: Face, one: Any, content: Content, tree: Path, method: str
) -> None:
    """D22: the SDK writes wherever a key leads."""
    content["../outside"], content["/slash"], content["link/file"] = b"1", b"2", b"3"
    content["in"] = b"4"
    out, elsewhere = tree / "out", tree / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "link").symlink_to(elsewhere)
    if face.is_sdk:
        getattr(one, method)(str(out))
        assert found(tree).keys() == {"outside", "out/slash", "elsewhere/file", "out/in"}
        return
    with pytest.raises(SyncFailed) as caught:
        getattr(one, method)(str(out))
    assert found(tree) == {"out/in": b"4"}
    assert set(caught.value.report.skipped) == {"../outside", "/slash"}
    assert "link/file" in caught.value.report.failed


def test_keys_no_file_system_holds(face: Face, one: Any, content: Content, tree: Path) -> None:
    """D22: as above; the SDK ends at the first of them."""
    content["a"], content["a/b"], content["x" * 300], content["ok"] = b"1", b"2", b"3", b"4"
    if face.is_sdk:
        with pytest.raises(OSError, match=r"too long|exists|Not a directory"):
            one.sync_remote_to_local(str(tree))
        return
    report = one.sync_remote_to_local(str(tree))
    assert found(tree)["ok"] == b"4"
    assert "x" * 300 in report.skipped
    assert len({"a", "a/b"} & set(report.skipped)) == 1
