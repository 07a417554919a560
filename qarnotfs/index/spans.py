"""Where the rest of a long listing may be cut, so that its pieces are listed at once. Pure.

Used by `sweep`. Names of large directories are mostly numbers, digests or dates: of the names
seen so far, those that follow differ in one character from the last. Whether there are any is
for the bucket to say: a point that was guessed wrong costs one question, and never a name.
"""

from __future__ import annotations

from collections.abc import Iterable

DIGITS = "0123456789"
HEX = "0123456789abcdef"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DEPTH_MAX = 12  # characters from where the names begin to differ back to the first


def firsts(prefix: str, first: str, last: str) -> list[str]:
    """Points behind ``last``, outermost first: one for each character that may still change.

    The names from ``first`` to ``last`` were seen. What changed among them is not worth a piece.
    """
    name, alphabet = last[len(prefix) :], _alphabet(prefix, first, last)
    same = _same(prefix, first, last)
    places = range(max(0, same - DEPTH_MAX), same)
    return [points[0] for at in places if (points := _points(prefix, name, at, alphabet))]


def all_of(prefix: str, first: str, last: str, point: str) -> list[str]:
    """Every point like ``point``, one of `firsts`, and those one character further in; in order."""
    name, at = last[len(prefix) :], len(point) - len(prefix) - 1
    alphabet = _alphabet(prefix, first, last)
    inner = [at + 1] if at + 1 < _same(prefix, first, last) else []
    return [point for at in [*inner, at] for point in _points(prefix, name, at, alphabet)]


def _same(prefix: str, first: str, last: str) -> int:
    """How many characters the names share."""
    pairs = enumerate(zip(first[len(prefix) :], last[len(prefix) :], strict=False))
    return next((at for at, (a, b) in pairs if a != b), 0)


def _points(prefix: str, name: str, at: int, alphabet: str) -> list[str]:
    known = next((chars for chars in (alphabet, LETTERS) if name[at] in chars), "")
    return [f"{prefix}{name[:at]}{char}" for char in known if char > name[at]]


def _alphabet(prefix: str, first: str, last: str) -> str:
    """Digits, or all of the hexadecimal ones where names have letters among their digits."""
    seen = set(first[len(prefix) :].partition(".")[0] + last[len(prefix) :].partition(".")[0])
    return HEX if seen & set(HEX[10:]) and seen <= set(HEX + "-") else DIGITS


def cuts(found: Iterable[tuple[str, str | None]]) -> list[str]:
    """Points with something between each and the next, of (point, the first name behind it)."""
    kept: list[str] = []
    last: str | None = None
    for point, name in sorted(found, key=lambda pair: pair[0]):
        if name is None:
            break
        if name == last:
            kept.pop()  # nothing lies between it and this one
        kept.append(point)
        last = name
    return kept
