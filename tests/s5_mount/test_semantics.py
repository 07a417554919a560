"""docs/SEMANTICS.md: every decision has a test with its number, and the examples are true."""

from __future__ import annotations

import doctest
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from tests.conftest import remove_bucket
from tests.s5_mount.mounting import COMMAND_SEC_MAX, PROGRAM, Cli, Mount

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "SEMANTICS.md"
BLOCKS = {
    block.map[0] + 1: block.content
    for block in MarkdownIt().parse(PAGE.read_text())
    if block.info == "console" and block.map
}
END = "-- end of one command --"


def test_every_decision_has_a_test_and_every_marker_a_decision() -> None:
    decisions = re.findall(r"^\*\*(\d+)\. ", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number in decisions] == list(range(1, len(decisions) + 1))
    sources = (path.read_text() for path in TESTS.rglob("test_*.py"))
    marker = re.compile(r"^@pytest\.mark\.decision\(([\d, ]+)\)$", re.MULTILINE)
    marked = {
        number for text in sources for said in marker.findall(text) for number in said.split(", ")
    }
    assert marked == set(decisions)


@pytest.fixture
def mount(cli: Cli, s3: S3Client, tmp_path: Path) -> Iterator[Mount]:
    """The bucket of the page, mounted."""
    made = Mount(cli, "data", tmp_path / "mnt", tmp_path / "cache")
    s3.create_bucket(Bucket=made.bucket)
    made.start([], {})
    yield made
    made.remove()
    remove_bucket(s3, made.bucket)


@pytest.mark.parametrize("line", BLOCKS)
def test_the_example(line: int, mount: Mount, cli: Cli) -> None:
    """Its commands, one after the other in one shell, say what the page says."""
    commands = re.split(r"^\$ ", BLOCKS[line], flags=re.MULTILINE)[1:]
    pairs = [command.partition("\n")[::2] for command in commands]
    script = "".join(f"{command}\necho '{END}'\n" for command, _ in pairs)
    path = f"{PROGRAM.parent}:{cli.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=mount.path.parent,
        env=cli.environment | {"PATH": path, "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SEC_MAX,
        check=False,
    )
    outputs = done.stdout.split(f"{END}\n")[:-1]
    said = "".join(
        f"$ {command}\n{output}" for (command, _), output in zip(pairs, outputs, strict=True)
    )
    assert doctest.OutputChecker().check_output(BLOCKS[line], said, doctest.ELLIPSIS), said
