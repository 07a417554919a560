"""Sizes, times and modes, as people write them."""

from __future__ import annotations

import click
import pytest

from qarnotfs.cli.units import (
    address,
    duration,
    duration_text,
    host_and_port,
    octal,
    size,
    whole_seconds,
)
from qarnotfs.figures import bytes_text, files_text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("500000", 500_000),
        ("64K", 64 << 10),
        ("1.5g", 3 << 29),
        ("10 GiB", 10 << 30),
        ("2TB", 2 << 40),
        ("7b", 7),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "sec"),
    [("90", 90), ("0.5s", 0.5), ("250ms", 0.25), ("15m", 900), ("12H", 43_200), ("30d", 2_592_000)],
)
def test_times(text: str, sec: float) -> None:
    assert duration(text) == sec


@pytest.mark.parametrize("text", ["0s", "0.5s", "90s", "15m", "12h", "30d"])
def test_times_are_written_as_they_are_read(text: str) -> None:
    assert duration_text(duration(text)) == text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9200", "127.0.0.1", 9200),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::]:9200", "::", 9200),
        ("node-7.example.org:9200", "node-7.example.org", 9200),
    ],
)
def test_addresses_are_of_this_machine_unless_said(text: str, host: str, port: int) -> None:
    assert host_and_port(address(text)) == (host, port)
    assert address(address(text)) == address(text)


@pytest.mark.parametrize("text", ["", "x", "70000", ":9200", "::1:9200", "a b:1", "host:"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(click.BadParameter):
        address(text)


def test_whole_seconds_have_no_fraction() -> None:
    assert whole_seconds("1.9s") == 1


@pytest.mark.parametrize(("text", "mode"), [("022", 0o22), ("0o7", 7), ("0", 0)])
def test_modes(text: str, mode: int) -> None:
    assert octal(text) == mode


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "1e3", "1,5G", "ten", "1GG", "0x10"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size such as"):
        size(text)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1y", "1:30", "inf", "nan"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time such as"):
        duration(text)


@pytest.mark.parametrize("text", ["", "8", "u=rw", "-22", "77777"])
def test_what_is_no_mode_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an octal mode"):
        octal(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (10 << 30, "10.0 GiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_sizes_are_read_out(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_one_file_is_not_files() -> None:
    assert [files_text(n) for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
