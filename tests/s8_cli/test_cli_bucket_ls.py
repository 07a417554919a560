"""``qarnotfs ls`` on the real gateway."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli
from tests.s8_cli.objects import fill

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.gateway
ODD = ["/lead", "a b/ü", "a//b", "..", "new\nline", "*", "d/", "esc\x1b[2J", "x:y"]


@pytest.fixture
def filled(s3: S3Client, bucket: str) -> str:
    objects = {"top": b"12345", "a/x": b"", "a/b/y": b"1" * 1536, "ab": b"", "a/": b""}
    fill(s3, bucket, objects)
    return bucket


def lines(cli: Cli, *words: str | Path) -> list[str]:
    return cli("ls", *words).ok().out.splitlines()


def document(cli: Cli, *words: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("ls", "--json", *words).ok().out)
    return found


def test_the_buckets(cli: Cli, bucket: str) -> None:
    assert bucket in lines(cli)
    assert {"type": "bucket", "name": bucket} in document(cli)


def test_one_level_at_a_time(cli: Cli, filled: str) -> None:
    assert lines(cli, filled) == lines(cli, f"{filled}:") == ["a/", "ab", "top"]
    assert lines(cli, f"{filled}:a") == lines(cli, f"{filled}:a/") == ["b/", "x"]
    assert lines(cli, f"{filled}:a/b") == ["y"]


def test_at_any_depth_whole_keys_are_shown(cli: Cli, filled: str) -> None:
    assert lines(cli, "-r", filled) == ["a/", "a/b/y", "a/x", "ab", "top"]
    assert lines(cli, "-r", f"{filled}:a") == ["a/", "a/b/y", "a/x"]


def test_a_file_of_that_name(cli: Cli, filled: str, s3: S3Client) -> None:
    assert lines(cli, f"{filled}:a/x") == ["a/x"]
    fill(s3, filled, {"a": b""})
    assert lines(cli, f"{filled}:a") == ["a", "b/", "x"]


def test_long_lines_have_date_and_size(cli: Cli, filled: str) -> None:
    directory = lines(cli, "-l", filled)[0]
    [file] = lines(cli, "-l", f"{filled}:a/b")
    assert directory == " " * 33 + "a/"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d     1.5 KiB  y", file)


def test_json_is_exact(cli: Cli, filled: str) -> None:
    directory, file = document(cli, f"{filled}:a")
    assert directory == {"type": "directory", "key": "a/b/"}
    stored = datetime.fromisoformat(file.pop("last_modified"))
    assert abs((datetime.now(UTC) - stored).total_seconds()) < 600
    assert file == {
        "type": "file",
        "key": "a/x",
        "size": 0,
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
        "stored_key": "a/x",
    }


def test_an_empty_bucket_is_no_error(cli: Cli, bucket: str) -> None:
    assert lines(cli, bucket) == []
    assert document(cli, bucket) == []


def test_an_empty_directory_is_none_either(cli: Cli, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, {"d/": b""})
    assert lines(cli, f"{bucket}:d") == []
    assert lines(cli, f"{bucket}") == ["d/"]


def test_nothing_there(cli: Cli, filled: str) -> None:
    done = cli("ls", f"{filled}:to")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"qarnotfs: There is nothing at '{filled}:to'.\n"


def test_no_such_bucket(cli: Cli) -> None:
    done = cli("ls", "no-such-bucket")
    assert (done.code, done.out) == (1, "")
    assert "There is no bucket 'no-such-bucket'" in done.err
    assert "qarnotfs mb no-such-bucket" in done.err


def test_odd_keys_take_one_line_and_cannot_command_the_terminal(
    cli: Cli, s3: S3Client, bucket: str
) -> None:
    fill(s3, bucket, dict.fromkeys(ODD, b"1"))
    shown = [key.replace("\n", "\\n").replace("\x1b", "\\x1b") for key in sorted(ODD)]
    assert lines(cli, "-r", bucket) == shown
    assert [entry["key"] for entry in document(cli, "-r", bucket)] == sorted(ODD)
    assert lines(cli, f"{bucket}:a/") == ["/"]
    assert lines(cli, f"{bucket}:a//") == ["b"]
    assert lines(cli, f"{bucket}:/") == ["lead"]
    s3.delete_object(Bucket=bucket, Key="esc\x1b[2J")  # no XML can say it


def test_more_than_a_page(cli: Cli, s3: S3Client, bucket: str, gateway: Gateway) -> None:
    """One level costs what it shows, not what is below."""
    keys = [*(f"big/{n:04}" for n in range(1001)), "z"]
    fill(s3, bucket, dict.fromkeys(keys, b""))
    mark = gateway.mark()
    assert lines(cli, "-r", bucket) == keys
    assert [request.method for request in gateway.requests(mark)] == ["GET", "GET"]
    mark = gateway.mark()
    assert lines(cli, bucket) == ["big/", "z"]
    assert [request.method for request in gateway.requests(mark)] == ["GET"]


# --- with a view --------------------------------------------------------------------------


def test_a_view_is_what_a_mount_shows(cli: Cli, filled: str) -> None:
    view = ["--prefix", "a", "--strip-prefix", "a/"]
    assert lines(cli, *view, filled) == ["ab", "b/", "x"]
    assert lines(cli, *view, "-r", filled) == ["ab", "b/y", "x"]
    assert lines(cli, *view, f"{filled}:b") == ["y"]
    [entry] = document(cli, *view, f"{filled}:b/y")
    assert (entry["key"], entry["stored_key"], entry["size"]) == ("b/y", "a/b/y", 1536)
    assert cli("ls", *view, f"{filled}:top").code == 1


def test_a_filter_is_no_directory(cli: Cli, filled: str) -> None:
    assert lines(cli, "--prefix", "a", filled) == ["a/", "ab"]
    assert lines(cli, "--prefix", "a/b/", filled) == ["a/"]
    assert lines(cli, "--prefix", "a/b/", f"{filled}:a") == ["b/"]


def test_of_two_keys_under_one_name_the_stripped_one_is_shown(
    cli: Cli, s3: S3Client, bucket: str
) -> None:
    fill(s3, bucket, {"s/x": b"stripped", "x": b"", "y": b"", "s/z": b""})
    found = document(cli, "--strip-prefix", "s/", "-r", bucket)
    assert [(entry["key"], entry["stored_key"]) for entry in found] == [
        ("x", "s/x"),
        ("y", "y"),
        ("z", "s/z"),
    ]


@pytest.mark.parametrize("option", ["--prefix", "--strip-prefix"])
def test_a_view_needs_a_bucket(cli: Cli, option: str) -> None:
    done = cli("ls", option, "x")
    assert (done.code, "need a BUCKET" in done.err) == (2, True)


def test_a_spec_names_the_bucket_too(cli: Cli, filled: str, tmp_path: Path) -> None:
    spec = {"bucketName": filled, "filtering": {"prefixFiltering": {"prefix": "a/b"}}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert lines(cli, "--spec", tmp_path / "spec.json", "-r") == ["a/b/y"]
    other = cli("ls", "--spec", tmp_path / "spec.json", "another")
    assert (other.code, f"describes '{filled}', not 'another'" in other.err) == (2, True)


# --- account ------------------------------------------------------------------------------


def test_options_for_the_server_are_those_of_mount(cli: Cli, gateway: Gateway, bucket: str) -> None:
    given = ["--endpoint", gateway.endpoint, "--region", "default"]
    assert bucket in cli("ls", *given, AWS_ENDPOINT_URL="").ok().out
    assert bucket in cli("ls", AWS_ENDPOINT_URL="", QARNOTFS_ENDPOINT=gateway.endpoint).ok().out


def test_wrong_credentials(cli: Cli, bucket: str) -> None:
    for words in ([], [bucket]):
        done = cli("ls", *words, AWS_SECRET_ACCESS_KEY="wrong")
        assert (done.code, done.out) == (1, "")
        assert "does not accept the credentials" in done.err


def test_no_credentials(cli: Cli) -> None:
    done = cli("ls", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert (done.code, "There are no credentials" in done.err) == (2, True)


@pytest.mark.parametrize("word", ["/etc", "./a", ":key", ""])
def test_what_cannot_be_a_bucket(cli: Cli, word: str) -> None:
    done = cli("ls", word)
    assert (done.code, "is not a BUCKET or BUCKET:KEY" in done.err) == (2, True)
