"""Which keys of a bucket are seen, and under which names: the SDK's classes and their JSON.

Used by `Bucket`'s constructor and by programs. They only say it; what it means for a key
is `views`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from qarnotfs.views import FILTER_KIND, STRIP_KIND


class _Prefix:
    """One rule about a key's beginning; `name` is its kind in the SDK's JSON."""

    name: str

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.prefix!r})"

    @classmethod
    def from_json(cls, json: dict[str, str]) -> Self:
        """The rule that `to_json`, or the SDK's, describes: ``{"prefix": ..}``."""
        return cls(json["prefix"])

    def to_json(self) -> dict[str, str]:
        """``{"prefix": ..}``"""
        return {"prefix": self.prefix}


class BucketPrefixFiltering(_Prefix):
    """Only keys that start with ``prefix``."""

    name = FILTER_KIND


class PrefixResourcesTransformation(_Prefix):
    """Keys are seen without ``prefix``."""

    name = STRIP_KIND


class _Rules:
    """Rules of a bucket, at most one of each kind. The SDK's own objects are as welcome."""

    known: type[_Prefix]

    def __init__(self) -> None:
        self._by_kind: dict[str, _Prefix] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._by_kind.values())})"

    def append(self, rule: _Prefix) -> None:
        """Add a rule, in place of one of the same kind."""
        self._by_kind[rule.name] = rule

    @classmethod
    def from_json(cls, json: dict[str, dict[str, str]]) -> Self:
        """Read the SDK's dict; kinds that are not known are left out, as the SDK does."""
        rules = cls()
        if cls.known.name in json:
            rules.append(cls.known.from_json(json[cls.known.name]))
        return rules

    def to_json(self) -> dict[str, dict[str, str]]:
        """The SDK's dict: kind -> rule."""
        return {kind: rule.to_json() for kind, rule in self._by_kind.items()}

    def cleaned(self, clean: Callable[[str], str]) -> Self:
        """A copy whose prefixes are what ``clean`` makes of them."""
        rules = type(self)()
        for rule in self._by_kind.values():
            rules.append(type(rule)(clean(rule.prefix)))
        return rules


class Filtering(_Rules):
    """Which keys of a bucket are seen."""

    known = BucketPrefixFiltering


class ResourcesTransformation(_Rules):
    """Under which names they are seen."""

    known = PrefixResourcesTransformation
