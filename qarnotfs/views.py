"""Views: which keys of a bucket are seen, under which names, and where new ones go. Pure.

A view is a filter (a prefix of stored keys), then a strip (a prefix taken off). Both are
*string* prefixes, as in the Qarnot SDK, not directories: ``img`` admits ``img1.png`` and
``images/x``. Three words are used throughout:

    stored   the key in the bucket                            projects/2024/a.csv
    visible  what is left of it in this view, never empty     2024/a.csv
    hidden   not admitted by the filter, or left empty by stripping

Used by `core` to draw the tree, by `writeback`'s callers to name what they owe, by the
two faces to read a bucket's JSON. It knows nothing of file names (`core.names` does) and
never asks the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qarnotfs.errors import NotPermitted, UsageError

FILTER_KIND = "prefixFiltering"
STRIP_KIND = "stripPrefix"
SPEC_FIELDS = ("bucketName", "filtering", "resourcesTransformation", "cacheTTLSec")


@dataclass(frozen=True, slots=True)
class Scope:
    """One stored prefix to list, with delimiter ``/``, to learn a part of a visible directory.

    Every key below ``prefix`` passes the filter. ``admitted``: the directory itself does
    too. When false, ``prefix`` is the filter and lies deeper than the directory: what is
    listed may be its grandchildren, and most new names in it would not be permitted.
    """

    prefix: str
    admitted: bool


@dataclass(frozen=True, slots=True)
class View:
    """A filter and a strip, sanitised as the SDK does it; ``""`` stands for none.

    `UsageError` for a prefix that cannot be part of a key.
    """

    filter_prefix: str = ""
    strip_prefix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "filter_prefix", sanitized(self.filter_prefix))
        object.__setattr__(self, "strip_prefix", sanitized(self.strip_prefix))

    def admits(self, key: str) -> bool:
        """Whether a stored key passes the filter."""
        return key.startswith(self.filter_prefix)

    def visible(self, key: str) -> str | None:
        """The name of a stored key in this view; ``None``: hidden."""
        if not self.admits(key):
            return None
        return self._stripped(key) or None

    def visible_prefix(self, prefix: str) -> str | None:
        """The visible directory that a common prefix of a `Scope`'s listing stands for.

        ``None``: its keys are seen in a directory further up, which has a scope of its own.
        A prefix above the strip (``a/`` under strip ``a/b/``) is seen unchanged, though it
        looks empty when every key below it is stripped: only listing it would tell.
        """
        return self.visible(prefix)

    def candidates(self, visible_key: str) -> tuple[str, ...]:
        """Every stored key that would be seen as this one. Where several exist, the first wins."""
        forms = list(self._stripped_forms(visible_key))
        if self.strip_prefix:
            forms.append(visible_key)
        return tuple(key for key in forms if self.visible(key) == visible_key)

    def stored(self, visible_key: str) -> str:
        """Where a new visible key is stored; `NotPermitted` where the filter would hide it."""
        for key in self._stripped_forms(visible_key):
            if self.visible(key) == visible_key:
                return key
        raise NotPermitted(
            f"'{visible_key}' cannot be written here: "
            f"this mount has only keys that start with '{self.filter_prefix}'."
        )

    def scopes(self, visible_prefix: str) -> tuple[Scope, ...]:
        """What to list to learn every child of a visible directory: ``""``, or ends in ``/``.

        A listed key or common prefix is a child, or below one, when its visible form starts
        with the directory and is longer; others belong elsewhere. None is missing.
        """
        found: dict[str, bool] = {}
        for base in self._bases(visible_prefix):
            if self.admits(base):
                found[base] = True
            elif self.filter_prefix.startswith(base):
                found[self.filter_prefix] = False
        return tuple(
            Scope(prefix, admitted)
            for prefix, admitted in found.items()
            if not any(_lists_all_of(other, prefix) for other in found)
        )

    def _stripped(self, text: str) -> str:
        """``text`` without the strip prefix and the separator that belongs to it."""
        strip = self.strip_prefix
        if not (strip and text.startswith(strip)):
            return text
        rest = text[len(strip) :]
        # "a" off "a/x" leaves "x". After "a/" a further "/" is an empty segment, and is kept.
        return rest if strip.endswith("/") else rest.removeprefix("/")

    def _stripped_forms(self, visible: str) -> Iterator[str]:
        """What `_stripped` may have turned into ``visible``; the caller tries each."""
        yield self.strip_prefix + visible
        if self.strip_prefix and not self.strip_prefix.endswith("/"):
            yield f"{self.strip_prefix}/{visible}"

    def _bases(self, visible_prefix: str) -> Iterator[str]:
        """Stored prefixes that hold all of a visible directory, before the filter."""
        yield from self._stripped_forms(visible_prefix)
        strip = self.strip_prefix
        # Below the strip prefix every key is stripped: nothing there is seen unchanged.
        if not self.filter_prefix.startswith(strip) and not visible_prefix.startswith(strip):
            yield visible_prefix


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """What the SDK's JSON of a bucket says: ``Bucket.to_json()`` and back.

    ``cache_ttl_sec``: ``None`` where the bucket does not say. `UsageError` for values that
    cannot be right.
    """

    bucket: str
    view: View = field(default_factory=View)
    cache_ttl_sec: int | None = None

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise UsageError(f"A bucket needs a name without '/', not {self.bucket!r}.")
        if self.cache_ttl_sec is not None and self.cache_ttl_sec < 0:
            raise UsageError(f"cacheTTLSec is at least 0, not {self.cache_ttl_sec}.")

    @classmethod
    def from_json(cls, json: object) -> BucketSpec:
        """Read the SDK's dict. What we do not know is a `UsageError`: ignoring a filter would
        show, and write to, more than was meant.
        """
        fields = _fields(json, "A bucket", known=SPEC_FIELDS)
        bucket, ttl_sec = fields.get("bucketName"), fields.get("cacheTTLSec")
        if not isinstance(bucket, str):
            raise UsageError(f"A bucket needs a 'bucketName' that is a string, not {bucket!r}.")
        if ttl_sec is not None and type(ttl_sec) is not int:  # a bool is an int, too
            raise UsageError(f"'cacheTTLSec' is a whole number of seconds, not {ttl_sec!r}.")
        view = View(
            filter_prefix=_prefix(fields, "filtering", FILTER_KIND),
            strip_prefix=_prefix(fields, "resourcesTransformation", STRIP_KIND),
        )
        return cls(bucket, view, ttl_sec)

    def to_json(self) -> dict[str, object]:
        """The SDK's dict, in its order. An empty prefix, which says nothing, is left out."""
        return {
            "bucketName": self.bucket,
            "filtering": _kind(FILTER_KIND, self.view.filter_prefix),
            "resourcesTransformation": _kind(STRIP_KIND, self.view.strip_prefix),
            "cacheTTLSec": self.cache_ttl_sec,
        }


def sanitized(prefix: str) -> str:
    """``qarnot._util.get_sanitized_bucket_path``, once, with its order of steps."""
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise UsageError(f"The prefix {prefix!r} is not valid UTF-8.") from None
    for separator in "/\\":
        while separator * 2 in prefix:
            prefix = prefix.replace(separator * 2, separator)
        prefix = prefix.lstrip(separator)
    return prefix.strip()


def _lists_all_of(other: str, prefix: str) -> bool:
    """Whether listing ``other`` with delimiter ``/`` shows all that listing ``prefix`` shows."""
    return other != prefix and prefix.startswith(other) and "/" not in prefix[len(other) :]


def _fields(json: object, what: str, *, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(json, Mapping):
        raise UsageError(f"{what} is written as a JSON object, not {json!r}.")
    for name in json:
        if name not in known:
            raise UsageError(f"{what} has {name!r}, but only {', '.join(known)} are understood.")
    return json


def _prefix(spec: Mapping[str, Any], name: str, kind: str) -> str:
    """The prefix of a filter or transformation; absent, ``null`` and ``{}`` all mean none."""
    if spec.get(name) is None:
        return ""
    kinds = _fields(spec[name], f"'{name}'", known=(kind,))
    if not kinds:
        return ""
    prefix = _fields(kinds[kind], f"'{kind}'", known=("prefix",)).get("prefix")
    if not isinstance(prefix, str):
        raise UsageError(f"'{kind}' needs a 'prefix' that is a string, not {prefix!r}.")
    return prefix


def _kind(kind: str, prefix: str) -> dict[str, object]:
    return {kind: {"prefix": prefix}} if prefix else {}
