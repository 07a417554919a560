"""A bucket in memory for the tests of synchronisation, and what they look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from qarnotfs.bucket import SyncReport, downward, upward
from qarnotfs.bucket.local import tree_of
from qarnotfs.bucket.manner import Manner
from qarnotfs.bucket.sources import Sources
from qarnotfs.store.base import Attributes
from qarnotfs.store.memory import MemoryStore


def up(
    store: MemoryStore, root: Path, base: str = "", *, delete: bool = True, dry_run: bool = False
) -> SyncReport:
    sources = Sources.of_tree(str(root), tree_of(root), base)
    return upward.sync(store, sources, Manner(delete, dry_run))


def down(
    store: MemoryStore, root: Path, base: str = "", *, delete: bool = False, dry_run: bool = False
) -> SyncReport:
    return downward.sync(store, str(root), base, Manner(delete, dry_run))


def write(root: Path, **files: bytes) -> Path:
    """Files below ``root``; ``__`` in a name stands for ``/``."""
    for name, data in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def put(store: MemoryStore, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        store.put(key, data, Attributes()).result()
    store.calls.clear()


def held(store: MemoryStore) -> dict[str, bytes]:
    """What is in the bucket: key -> bytes. It meets no faults and is not counted."""
    faults, calls = store.faults, list(store.calls)
    store.faults = lambda method, key: None
    infos = store.list_page("", count_max=100_000).objects
    found = {
        info.key: store.get(info.key, 0, info.size).result().data if info.size else b""
        for info in infos
    }
    store.faults, store.calls = faults, calls
    return found


def tree(root: Path) -> dict[str, bytes]:
    """What is in a directory: name -> bytes; links are left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def asked(store: MemoryStore) -> dict[str, int]:
    """How often each method was called since the last time."""
    counts = Counter(method for method, _ in store.calls if method != "delete_key")
    store.calls.clear()
    return dict(counts)
