"""Which names the debts add to a directory, and which they take away.

Used by `journal`, which keeps it up to date, and through it by the tree. Pure.

A key with a debt is *present* (the bucket will have it) or *absent* (it will not). A
directory that only debts know of exists while something below it is present.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Overlay:
    """Keys with debts, found by directory. Prefixes are ``""`` or end in ``/``."""

    def __init__(self) -> None:
        self._keys: dict[str, bool] = {}
        # Invariant: _children[p] has every child (a key's last segment, or a segment and
        # "/") below which some key of _keys lies, with how many such keys are present.
        self._children: dict[str, dict[str, list[int]]] = {}

    def set(self, key: str, present: bool) -> None:
        """The last debt of ``key`` leaves it present or absent."""
        if self._keys.get(key) is not present:
            self.drop(key)
            self._keys[key] = present
            self._count(key, 1, int(present))

    def drop(self, key: str) -> None:
        """There is no debt for ``key`` any more."""
        present = self._keys.pop(key, None)
        if present is not None:
            self._count(key, -1, -int(present))

    def get(self, key: str) -> bool | None:
        """Whether ``key`` will be in the bucket; ``None`` where no debt says so."""
        return self._keys.get(key)

    def exists_below(self, prefix: str) -> bool:
        """Whether a key at or below the directory ``prefix`` is present."""
        parent, child = _split(prefix[:-1])
        counts = self._children.get(parent, {}).get(child + "/")
        return bool(counts and counts[1])

    def children(self, prefix: str) -> Mapping[str, bool]:
        """Direct children of a directory: name or ``name/`` -> whether something is present."""
        found = self._children.get(prefix, {})
        return {child: counts[1] > 0 for child, counts in found.items()}

    def keys_below(self, prefix: str) -> list[str]:
        """Every key with a debt that starts with the directory ``prefix``."""
        found: list[str] = []
        for child in self._children.get(prefix, {}):
            if child.endswith("/"):
                found += self.keys_below(prefix + child)
            else:
                found.append(prefix + child)
        return found

    def _count(self, key: str, keys: int, present: int) -> None:
        for prefix, child in _path(key):
            children = self._children.setdefault(prefix, {})
            counts = children.setdefault(child, [0, 0])
            counts[0] += keys
            counts[1] += present
            if not counts[0]:
                del children[child]
                if not children:
                    del self._children[prefix]


def _split(key: str) -> tuple[str, str]:
    at = key.rfind("/") + 1
    return key[:at], key[at:]


def _path(key: str) -> Iterator[tuple[str, str]]:
    """(directory, child) for each level of a key: ``a/b`` -> ("", "a/"), ("a/", "b")."""
    start = 0
    while (at := key.find("/", start)) >= 0:
        yield key[:start], key[start : at + 1]
        start = at + 1
    yield key[:start], key[start:]
