"""The benchmark's rows read, write and expect exactly the files that are made for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import data as files
from bench.do_once import do
from bench.reading_rows import DEEP_KEYS_MAX
from bench.reading_rows import scenarios as reading
from bench.rows import NEW, Scenario, Sizes, in_bucket, on_disk
from bench.run import ROWS
from bench.writing_rows import scenarios as writing

SIZES = Sizes(
    file_mib=(4, 2),
    change_mib=1,
    small_files=120,
    source_files=30,
    renamed_files=7,
    random_reads=5,
    keys=(230, 50),
)
EVERYTHING = [*reading(SIZES), *writing(SIZES)]
AT_ONCE = [scenario for scenario in EVERYTHING if scenario.name != "stat"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("data")
    for name in sorted(in_bucket(EVERYTHING) | on_disk(EVERYTHING)):
        files.make(top, name, SIZES)
    return top


@pytest.fixture
def clean(data: Path) -> Iterator[Path]:
    yield data
    for path in data.glob(f"{NEW}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("scenario", AT_ONCE, ids=lambda scenario: scenario.steps[0].row)
def test_a_local_disk_shows_what_every_row_expects(clean: Path, scenario: Scenario) -> None:
    for source, target in scenario.before:
        if (clean / source).is_dir():
            shutil.copytree(clean / source, clean / target)
        else:
            shutil.copy(clean / source, clean / target)
    for step in scenario.steps:
        took = do(*step.words(clean, clean))
        assert took.seen == step.expected, step.row
        assert took.wall_sec > 0
        if step.effect:
            for key, source in step.effect.written:
                assert tree(clean / key, step.effect.loose) == tree(
                    clean / source, step.effect.loose
                )
            assert not any((clean / key).exists() for key in step.effect.gone)


def tree(top: Path, loose: tuple[str, ...]) -> dict[str, bytes]:
    """The files, but for those whose bytes nobody knows before."""
    if top.is_file():
        return {"": top.read_bytes()}
    return {
        str(path.relative_to(top)): b""
        if any(part in str(path) for part in loose)
        else path.read_bytes()
        for path in top.rglob("*")
        if path.is_file()
    }


def test_a_change_leaves_the_size() -> None:
    assert 0 < files.change_at(1 << 20) < (1 << 20) - files.CHANGE_BYTES


def test_every_row_has_a_name_of_its_own_and_can_be_chosen() -> None:
    rows = [step.row for scenario in EVERYTHING for step in scenario.steps]
    assert len(rows) == len(set(rows))
    assert {scenario.name for scenario in EVERYTHING} == set(ROWS)


def test_only_what_is_read_is_stored() -> None:
    by_name = {scenario.name: scenario for scenario in EVERYTHING}
    assert in_bucket([by_name["write"], by_name["create"]]) == set()
    assert on_disk([by_name["create"]]) == {"small"}
    assert in_bucket([by_name["change"]]) == {"base-1"}
    assert on_disk([by_name["change"]]) == {"changed-1"}
    assert in_bucket([by_name["rename"]]) == on_disk([by_name["rename"]]) == {"renamed-7"}


def test_a_large_directory_is_stored_once() -> None:
    few, many = (
        in_bucket(reading(SIZES._replace(keys=(keys,))))
        for keys in (DEEP_KEYS_MAX, DEEP_KEYS_MAX + 1)
    )
    assert few - many == {f"flat-{DEEP_KEYS_MAX}", f"deep-{DEEP_KEYS_MAX}"}
    assert many - few == {f"flat-{DEEP_KEYS_MAX + 1}"}


def test_a_scenario_never_begins_with_a_remount() -> None:
    assert not any(one.steps[0].remount or one.steps[0].elsewhere for one in EVERYTHING)
