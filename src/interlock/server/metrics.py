"""Prometheus metrics, read from plain numbers when somebody asks.

Import this module where the page is asked for: the client library is a thirtieth of all start-up work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from interlock.app import App
from interlock.core.clock import now
from interlock.flows.staleness import state_of
from interlock.gateway.explain import told_by_name
from interlock.gateway.health import FIRST_TOKEN_S, TargetHealth
from interlock.gateway.types import Target
from interlock.knowledge.types import SourceStatus
from interlock.server.access_log import AccessLog
from interlock.server.tally import BOUNDS, Tally

__all__ = ["of_sources", "registry", "text"]

_LABELS = ("provider", "model")
_STATES = ("closed", "half-open", "open")


def registry(app: App, tally: Tally, access_log: AccessLog | None) -> CollectorRegistry:
    """All metrics of this process."""
    found = CollectorRegistry()
    found.register(_Server(app, tally, access_log))
    found.register(_Gateway(app))
    return found


def text(metrics: Iterable[Metric]) -> bytes:
    """What Prometheus reads."""
    shown = CollectorRegistry()
    shown.register(_Fixed(list(metrics)))
    return generate_latest(shown)


def of_sources(statuses: Iterable[SourceStatus]) -> list[Metric]:
    """How fresh each source of knowledge is, by the operator's own names."""
    labels = ("collection", "source")
    state = GaugeMetricFamily("interlock_source_state", "1 for the state of a source", labels=(*labels, "state"))
    age = GaugeMetricFamily("interlock_source_age_seconds", "Since the last complete look at a source", labels=labels)
    documents = GaugeMetricFamily("interlock_source_documents", "Documents of a source", labels=labels)
    at = now()
    for status in statuses:
        named = [status.collection, status.name]
        known = state_of(status)
        for one in ("fresh", "stale", "failing"):
            state.add_metric([*named, one], float(one == known))
        if status.synced_at is not None:
            age.add_metric(named, max(0.0, (at - status.synced_at).total_seconds()))
        documents.add_metric(named, status.documents)
    return [state, age, documents]


class _Fixed(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class _Server(Collector):
    """Requests of this process, and what waits to be written."""

    def __init__(self, app: App, tally: Tally, access_log: AccessLog | None) -> None:
        self._app = app
        self._tally = tally
        self._access_log = access_log

    def describe(self) -> list[Metric]:
        """Nothing at registration: `collect` needs no dry run."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        requests = CounterMetricFamily(
            "interlock_http_requests", "HTTP requests", labels=["method", "family", "status"]
        )
        for (method, family, status), number in list(self._tally.requests.items()):
            requests.add_metric([method, family, str(status)], number)
        yield requests
        times = HistogramMetricFamily("interlock_http_seconds", "Time to the last byte, in seconds", labels=["family"])
        for family, counts in list(self._tally.times.items()):
            total, buckets = 0, []
            for bound, number in zip((*BOUNDS, float("inf")), counts, strict=True):
                total += number
                buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
            times.add_metric([family], buckets, self._tally.seconds[family])
        yield times
        parts = self._app.parts
        yield GaugeMetricFamily("interlock_http_open", "Requests being served now", self._tally.open)
        yield GaugeMetricFamily("interlock_spans_dropped", "Spans lost to a full buffer", parts.observe.dropped)
        yield GaugeMetricFamily("interlock_audit_waiting", "Audit lines not yet committed", parts.governance.waiting)
        if self._access_log is not None:
            yield GaugeMetricFamily(
                "interlock_access_log_dropped", "Access log lines that could not be written", self._access_log.dropped
            )


class _Gateway(Collector):
    """Metrics of a running App. Callers name models, so only those that are configured or have served are series;
    the others of a provider share one, `other`.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def describe(self) -> list[Metric]:
        """Nothing at registration: `collect` needs no dry run."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        yield from self._targets()
        yield from self._providers()
        yield from self._limits()
        yield from self._copies()
        gateway = self._app.parts.gateway
        yield GaugeMetricFamily("interlock_config_generation", "Reloads since start", value=gateway.generation)
        yield GaugeMetricFamily(
            "interlock_ledger_waiting", "Ledger rows not yet committed", self._app.parts.cost.waiting
        )

    def _targets(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "interlock_target_requests", "Calls of a target by how they ended", labels=(*_LABELS, "outcome")
        )
        waits = HistogramMetricFamily(
            "interlock_target_first_token_seconds", "Time to the first token of an answer", labels=_LABELS
        )
        breaker = GaugeMetricFamily(
            "interlock_target_breaker", "1 for the state that the breaker is in", labels=(*_LABELS, "state")
        )
        flying = GaugeMetricFamily("interlock_target_in_flight", "Calls under way", labels=_LABELS)
        fallbacks = CounterMetricFamily(
            "interlock_target_fallbacks", "Requests that went on to their next target", labels=_LABELS
        )
        at = self._app.parts.gateway.health.clock()
        for target, states in self._known().items():
            labels = [target.provider, target.model]
            for outcome, count in _outcomes(states):
                requests.add_metric([*labels, outcome], count)
            waits.add_metric(labels, _buckets(states), sum(state.waited_s for state in states))
            # Of models that share a series, the worst state is told.
            worst = max((state.state(at) for state in states), key=_STATES.index)
            for name in _STATES:
                breaker.add_metric([*labels, name], float(name == worst))
            flying.add_metric(labels, sum(state.in_flight for state in states))
            fallbacks.add_metric(labels, sum(state.fallbacks for state in states))
        yield from (requests, waits, breaker, flying, fallbacks)

    def _known(self) -> dict[Target, list[TargetHealth]]:
        gateway = self._app.parts.gateway
        named = told_by_name(gateway)
        found: dict[Target, list[TargetHealth]] = {}
        for name, state in list(gateway.health.targets.items()):
            target = Target.parse(name)
            found.setdefault(target if name in named else Target(target.provider, "other"), []).append(state)
        return found

    def _providers(self) -> Iterator[Metric]:
        length = GaugeMetricFamily("interlock_provider_queue_length", "Calls waiting for a turn", labels=["provider"])
        shed = CounterMetricFamily("interlock_provider_shed", "Calls turned away by a full queue", labels=["provider"])
        retries = CounterMetricFamily("interlock_provider_retries", "Tries after a first one", labels=["provider"])
        attempts = self._app.parts.gateway.attempts
        for name, queue in attempts.queues.items():
            length.add_metric([name], queue.waiting)
            shed.add_metric([name], queue.shed)
        for name, budget in attempts.budgets.items():
            retries.add_metric([name], budget.taken)
        yield from (length, shed, retries)

    def _limits(self) -> Iterator[Metric]:
        refused = CounterMetricFamily("interlock_limit_refusals", "Tries that a hard limit stopped", labels=["measure"])
        warned = CounterMetricFamily(
            "interlock_limit_warnings", "Tries past a warning line or a soft limit", labels=["measure"]
        )
        admission = self._app.parts.cost.admission
        for measure in ("requests", "tokens", "money"):
            # Names of limits are a tenant's own, and every tenant's callers may read this page.
            refused.add_metric([measure], admission.refused.get(measure, 0))
            warned.add_metric([measure], admission.warned.get(measure, 0))
        yield from (refused, warned)

    def _copies(self) -> Iterator[Metric]:
        gateway = self._app.parts.gateway
        cache = CounterMetricFamily("interlock_cache", "Calls by what the cache did", labels=["status"])
        for status, count in (gateway.cache.totals() if gateway.cache else {}).items():
            cache.add_metric([status], count)
        yield cache
        shadow = CounterMetricFamily("interlock_shadow", "Copies of requests by what became of them", labels=["result"])
        for result in ("sent", "failed", "skipped", "agreed", "differed"):
            shadow.add_metric([result], gateway.shadows.counts[result])
        yield shadow


def _outcomes(states: list[TargetHealth]) -> Iterator[tuple[str, int]]:
    yield "ok", sum(state.served for state in states)
    yield "error", sum(state.failures for state in states)
    yield "rate_limited", sum(state.rejected for state in states)
    yield "refused", sum(state.refused for state in states)
    yield "cancelled", sum(state.abandoned for state in states)


def _buckets(states: list[TargetHealth]) -> list[tuple[str, float]]:
    found, total = [], 0
    for position, bound in enumerate([*(str(bound) for bound in FIRST_TOKEN_S), "+Inf"]):
        total += sum(state.waits[position] for state in states)
        found.append((bound, float(total)))
    return found
