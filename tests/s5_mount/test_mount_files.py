"""What can be done to one file, and that the bucket then holds the same."""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.s5_mount.mounting import Seen
from tests.support import eventually


def test_create(here: Path, seen: Seen) -> None:
    path = here / "new.txt"
    path.write_bytes(b"hello")
    assert path.read_bytes() == b"hello"
    assert path.stat().st_size == 5
    assert seen.content(path) == b"hello"


def test_create_empty(here: Path, seen: Seen) -> None:
    path = here / "empty"
    path.touch()
    assert path.stat().st_size == 0
    assert seen.content(path) == b""


def test_read_what_others_stored(here: Path, seen: Seen) -> None:
    body = random.Random(1).randbytes(1_500_000)
    path = seen.put(here / "theirs.bin", body)
    assert path.read_bytes() == body
    with path.open("rb") as file:
        file.seek(1_000_000)
        assert file.read(5) == body[1_000_000:1_000_005]
        file.seek(-3, os.SEEK_END)
        assert file.read(10) == body[-3:]
        assert file.read(10) == b""


def test_append(here: Path, seen: Seen) -> None:
    path = seen.put(here / "log", b"one\n")
    with path.open("ab") as file:
        file.write(b"two\n")
    with path.open("ab") as file:
        file.write(b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert seen.content(path) == b"one\ntwo\nthree\n"


def test_overwrite(here: Path, seen: Seen) -> None:
    path = seen.put(here / "file", b"a long first version")
    path.write_bytes(b"second")  # O_TRUNC
    assert path.read_bytes() == b"second"
    assert seen.content(path) == b"second"
    path.write_bytes(b"third, after an upload")
    assert seen.content(path) == b"third, after an upload"


def test_open_with_truncation_alone_empties(here: Path, seen: Seen) -> None:
    path = seen.put(here / "file", b"content")
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert path.stat().st_size == 0
    assert seen.content(path) == b""


@pytest.mark.parametrize("size", [0, 3, 8, 300_000])
def test_truncate(here: Path, seen: Seen, size: int) -> None:
    path = seen.put(here / "file", b"12345678")
    os.truncate(path, size)
    expected = b"12345678"[:size].ljust(size, b"\0")
    assert path.stat().st_size == size
    assert path.read_bytes() == expected
    assert seen.content(path) == expected


def test_truncate_while_open(here: Path, seen: Seen) -> None:
    path = here / "file"
    with path.open("w+b", buffering=0) as file:
        file.write(b"x" * 100_000)
        file.truncate(10)
        assert os.fstat(file.fileno()).st_size == 10
        file.truncate(20)
        assert os.pread(file.fileno(), 100, 0) == b"x" * 10 + b"\0" * 10
        assert path.stat().st_size == 20
    assert seen.content(path) == b"x" * 10 + b"\0" * 10


def test_random_writes(here: Path, seen: Seen) -> None:
    dice = random.Random(2)
    model = bytearray(dice.randbytes(1_200_000))
    path = seen.put(here / "file", bytes(model))
    with path.open("r+b", buffering=0) as file:
        for _ in range(60):
            at, size = dice.randrange(len(model) + 50_000), dice.randrange(1, 9000)
            chunk = dice.randbytes(size)
            if at > len(model):
                model.extend(bytes(at - len(model)))
            model[at : at + size] = chunk
            assert os.pwrite(file.fileno(), chunk, at) == size
            probe = dice.randrange(len(model))
            assert os.pread(file.fileno(), 5000, probe) == model[probe : probe + 5000]
        assert os.fstat(file.fileno()).st_size == len(model)
    assert path.read_bytes() == model
    assert seen.content(path) == model


def test_writing_behind_the_end_leaves_zeros(here: Path, seen: Seen) -> None:
    path = here / "sparse"
    with path.open("wb") as file:
        file.seek(500_000)
        file.write(b"end")
    assert path.read_bytes() == bytes(500_000) + b"end"
    assert seen.content(path) == bytes(500_000) + b"end"


def test_large_file(here: Path, seen: Seen) -> None:
    body = random.Random(3).randbytes(1 << 20) * 40
    path = here / "large"
    path.write_bytes(body)
    assert seen.content(path) == body
    with path.open("r+b") as file:
        file.seek(20 << 20)
        file.write(b"changed in the middle")
    at = 20 << 20
    body = body[:at] + b"changed in the middle" + body[at + 21 :]
    assert path.read_bytes() == body
    assert seen.content(path) == body


@pytest.mark.decision(1)
def test_fsync_means_it_is_in_the_bucket(here: Path, seen: Seen) -> None:
    path = here / "file"
    with path.open("wb", buffering=0) as file:
        file.write(b"precious")
        os.fsync(file.fileno())
        assert seen.content_now(path) == b"precious"
        file.write(b" and more")
        os.fdatasync(file.fileno())
        assert seen.content_now(path) == b"precious and more"


def test_exclusive_creation(here: Path, seen: Seen) -> None:
    path = seen.put(here / "taken", b"old")
    with pytest.raises(FileExistsError):
        path.open("xb")

    def create(_: int) -> bool:
        try:
            (here / "fresh").open("xb").close()
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1
    assert path.read_bytes() == b"old"


def test_unlink(here: Path, seen: Seen) -> None:
    old, new = seen.put(here / "old", b"1"), here / "new"
    new.write_bytes(b"2")
    old.unlink()
    new.unlink()
    assert list(here.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        old.read_bytes()
    with pytest.raises(FileNotFoundError):
        old.unlink()
    assert not {seen.key(old), seen.key(new)} & set(seen.keys(here))


@pytest.mark.decision(10)
def test_unlinked_file_stays_usable_while_open(here: Path, seen: Seen) -> None:
    path = seen.put(here / "scratch", b"before")
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        assert not path.exists()
        assert file.read() == b"before"
        file.write(b" and after")
        assert os.pread(file.fileno(), 100, 0) == b"before and after"
        assert os.fstat(file.fileno()).st_size == 16
    assert seen.key(path) not in seen.keys(here)


@pytest.mark.decision(10)
def test_what_is_read_of_an_unlinked_file_is_fetched(here: Path, seen: Seen) -> None:
    """Its object goes once nobody has it open."""
    body = random.Random(4).randbytes(12_000_000)
    path, later = seen.put(here / "large", body), here / "later"
    with path.open("rb", buffering=0) as file:
        assert file.read(4) == body[:4]
        path.unlink()
        later.touch()
        eventually(lambda: os.getxattr(later, "user.qarnotfs.state") == b"clean")
        assert os.listdir(here) == ["later"]
        assert os.pread(file.fileno(), len(body), 0) == body
    assert seen.key(path) not in seen.keys(here)


def test_new_file_unlinked_while_open_never_arrives(here: Path, seen: Seen) -> None:
    path = here / "temporary"
    with path.open("w+b", buffering=0) as file:
        file.write(b"secret")
        path.unlink()
        assert os.pread(file.fileno(), 100, 0) == b"secret"
    assert seen.key(path) not in seen.keys(here)


def test_rename_replaces(here: Path, seen: Seen) -> None:
    target = seen.put(here / "target", b"old")
    source = here / "source"
    source.write_bytes(b"new")
    source.rename(target)
    assert target.read_bytes() == b"new"
    assert [path.name for path in here.iterdir()] == ["target"]
    assert seen.content(target) == b"new"
    assert seen.key(source) not in seen.keys(here)


@pytest.mark.decision(9)
def test_rename_of_an_uploaded_file(here: Path, seen: Seen) -> None:
    source = seen.put(here / "a", b"content")
    target = here / "b"
    source.rename(target)
    assert not source.exists()
    assert target.read_bytes() == b"content"
    assert seen.content(target) == b"content"
    assert seen.key(source) not in seen.keys(here)


def test_rename_while_written(here: Path, seen: Seen) -> None:
    source, target = here / "a", here / "b"
    with source.open("wb", buffering=0) as file:
        file.write(b"first ")
        source.rename(target)
        file.write(b"second")
    assert target.read_bytes() == b"first second"
    assert seen.content(target) == b"first second"
    assert seen.key(source) not in seen.keys(here)


def test_mmap_read(here: Path, seen: Seen) -> None:
    body = random.Random(4).randbytes(700_000)
    path = seen.put(here / "file", body)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[:] == body


@pytest.mark.decision(13)
def test_mmap_shared_write(here: Path, seen: Seen) -> None:
    path = seen.put(here / "file", b"-" * 50_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[40_000:40_006] = b"mapped"
        view.flush()
    expected = b"-" * 40_000 + b"mapped" + b"-" * 9994
    assert path.read_bytes() == expected
    assert seen.content(path) == expected


@pytest.mark.decision(13)
def test_what_is_written_through_a_mapping_after_the_close_arrives(here: Path, seen: Seen) -> None:
    path = seen.put(here / "file", b"-" * 5000)
    with path.open("r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
    view[:6] = b"mapped"
    view.flush()
    assert seen.content_now(path)[:6] == b"mapped"
    view[:6] = b"closed"
    view.close()
    eventually(lambda: seen.content(path)[:6] == b"closed")


READER = """if True:
    import errno, pathlib, sys
    path, last = pathlib.Path(sys.argv[1]), sys.argv[2].encode()
    while True:
        try:
            data = path.read_bytes()
        except OSError as error:
            assert error.errno == errno.ESTALE, error  # replaced twice while it was opened
            continue
        assert len(data) == 300_000, f"{len(data)} bytes, from {data[:1]}"
        assert len(set(data)) == 1, f"versions {set(data)} in one read"
        if data[:1] == last:
            break
"""


def test_two_programs_read_while_one_replaces(here: Path) -> None:
    path, draft = here / "state", here / "state.new"
    path.write_bytes(b"a" * 300_000)
    readers = [subprocess.Popen([sys.executable, "-c", READER, path, "z"]) for _ in range(2)]
    try:
        for letter in b"bcdefghijklmnopqrstuvwxyz":
            draft.write_bytes(bytes([letter]) * 300_000)
            draft.rename(path)
        assert [reader.wait(60) for reader in readers] == [0, 0]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def test_readers_see_what_a_writer_has_written(here: Path) -> None:
    path = here / "log"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(50):
            line = b"%04d\n" % number * 100
            writer.write(line)
            assert reader.read() == line
            assert path.stat().st_size == writer.tell()


def test_two_handles_write_one_file(here: Path, seen: Seen) -> None:
    path = here / "file"
    path.write_bytes(b".." * 1000)
    with path.open("r+b", buffering=0) as one, path.open("r+b", buffering=0) as two:
        os.pwrite(one.fileno(), b"one", 0)
        os.pwrite(two.fileno(), b"two", 1000)
        assert os.pread(one.fileno(), 3, 1000) == b"two"
    assert path.read_bytes()[:3] == b"one"
    assert seen.content(path)[:3] == b"one"
    assert seen.content(path)[1000:1003] == b"two"


def test_errors_of_names(here: Path) -> None:
    (here / "file").touch()
    with pytest.raises(NotADirectoryError):
        (here / "file" / "below").touch()
    with pytest.raises(IsADirectoryError):
        here.write_bytes(b"")
    with pytest.raises(OSError, match="too long") as caught:
        (here / ("n" * 1025)).touch()
    assert caught.value.errno == errno.ENAMETOOLONG
