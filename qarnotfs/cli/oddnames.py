"""The keys of a bucket that a mount shows under another name, or not at all.

Used by ``check``. Lists the bucket; changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qarnotfs.cli.account import Account, Shown
from qarnotfs.errors import QarnotfsError

if TYPE_CHECKING:
    from qarnotfs.core.explain import Explained

Odd = tuple[str, "Explained"]  # with the bucket


def odd_names(account: Account, shown: Shown, buckets: tuple[str, ...]) -> list[Odd]:
    """The odd names of ``buckets``; of one that cannot be listed, none."""
    found: list[Odd] = []
    for bucket in buckets:
        try:
            found += [(bucket, one) for one in _of_one(account, shown, bucket)]
        except QarnotfsError:
            continue  # `doctor.Server` has asked it before, and said why
    return found


def _of_one(account: Account, shown: Shown, bucket: str) -> list[Explained]:
    from qarnotfs.cli.listing import pages
    from qarnotfs.core.explain import explain

    spec = shown.of(bucket)
    with account.buckets() as opened:
        store = opened(spec).store
        keys = (
            (info.key, info.size)
            for page in pages(store, spec.view.filter_prefix)
            for info in page.objects
        )
        return list(explain(spec.view, keys))
