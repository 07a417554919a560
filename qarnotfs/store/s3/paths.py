"""What the request line of each request says. Pure: no I/O.

Used by `store` and `hot`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from qarnotfs.store.base import require_key


def object_path(bucket: str, key: str, query: Mapping[str, str] | None = None) -> str:
    """Path-style target. ``~`` and ``/`` stay, all else is escaped, or RGW answers 403."""
    return _with_query(f"/{quote(bucket, safe='')}/{quote(require_key(key), safe='/~')}", query)


def bucket_path(bucket: str, query: Mapping[str, str]) -> str:
    return _with_query(f"/{quote(bucket, safe='')}", query)


def list_path(
    bucket: str,
    prefix: str,
    delimiter: str,
    token: str | None,
    start_after: str | None,
    count_max: int,
) -> str:
    """The path of ListObjectsV2: of the page ``token``, or of the first one."""
    given = {
        "list-type": "2",
        "encoding-type": "url",
        "max-keys": str(count_max),
        "prefix": prefix,
        "delimiter": delimiter,
        "continuation-token": token,
        "start-after": None if token else start_after,
    }
    return bucket_path(bucket, {name: said for name, said in given.items() if said})


def _with_query(path: str, query: Mapping[str, str] | None) -> str:
    if not query:
        return path
    said = (n if query[n] == "" else f"{n}={quote(query[n], safe='~')}" for n in sorted(query))
    return f"{path}?{'&'.join(said)}"
