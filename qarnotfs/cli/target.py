"""``BUCKET`` and ``BUCKET:KEY`` on a command line, and how to tell them from local paths.

Used by the commands that work on a bucket without mounting it. Pure. A word is a bucket's
when it has a ``:`` before its first ``/``, as with scp and rsync: ``./a:b`` is local.
"""

from __future__ import annotations

from typing import NamedTuple

import click

from qarnotfs.views import BucketSpec

STREAM = "-"  # stdin or stdout instead of a local file


class Target(NamedTuple):
    """A bucket and a key, which may be empty; str() is what a person would write."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}:{self.key}"

    @property
    def spec(self) -> BucketSpec:
        """The whole bucket, without a view."""
        return BucketSpec(self.bucket)

    @property
    def is_folder(self) -> bool:
        """Whether files are put into it, rather than named by it."""
        return not self.key or self.key.endswith("/")

    @property
    def folder(self) -> str:
        """The beginning of every key below it: ``a`` and ``a/`` are both ``a/``."""
        return self.key if self.is_folder else self.key + "/"

    def named(self, name: str) -> Target:
        """Where a file called ``name`` goes: ``a/`` is a place to put it, ``a`` a name for it."""
        return Target(self.bucket, self.key + name) if self.is_folder else self


def is_remote(word: str) -> bool:
    """Whether a word names a bucket where a local path would be possible too."""
    return ":" in word.partition("/")[0]


def place(word: str) -> Target:
    """``BUCKET`` or ``BUCKET:KEY``."""
    bucket, _, key = word.partition(":")
    if not bucket or "/" in bucket:
        raise click.UsageError(f"{word!r} is not a BUCKET or BUCKET:KEY.")
    return Target(bucket, key)


def bucket_name(word: str) -> str:
    """``BUCKET``, which may not look like anything else."""
    if not word or ":" in word or "/" in word:
        raise click.UsageError(f"{word!r} is not the name of a bucket.")
    return word


def file(word: str) -> Target:
    """``BUCKET:KEY``."""
    target = place(word)
    if not target.key:
        raise click.UsageError(f"{word!r} names no file: write BUCKET:KEY.")
    return target


def local(word: str) -> str:
    """A local path, as it was written: ``./-`` is not ``-``."""
    if is_remote(word):
        raise click.UsageError(f"{word!r} names a bucket: write './{word}' for a local file.")
    return word
