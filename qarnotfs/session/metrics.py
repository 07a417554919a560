"""The figures of a mount for Prometheus, while it is asked for them at ``--metrics ADDRESS``.

Used by `life`. The library answers HTTP in threads of its own; the figures are taken in trio's,
as for ``qarnotfs status``, so that nothing here needs a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from qarnotfs.errors import UsageError

Status = dict[str, Any]

GAUGES: dict[str, tuple[str, Callable[[Status], float]]] = {
    "pending_files": ("Files that wait for upload", lambda s: s["pending_files"]),
    "pending_bytes": ("Bytes that wait for upload", lambda s: s["pending_bytes"]),
    "transfers": ("Files on their way to the bucket", lambda s: len(s["transfers"])),
    "refused_files": ("Of those, the ones it refused for good", lambda s: s["refused_files"]),
    "errors": ("Files whose last upload failed, or was refused", lambda s: len(s["errors"])),
    "findings": ("What was set aside, see qarnotfs check", lambda s: len(s["findings"])),
    "cache_bytes": ("Bytes in the cache", lambda s: s["cache_bytes"]),
    "cache_limit_bytes": ("What the cache may hold", lambda s: s["cache_bytes_max"]),
    "server_answers": (
        "1 while the server answers",
        lambda s: s["unvalidated_since_sec"] is None,
    ),
    "draining": ("1 once it is unmounted and uploads", lambda s: s["state"] == "draining"),
    "start_time_seconds": ("When it was mounted", lambda s: s["started_sec"]),
}
COUNTERS: dict[str, tuple[str, Callable[[Status], float]]] = {
    "uploaded_files": ("Files stored in the bucket", lambda s: s["uploaded_files"]),
    "uploaded_bytes": ("Bytes stored in the bucket", lambda s: s["uploaded_bytes"]),
    "deleted_files": ("Files deleted in the bucket", lambda s: s["deleted_files"]),
    "conflicts": ("Files that someone else changed, too", lambda s: len(s["conflicts"])),
    "fetched_bytes": ("Bytes read from the bucket", lambda s: s["cache"]["fetched_bytes"]),
    "cache_hits": ("Reads that the cache answered", lambda s: s["cache"]["hits"]),
    "cache_misses": ("Reads that the bucket answered", lambda s: s["cache"]["misses"]),
    "cache_corrupt_blocks": ("Blocks whose checksum was wrong", lambda s: s["cache"]["corrupt"]),
    "cache_evicted_bytes": ("Bytes that made way", lambda s: s["cache"]["evicted_bytes"]),
}


@contextmanager
def offered(address: tuple[str, int], status: Callable[[], Status]) -> Iterator[None]:
    """Answer scrapes at ``address`` until the end of the block. `UsageError`: it is taken.

    ``status`` gives what `report.report` does. It is called in the trio thread that is
    running now; once that has ended there are no figures.
    """
    host, port = address
    registry = CollectorRegistry()
    registry.register(_Figures(status, trio.lowlevel.current_trio_token()))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Choose another --metrics."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Figures(Collector):
    def __init__(self, status: Callable[[], Status], token: trio.lowlevel.TrioToken) -> None:
        self._status, self._token = status, token

    def describe(self) -> list[Metric]:
        return []  # nothing is asked while it is registered: trio would wait for itself

    def collect(self) -> Iterator[Metric]:
        try:
            status = trio.from_thread.run_sync(self._status, trio_token=self._token)
        except trio.RunFinishedError:
            return
        said = {"bucket": status["bucket"], "mountpoint": status["mountpoint"]}
        yield InfoMetricFamily("qarnotfs_mount", "What is mounted where", said)
        for name, (text, of) in GAUGES.items():
            yield GaugeMetricFamily(f"qarnotfs_{name}", text, float(of(status)))
        for name, (text, of) in COUNTERS.items():
            yield CounterMetricFamily(f"qarnotfs_{name}", text, float(of(status)))
