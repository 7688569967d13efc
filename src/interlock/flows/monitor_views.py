"""Samples, scores by release and alerts, for the command line, the API and the console."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.evals.monitoring.types import Alert, MonitorSpec, Sample
from interlock.evals.suite import measured_by
from interlock.flows.parts import Parts

__all__ = ["alert_view", "sample_view", "summary"]

# Any in this module: JSON objects on their way out.
_MOST = 20_000


async def summary(parts: Parts, ctx: Context, app: str, *, days: float) -> dict[str, Any]:
    """Scores of an app's samples by release, newest release first. Raises: NotFound: no such app; Forbidden."""
    name = parts.releases.source(app, ctx).name
    spec = parts.sampling.spec_of(name)
    found = await parts.monitors.samples(ctx, name, since=now() - timedelta(days=days), limit=_MOST)
    releases: dict[str, dict[str, list[float]]] = {}
    for sample in found:
        scores = releases.setdefault(sample.release, {})
        for metric, value in (sample.scores or {}).items():
            scores.setdefault(metric, []).append(value)
    return {
        "app": name,
        "share": spec.share,
        "fault": _fault(spec),
        "samples": len(found),
        "waiting": sum(sample.scores is None for sample in found),
        "failed": sum(bool(sample.error) for sample in found),
        "spent_usd": sum(sample.cost_nano for sample in found) / 1e9,
        "releases": [
            {
                "release": release,
                "scores": {
                    metric: {"mean": math.fsum(values) / len(values), "count": len(values)}
                    for metric, values in sorted(scores.items())
                },
            }
            for release, scores in releases.items()
        ],
    }


def _fault(spec: MonitorSpec) -> str | None:
    """Why nothing can be scored."""
    try:
        measured_by(spec.metrics)
    except InterlockError as error:
        return error.message
    return None


def sample_view(sample: Sample) -> dict[str, Any]:
    """One sample, with its text as far as it is kept."""
    content = sample.content
    return {
        "trace": sample.id,
        "app": sample.app,
        "release": sample.release,
        "at": sample.at.isoformat(),
        "question": None if content is None else content.turns[-1]["content"],
        "answer": None if content is None else content.output.get("text", ""),
        "scores": None if sample.scores is None else dict(sample.scores),
        "error": sample.error or None,
    }


def alert_view(alert: Alert) -> dict[str, Any]:
    """One alert."""
    told = asdict(alert)
    told["at"] = alert.at.isoformat()
    told["acknowledged_at"] = None if alert.acknowledged_at is None else alert.acknowledged_at.isoformat()
    return told
