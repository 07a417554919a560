"""The pages about `Bucket`: the guide's examples run, and the reference says what the code says."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import qarnotfs
from docs import api as reference
from tests.qarnot_api import QarnotApi

GUIDE = Path(__file__).parents[2] / "docs" / "BUCKET.md"


@pytest.mark.gateway
@pytest.mark.filterwarnings("ignore::DeprecationWarning:qarnot")  # the SDK's own
def test_the_examples_of_the_guide(
    api: QarnotApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One program from top to bottom, in which an error names the page's own line."""
    monkeypatch.chdir(tmp_path)
    for name, value in api.environ.items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {}
    blocks = [block for block in MarkdownIt().parse(GUIDE.read_text()) if block.info == "python"]
    assert blocks
    for block in blocks:
        assert block.map is not None
        padding = "\n" * (block.map[0] + 1)
        exec(compile(padding + block.content, str(GUIDE), "exec"), names)


def test_the_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.text(), "run `make docs`"


def test_the_reference_is_complete() -> None:
    """Every public name is there, and every method has a docstring: without, it is left out."""
    assert set(qarnotfs.__all__) - {"__version__"} <= set(reference.NAMES)
    silent = [
        f"{name}.{method}"
        for name in reference.NAMES
        for method, found in inspect.getmembers(getattr(qarnotfs, name, object), callable)
        if not method.startswith("_") and not found.__doc__
    ]
    assert silent == []
