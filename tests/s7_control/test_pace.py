"""How fast it uploads: the mean of the last seconds in which there was something to upload."""

from __future__ import annotations

import pytest

from qarnotfs.session.pace import WINDOW_SEC, Pace


def paced(*notes: tuple[float, int, int]) -> Pace:
    pace = Pace()
    for note in notes:
        pace.note(*note)
    return pace


def test_nothing_is_known_at_first() -> None:
    for pace in (Pace(), paced((0, 0, 100))):
        assert (pace.bytes_per_sec(), pace.eta_sec(100)) == (0, None)


def test_rate_and_time_to_go() -> None:
    pace = paced((0, 0, 100), (1, 20, 80), (2, 40, 60))
    assert (pace.bytes_per_sec(), pace.eta_sec(60)) == (20, 3)


def test_an_outage_is_felt_within_the_window() -> None:
    pace = paced((0, 0, 100), (1, 50, 50), *((2.0 + n, 50, 50) for n in range(int(WINDOW_SEC) + 1)))
    assert (pace.bytes_per_sec(), pace.eta_sec(50)) == (0, None)


def test_idle_times_do_not_count() -> None:
    pace = paced((0, 0, 0), (5, 0, 0), (6, 30, 70))
    assert pace.bytes_per_sec() == pytest.approx(30)


def test_parts_that_are_sent_again_are_no_negative_rate() -> None:
    assert paced((0, 80, 20), (1, 0, 100)).bytes_per_sec() == 0
