"""The reading benchmark's rows read exactly the files that are made for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.read_once import DOINGS
from bench.reading_rows import DEEP_KEYS_MAX, Scenario, Sizes, make, needed, remount_row, scenarios

SIZES = Sizes(file_mib=1, small_files=120, random_reads=5, keys=(230, 50))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("data")
    for directory in needed(list(scenarios(SIZES))):
        make(top, directory, SIZES)
    return top


@pytest.mark.parametrize("scenario", list(scenarios(SIZES)), ids=lambda scenario: scenario.name)
def test_a_local_disk_shows_what_every_row_expects(data: Path, scenario: Scenario) -> None:
    for step in scenario.steps:
        doing, *words = step.words(data)
        wall_sec, seen = DOINGS[doing](*words)
        assert seen == step.expected, step.row
        assert wall_sec > 0


def test_every_row_has_a_name_of_its_own() -> None:
    rows = [step.row for scenario in scenarios(SIZES) for step in scenario.steps]
    assert len(rows) == len(set(rows))
    assert remount_row(SIZES) in rows


def test_a_directory_is_stored_once() -> None:
    few, many = (
        needed(list(scenarios(SIZES._replace(keys=(keys,)))))
        for keys in (DEEP_KEYS_MAX, DEEP_KEYS_MAX + 1)
    )
    assert few == {"big", "small", f"flat-{DEEP_KEYS_MAX}", f"deep-{DEEP_KEYS_MAX}"}
    assert many == {"big", "small", f"flat-{DEEP_KEYS_MAX + 1}"}


def test_a_row_after_a_remount_is_never_the_first() -> None:
    assert not any(scenario.steps[0].remount for scenario in scenarios(SIZES))
