"""Why the path of some keys is not the key itself. Pure.

Used by ``qarnotfs check``. The paths are those of `tree` and `names`; here is said why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qarnotfs.core import names
from qarnotfs.errors import NameTooLong
from qarnotfs.views import View


@dataclass(frozen=True, slots=True)
class Explained:
    """A stored key, its path on the mount (``None``: it has none), and why, in sentences."""

    key: str
    path: str | None
    why: str


def explain(view: View, keys: Iterable[tuple[str, int]]) -> Iterator[Explained]:
    """Each of the keys (with its size) whose path needs an escape, or that has no path.

    Keeps what is visible in memory: whether a file clashes with a directory is known when
    the last key was seen.
    """
    files: dict[str, str] = {}  # stored key by visible key
    directories: set[str] = set()
    for key, size in keys:
        visible = view.visible(key)
        if visible is None:
            continue
        directories.update(_directories(visible))
        if size or not visible.endswith("/"):
            loser = key
            if (rival := files.get(visible)) is None or _wins(view, visible, key, rival):
                loser, files[visible] = files.get(visible, ""), key
            if loser:
                yield Explained(loser, None, f"'{files[visible]}' is seen under its name.")
    for visible, key in files.items():
        found = _explained(key, visible, is_directory_too=f"{visible}/" in directories)
        if found is not None:
            yield found


def _explained(key: str, visible: str, *, is_directory_too: bool) -> Explained | None:
    segments = names.split(visible)
    whys = [_why(segment) for segment in segments[:-1]]
    whys.append(_why(segments[-1], clash=is_directory_too))
    said = " ".join(dict.fromkeys(why for why in whys if why))
    if not said:
        return None
    try:
        path = [names.encode(segment) for segment in segments[:-1]]
        path.append(names.encode(segments[-1], is_directory_too))
    except NameTooLong:
        longest = names.NAME_BYTES_MAX
        return Explained(
            key, None, f"{said} That takes more than {longest} bytes: no path can name it."
        )
    return Explained(key, b"/".join(path).decode(), said)


def _why(segment: str, *, clash: bool = False) -> str:
    """What is the matter with a segment; empty: nothing."""
    if segment == "":
        return "It has an empty part, which a path cannot have: %2F stands for it."
    if segment in (".", ".."):
        return f"A path takes '{segment}' for a direction: %2E stands for the dot."
    if "\0" in segment:
        return "No path can hold the character NUL: %00 stands for it."
    if clash:
        return "There is a directory of this name, too: %FILE is added to the file's."
    if names.is_escaped(segment):
        return "It looks like one of our escapes: a 25 is added behind the %."
    return ""


def _wins(view: View, visible: str, key: str, other: str) -> bool:
    order = view.candidates(visible)
    return order.index(key) < order.index(other)


def _directories(visible: str) -> Iterator[str]:
    """Every directory a key is in, or is."""
    at = visible.find("/")
    while at >= 0:
        yield visible[: at + 1]
        at = visible.find("/", at + 1)
