"""The figures of the cache, as ``qarnotfs status`` shows them. Pure.

Made by `reader`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache holds and did since the mount began. Hits and misses count reads."""

    bytes_used: int
    hits: int
    misses: int
    corrupt: int
    evicted_bytes: int
    fetched_bytes: int
