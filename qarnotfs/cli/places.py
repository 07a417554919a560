"""Which buckets ``run`` shows where: the words of its command line, and the SDK's JSON.

Used by ``run``. It reads one file and decides; it mounts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from qarnotfs.errors import UsageError
from qarnotfs.views import BucketSpec, View

RESOURCES, RESULTS = "resources", "results"
# Fields of a task that leave out results. What is written to a mount is uploaded, whatever
# its name: a task that says otherwise is not carried out by halves.
NOT_KNOWN = ("resultsWhitelist", "resultsBlacklist")


class Wanted(NamedTuple):
    """A bucket, how it is seen, and where below the spec's directory it is: ``""`` for on it."""

    spec: BucketSpec
    read_only: bool
    name: str


class Placed(NamedTuple):
    """A bucket, how it is seen, and where."""

    spec: BucketSpec
    directory: Path
    read_only: bool


def placed(words: Iterable[str], wanted: Iterable[Wanted]) -> list[Placed]:
    """What goes where; `click.UsageError` when a word, or a bucket's place, is not clear.

    ``BUCKET:DIR`` places the next bucket of this name that is wanted, as it is wanted, or else
    the whole bucket; a word without ``:`` is the directory for all that is left.
    """
    found: list[Placed] = []
    left = list(wanted)
    roots = [word for word in words if ":" not in word]
    for word in words:
        if ":" in word:
            found.append(_placed(word, left))
    if len(roots) > bool(left):
        raise click.UsageError(f"{roots[-1]!r} is not a BUCKET:DIR.")
    if left and not roots:
        bucket = left[0].spec.bucket
        raise click.UsageError(
            f"Where is '{bucket}' of the spec to be? Say {bucket}:DIR, or one DIR for all."
        )
    found += (Placed(one.spec, Path(roots[0], one.name), one.read_only) for one in left)
    for number, one in enumerate(found):
        if one.directory in (other.directory for other in found[:number]):
            raise click.UsageError(f"Two buckets cannot both be on {one.directory}.")
    return found


def _placed(word: str, left: list[Wanted]) -> Placed:
    """``BUCKET[:PREFIX]:DIR[:ro]``. DIR begins behind the first ``:/``, else the last ``:``."""
    text, read_only = word.removesuffix(":ro"), word.endswith(":ro")
    bucket, colon, rest = text.partition(":")
    prefix, _, directory = f":{rest}".partition(":/")
    if directory:
        prefix, directory = prefix[1:], f"/{directory}"
    else:
        prefix, _, directory = rest.rpartition(":")
    if not (bucket and colon and directory):
        raise click.UsageError(f"{word!r} is not a BUCKET:DIR or BUCKET:PREFIX:DIR.")
    if prefix:
        folder = f"{prefix.rstrip('/')}/"  # a directory: 'a' does not show 'ab'
        return Placed(BucketSpec(bucket, View(folder, folder)), Path(directory), read_only)
    known = next((one for one in left if one.spec.bucket == bucket), None)
    if known is None:
        return Placed(BucketSpec(bucket), Path(directory), read_only)
    left.remove(known)
    return Placed(known.spec, Path(directory), read_only or known.read_only)


# --- the SDK's JSON -----------------------------------------------------------------------------


def wanted_of(path: Path) -> list[Wanted]:
    """The buckets of a file: of a task, a list of resources, or one bucket.

    A task is what the SDK sends (``Task._to_json()``), a pool what its ``Pool._to_json()``
    does, a bucket ``Bucket.to_json()``. `UsageError` for anything else.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {path} as JSON: {error}.") from error
    try:
        return _wanted(found)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _wanted(found: object) -> list[Wanted]:
    if isinstance(found, list):
        return _resources([BucketSpec.from_json(one) for one in found])
    if not isinstance(found, Mapping) or "bucketName" in found:
        return [Wanted(BucketSpec.from_json(found), read_only=False, name="")]
    if unknown := [name for name in NOT_KNOWN if found.get(name)]:
        raise UsageError(f"'{unknown[0]}' is not understood: every file in results is uploaded.")
    wanted = _resources(_specs(found)) + _results(found)
    if not wanted:
        raise UsageError("There is no bucket in it.")
    return wanted


def _specs(task: Mapping[str, Any]) -> list[BucketSpec]:
    """The resources of a task, once each, in the order in which the SDK has them."""
    ttl_sec = task.get("defaultResourcesCacheTTLSec")
    advanced = task.get("advancedResourceBuckets") or []
    plain = [{"bucketName": name} for name in task.get("resourceBuckets") or []]
    specs = dict.fromkeys(BucketSpec.from_json(one) for one in (*advanced, *plain))
    return [_with_ttl(spec, ttl_sec) if spec.cache_ttl_sec is None else spec for spec in specs]


def _with_ttl(spec: BucketSpec, ttl_sec: object) -> BucketSpec:
    """`UsageError` for a time that is none."""
    given = BucketSpec.from_json({"bucketName": spec.bucket, "cacheTTLSec": ttl_sec})
    return replace(spec, cache_ttl_sec=given.cache_ttl_sec)


def _results(task: Mapping[str, Any]) -> list[Wanted]:
    if not task.get("resultBucket"):
        return []
    spec = BucketSpec.from_json({"bucketName": task["resultBucket"]})
    return [Wanted(_with_ttl(spec, task.get("ResultsCacheTTLSec")), read_only=False, name=RESULTS)]


def _resources(specs: Iterable[BucketSpec]) -> list[Wanted]:
    """Each in a directory of its bucket's name; another view of the same bucket: ``NAME-2``."""
    found: list[Wanted] = []
    for spec in specs:
        count = 1 + sum(one.spec.bucket == spec.bucket for one in found)
        name = spec.bucket if count == 1 else f"{spec.bucket}-{count}"
        found.append(Wanted(spec, read_only=True, name=f"{RESOURCES}/{name}"))
    return found
