"""Requests and their times as plain numbers, shown to Prometheus when it asks."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Tally", "family_of"]

_log = logging.getLogger("interlock.access")
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""Upper ends of the histogram's buckets, in seconds."""


class Tally(Collector):
    """Counts every request of this process, whichever path it took."""

    def __init__(self) -> None:
        self._families: dict[str, str] = {}
        self._requests: dict[tuple[str, str, int], int] = {}
        self._times: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def count(self, path: str, status: int, seconds: float, *, method: str = "POST") -> None:
        """One request is over."""
        family = self._families.get(path)
        if family is None:
            family = family_of(path)
            if len(self._families) < 1000:
                self._families[path] = family
        key = (method, family, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        times = self._times.get(family)
        if times is None:
            times = self._times[family] = [0] * (len(_BOUNDS) + 1)
            self._sums[family] = 0.0
        times[bisect_left(_BOUNDS, seconds)] += 1
        self._sums[family] += seconds
        if _log.isEnabledFor(logging.INFO):
            _log.info("%s %s %s %.1f ms", method, path, status, seconds * 1000)

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """See `prometheus_client.registry.Collector`."""
        requests = CounterMetricFamily(
            "interlock_http_requests", "HTTP requests", labels=["method", "family", "status"]
        )
        for (method, family, status), number in list(self._requests.items()):
            requests.add_metric([method, family, str(status)], number)
        yield requests
        times = HistogramMetricFamily("interlock_http_seconds", "Time to the last byte, in seconds", labels=["family"])
        for family, counts in list(self._times.items()):
            total, buckets = 0, []
            for bound, number in zip((*_BOUNDS, float("inf")), counts, strict=True):
                total += number
                buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
            times.add_metric([family], buckets, self._sums[family])
        yield times


def family_of(path: str) -> str:
    """One of a fixed set of names: a stranger's paths must not become series."""
    for family in _FAMILIES:
        if path == family or path.startswith(family + "/"):
            return family
    if path in {"/healthz", "/readyz", "/metrics"}:
        return "health"
    return "other" if path.startswith(("/v1/", "/v1beta/", "/v2/", "/api/")) else "console"


_FAMILIES = (
    "/v1/chat/completions",
    "/v1/models",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/moderations",
    "/v1/audio",
    "/v1/images",
    "/v1/files",
    "/v1/batches",
    *(
        f"/api/v1/{n}"
        for n in (
            "traces",
            "apps",
            "documents",
            "keys",
            "collections",
            "jobs",
            "spend",
            "audit",
            "version",
            "limits",
            "budgets",
            "limit-use",
            "routes",
            "providers",
            "provider-register",
            "config",
            "cache",
        )
    ),
)
