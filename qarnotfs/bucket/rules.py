"""Which keys of a bucket are seen, and under which names: the SDK's classes and their JSON.

Used by `Bucket`'s constructor and by programs. They only say it; what it means for a key
is `views`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Self, TypeVar

from qarnotfs.errors import UsageError
from qarnotfs.views import FILTER_KIND, STRIP_KIND, sanitized


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
    """``BucketPrefixFiltering(prefix: str)``: only keys that start with ``prefix``."""

    name = FILTER_KIND

    def sanitize_filter_paths(self, show_warnings: bool) -> None:
        """Clean the prefix in place: the SDK's `Bucket` asks it of what it is given."""
        self.prefix = sanitized(self.prefix)


class PrefixResourcesTransformation(_Prefix):
    """``PrefixResourcesTransformation(prefix: str)``: keys are seen without ``prefix``."""

    name = STRIP_KIND

    def sanitize_transformation_paths(self, show_warnings: bool) -> None:
        """Clean the prefix in place: the SDK's `Bucket` asks it of what it is given."""
        self.prefix = sanitized(self.prefix)


Rule = TypeVar("Rule", bound=_Prefix)


class _Rules(Generic[Rule]):
    """Rules of a bucket, at most one of each kind. The SDK's own objects are as welcome."""

    known: type[Rule]

    def __init__(self) -> None:
        self._by_kind: dict[str, Rule] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._by_kind.values())})"

    def append(self, rule: Rule) -> None:
        """Add a rule, ours or the SDK's, in place of one of the same kind."""
        self._by_kind[rule.name] = rule

    @classmethod
    def from_json(cls, json: dict[str, dict[str, str]]) -> Self:
        """Read the SDK's dict: ``{kind: {"prefix": ..}}``, or ``{}``.

        `UsageError` for a kind that is not known: without it more would be seen, and written.
        """
        rules = cls()
        for kind, said in json.items():
            if kind != cls.known.name:
                raise UsageError(f"{kind!r} is not known here, only {cls.known.name!r} is.")
            rules.append(cls.known.from_json(said))
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


class Filtering(_Rules[BucketPrefixFiltering]):
    """``Filtering()``: which keys of a bucket are seen; all of them until a rule is appended."""

    known = BucketPrefixFiltering

    def sanitize_filter_paths(self, show_warnings: bool) -> None:
        """Clean every rule in place: the SDK's `Bucket` asks it of what it is given."""
        for rule in self._by_kind.values():
            rule.sanitize_filter_paths(show_warnings)


class ResourcesTransformation(_Rules[PrefixResourcesTransformation]):
    """``ResourcesTransformation()``: under which names keys are seen; their own without a rule."""

    known = PrefixResourcesTransformation

    def sanitize_transformation_paths(self, show_warnings: bool) -> None:
        """Clean every rule in place: the SDK's `Bucket` asks it of what it is given."""
        for rule in self._by_kind.values():
            rule.sanitize_transformation_paths(show_warnings)
