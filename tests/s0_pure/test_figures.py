"""What people read: times, rates, what is left."""

from __future__ import annotations

import pytest

from qarnotfs.figures import bar_text, left_text, time_text


@pytest.mark.parametrize(
    ("sec", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3600, "1 h 00 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_times(sec: float, text: str) -> None:
    assert time_text(sec) == text


@pytest.mark.parametrize(
    ("refused", "rate", "eta_sec", "text"),
    [
        (0, 0.0, None, "2 files left (3.0 KiB)"),
        (0, 1024.0, 3.0, "2 files left (3.0 KiB), 1.0 KiB/s, 3 s to go"),
        (1, 1024.0, 2.0, "1 file left (2.0 KiB), 1.0 KiB/s, 2 s to go; 1 file refused (1.0 KiB)"),
        (2, 0.0, None, "2 files refused (2.0 KiB)"),
    ],
)
def test_what_is_left(refused: int, rate: float, eta_sec: float | None, text: str) -> None:
    status = {
        "pending_files": 2,
        "pending_bytes": 3072,
        "refused_files": refused,
        "refused_bytes": 1024 * refused,
        "upload_bytes_per_sec": rate,
        "upload_eta_sec": eta_sec,
    }
    assert left_text(status) == text


@pytest.mark.parametrize(
    ("done", "whole", "filled"), [(0, 10, 0), (5, 10, 10), (9, 10, 18), (10, 10, 20), (0, 0, 20)]
)
def test_bars(done: int, whole: int, filled: int) -> None:
    assert bar_text(done, whole) == f"[{'#' * filled}{'.' * (20 - filled)}]"
