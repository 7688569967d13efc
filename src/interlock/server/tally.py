"""Requests and their times as plain numbers, shown to Prometheus when it asks."""

from __future__ import annotations

import logging
from bisect import bisect_left

__all__ = ["BOUNDS", "Tally", "family_of"]

_log = logging.getLogger("interlock.access")
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""Upper ends of the histogram's buckets, in seconds."""


class Tally:
    """Counts every request of this process, whichever path it took."""

    def __init__(self) -> None:
        self.open = 0
        """Requests that the ordinary path serves now."""
        self.requests: dict[tuple[str, str, int], int] = {}
        """Requests that are over, by method, family of paths and status."""
        self.times: dict[str, list[int]] = {}
        """By family, requests in each bucket of `BOUNDS` and, last, above them."""
        self.seconds: dict[str, float] = {}
        self._families: dict[str, str] = {}

    def count(self, path: str, status: int, seconds: float, *, method: str = "POST") -> None:
        """One request is over."""
        family = self._families.get(path)
        if family is None:
            family = family_of(path)
            if len(self._families) < 1000:
                self._families[path] = family
        key = (method, family, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        times = self.times.get(family)
        if times is None:
            times = self.times[family] = [0] * (len(BOUNDS) + 1)
            self.seconds[family] = 0.0
        times[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[family] += seconds
        if _log.isEnabledFor(logging.INFO):
            _log.info("%s %s %s %.1f ms", method, path, status, seconds * 1000)


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
