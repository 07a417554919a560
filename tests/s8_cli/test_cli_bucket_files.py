"""``qarnotfs put``, ``get`` and ``cat`` on the real gateway."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rgw import Gateway
from tests.s5_mount.mounting import PROGRAM, Cli
from tests.s8_cli.objects import content, fill

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway
BIG = bytes(range(256)) * (80 << 10)  # 20 MiB: three parts
ODD = ["/lead", "a b/ü", "a//b", "..", "new\nline", "*", "x:y", "100%", " x ", "a\\b"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are in the test's own directory."""
    monkeypatch.chdir(tmp_path)


def tree(**files: bytes) -> None:
    """Make files; ``__`` stands for ``/``."""
    for name, body in files.items():
        path = Path(name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def files(root: str) -> dict[str, bytes]:
    """Every file below a directory and its bytes."""
    paths = [path for path in Path(root).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(paths)}


# --- put ----------------------------------------------------------------------------------


def test_a_file_keeps_its_name_or_gets_another(cli: Cli, s3: S3Client, bucket: str) -> None:
    tree(d__x=b"1")
    assert cli("put", "d/x", bucket).ok().out == "1 file uploaded (1 B).\n"
    cli("put", "d/x", f"{bucket}:").ok()
    cli("put", "d/x", f"{bucket}:y").ok()
    cli("put", "./d/x", f"{bucket}:p/").ok()
    assert content(s3, bucket) == {"x": b"1", "y": b"1", "p/x": b"1"}


def test_many_files_cost_a_request_each(
    cli: Cli, s3: S3Client, bucket: str, gateway: Gateway
) -> None:
    names = [f"f{n}" for n in range(30)]
    tree(**{name: name.encode() for name in names})
    fill(s3, bucket, {"other": b""})
    mark = gateway.mark()
    cli("put", *names, f"{bucket}:p/").ok()
    assert [request.method for request in gateway.requests(mark)] == ["PUT"] * 30
    assert content(s3, bucket) == {"other": b"", **{f"p/{name}": name.encode() for name in names}}


def test_a_directory_with_all_that_is_in_it(cli: Cli, s3: S3Client, bucket: str) -> None:
    tree(d__x=b"1", d__e__y=b"2", d__e__z=b"")
    Path("d/link").symlink_to("x")
    done = cli("put", "-r", "d", f"{bucket}:p").ok()
    assert done.err == "qarnotfs: p/link is skipped: it is a symbolic link\n"
    assert content(s3, bucket) == {"p/x": b"1", "p/e/y": b"2", "p/e/z": b""}
    cli("put", "-r", "d/", bucket).ok()
    assert s3.get_object(Bucket=bucket, Key="e/y")["Body"].read() == b"2"


def test_large_files_go_in_parts(cli: Cli, s3: S3Client, bucket: str) -> None:
    tree(big=BIG)
    assert cli("put", "big", bucket).ok().out == "1 file uploaded (20.0 MiB).\n"
    assert content(s3, bucket) == {"big": BIG}
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-3"')


@pytest.mark.parametrize("body", [b"", b"small", BIG])
def test_stdin_to_the_bucket_and_back(cli: Cli, s3: S3Client, bucket: str, body: bytes) -> None:
    key, pipe = f"{bucket}:from stdin", subprocess.PIPE
    done = subprocess.run(
        [PROGRAM, "put", "--json", "-", key],
        env=cli.environment,
        input=body,
        stdout=pipe,
        check=True,
    )
    assert json.loads(done.stdout)["bytes_moved"] == len(body)
    assert content(s3, bucket) == {"from stdin": body}
    done = subprocess.run([PROGRAM, "cat", key], env=cli.environment, stdout=pipe, check=True)
    assert done.stdout == body


def test_a_named_pipe(cli: Cli, s3: S3Client, bucket: str) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen([PROGRAM, "put", "pipe", bucket], env=cli.environment) as put:
        Path("pipe").write_bytes(b"1")
    assert put.returncode == 0
    assert content(s3, bucket) == {"pipe": b"1"}


def test_what_cannot_be_stored_is_named_and_the_rest_is_stored(
    cli: Cli, s3: S3Client, bucket: str
) -> None:
    tree(x=b"1", y=b"2")
    done = cli("put", "x", "missing", "y", f"{bucket}:p/")
    assert done.code == 1
    assert done.err == "qarnotfs: missing: No such file or directory.\n"
    assert content(s3, bucket) == {"p/x": b"1", "p/y": b"2"}
    done = cli("put", "missing", bucket)
    assert (done.code, done.err) == (1, "qarnotfs: missing: No such file or directory.\n")


def test_put_to_no_bucket(cli: Cli) -> None:
    tree(x=b"")
    done = cli("put", "x", "no-such-bucket")
    assert (done.code, "qarnotfs mb no-such-bucket" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["d", "b"], "d is a directory: use -r"),
        (["x", "d/x", "b"], "x and d/x would both be stored as 'x'"),
        (["x", "d/x", "b:k"], "Several files need a directory to go to: write 'b:k/'"),
        (["-", "b"], "stdin needs a name"),
        (["-", "x", "b:p/"], "stdin needs a name"),
        (["-r", "d", "e", "b"], "With -r give one directory"),
        (["c:x", "b"], "'c:x' names a bucket: write './c:x' for a local file"),
        (["x", "./b"], "is not a BUCKET or BUCKET:KEY"),
    ],
)
def test_misunderstandings_about_put(cli: Cli, words: list[str], said: str) -> None:
    tree(x=b"", d__x=b"")
    done = cli("put", *words)
    assert (done.code, said in done.err) == (2, True)


def test_a_local_name_with_a_colon(cli: Cli, s3: S3Client, bucket: str) -> None:
    Path("a:b").write_bytes(b"1")
    cli("put", "./a:b", bucket).ok()
    cli("get", f"{bucket}:a:b", "./c:d").ok()
    assert list(content(s3, bucket)) == ["a:b"]
    assert Path("c:d").read_bytes() == b"1"


# --- get ----------------------------------------------------------------------------------


def test_a_file_is_fetched_to_a_directory_or_a_name(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"d/x": b"1"})
    assert cli("get", f"{bucket}:d/x", ".").ok().out == "1 file downloaded (1 B).\n"
    cli("get", f"{bucket}:d/x", "y").ok()
    cli("get", f"{bucket}:d/x", "new/").ok()
    cli("get", f"{bucket}:d/x", "new/er/z").ok()
    assert files(".") == {"new/er/z": b"1", "new/x": b"1", "x": b"1", "y": b"1"}


def test_several_files_go_to_a_directory(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"d/x": b"1", "y": BIG})
    done = cli("get", f"{bucket}:d/x", f"{bucket}:missing", f"{bucket}:y", "here")
    assert (done.code, done.out) == (1, "2 files downloaded (20.0 MiB).\n")
    assert done.err == (
        f"qarnotfs: {bucket}:missing: There is no such file; to get a directory, use -r.\n"
    )
    assert files("here") == {"x": b"1", "y": BIG}


def test_what_was_there_is_replaced(cli: Cli, s3: S3Client, bucket: str) -> None:
    tree(x=b"older and longer")
    fill(s3, bucket, {"x": b"new"})
    cli("get", f"{bucket}:x", ".").ok()
    assert files(".") == {"x": b"new"}


def test_a_directory_of_the_bucket(cli: Cli, s3: S3Client, bucket: str, gateway: Gateway) -> None:
    fill(s3, bucket, {"d/x": b"1", "d/e/y": b"2", "d/empty/": b"", "dx": b"", "d/": b""})
    mark = gateway.mark()
    cli("get", "-r", f"{bucket}:d", "here").ok()
    assert len(gateway.requests(mark)) == 3
    assert files("here") == {"x": b"1", "e/y": b"2"}
    assert Path("here/empty").is_dir()
    cli("get", "-r", bucket, "all").ok()
    assert sorted(files("all")) == ["d/e/y", "d/x", "dx"]


def test_nothing_is_written_outside(cli: Cli, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    """Keys that no file can have are named, and make the exit code 1."""
    fill(s3, bucket, {"../out": b"1", f"{tmp_path}/abs": b"1", "a/../b": b"1", "link/x": b"1"})
    fill(s3, bucket, {"ok": b"1"})
    tree(here__keep=b"", elsewhere__keep=b"")
    Path("here/link").symlink_to("../elsewhere")
    done = cli("get", "-r", bucket, "here")
    assert (done.code, done.out) == (1, "1 file downloaded (1 B).\n")
    for key in ("../out", f"{tmp_path}/abs", "a/../b"):
        assert f"qarnotfs: {key} is skipped: " in done.err
    assert "qarnotfs: link" in done.err
    assert files("here") == {"keep": b"", "ok": b"1"}
    assert files("elsewhere") == {"keep": b""}
    assert sorted(os.listdir()) == ["elsewhere", "here"]


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_both_ways(cli: Cli, s3: S3Client, bucket: str, key: str) -> None:
    tree(x=b"1")
    cli("put", "x", f"{bucket}:{key}").ok()
    assert content(s3, bucket) == {key: b"1"}
    cli("get", f"{bucket}:{key}", "y").ok()
    assert Path("y").read_bytes() == b"1"
    assert cli("cat", f"{bucket}:{key}").ok().out == "1"


def test_get_for_programs(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"x": b"1"})
    done = cli("get", "--json", f"{bucket}:x", f"{bucket}:y", "here")
    said = json.loads(done.out)
    assert (done.code, said["downloaded"], said["bytes_moved"]) == (1, ["x"], 1)
    assert list(said["failed"]) == [f"{bucket}:y"]
    assert cli("get", "-q", f"{bucket}:x", "here").ok().out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["b", "."], "'b:' is a directory: use -r"),
        (["b:d/", "."], "'b:d/' is a directory: use -r"),
        (["b:d/x", "b:x", "."], "'d/x' and 'x' would both be 'x'"),
        (["b:x", "c:x", "."], "files of one bucket at a time"),
        (["-r", "b:x", "b:y", "."], "With -r give one directory"),
        (["b:x", "-"], "'qarnotfs cat' writes to stdout"),
        (["b:x", "b:y"], "'b:y' names a bucket: write './b:y'"),
        (["b:x", "/dev/null"], "/dev/null is no file"),
        (["b:x"], "Missing argument"),
    ],
)
def test_misunderstandings_about_get(cli: Cli, words: list[str], said: str) -> None:
    done = cli("get", *words)
    assert (done.code, said in done.err) == (2, True)


def test_where_nothing_can_be_written(cli: Cli, s3: S3Client, bucket: str) -> None:
    tree(file=b"")
    fill(s3, bucket, {"x": b"1"})
    done = cli("get", f"{bucket}:x", "file/y")
    assert (done.code, done.err) == (1, "qarnotfs: file: File exists.\n")


# --- views --------------------------------------------------------------------------------


@pytest.fixture
def view(s3: S3Client, bucket: str) -> list[str]:
    fill(s3, bucket, {"p/x": b"1", "p/d/y": b"2", "q": b"3", "p/": b""})
    return ["--prefix", "p/", "--strip-prefix", "p/"]


def test_a_view_says_names_and_keys(cli: Cli, bucket: str, view: list[str]) -> None:
    cli("get", "-r", *view, bucket, "here").ok()
    assert files("here") == {"x": b"1", "d/y": b"2"}
    cli("get", *view, f"{bucket}:d/y", "z").ok()
    assert Path("z").read_bytes() == b"2"
    assert cli("cat", *view, f"{bucket}:x", f"{bucket}:d/y").ok().out == "12"


def test_what_a_view_hides_is_not_there(cli: Cli, bucket: str, view: list[str]) -> None:
    for name in ("q", "p/x"):
        assert cli("cat", *view, f"{bucket}:{name}").code == 1
        assert cli("get", *view, f"{bucket}:{name}", ".").code == 1
    assert cli("get", "-r", *view, f"{bucket}:p", "here").code == 1


# --- cat ----------------------------------------------------------------------------------


def test_files_are_joined_and_what_is_missing_named(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"x": b"1", "y": b"2"})
    done = cli("cat", f"{bucket}:x", f"{bucket}:missing", f"{bucket}:y")
    assert (done.code, done.out) == (1, "12")
    assert done.err == f"qarnotfs: There is no file '{bucket}:missing'.\n"


def test_a_reader_that_leaves_ends_it_quietly(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"big": BIG})
    with subprocess.Popen(
        [PROGRAM, "cat", f"{bucket}:big"],
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as cat:
        assert cat.stdout
        assert cat.stderr
        assert cat.stdout.read(10) == BIG[:10]
        cat.stdout.close()
        assert cat.stderr.read() == b""
    assert cat.returncode == 1
