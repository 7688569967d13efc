"""Prometheus metrics of targets, queues and limits: read from plain numbers when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from interlock.app import App
from interlock.gateway.explain import told_by_name
from interlock.gateway.health import FIRST_TOKEN_S, TargetHealth
from interlock.gateway.types import Target

__all__ = ["GatewayCollector"]

_LABELS = ("provider", "model")
_STATES = ("closed", "half-open", "open")


class GatewayCollector(Collector):
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
