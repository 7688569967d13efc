"""Whether any relevant document is among the first k."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import hit

__all__ = ["plugin"]

plugin = ranking_metric(hit, "trec_eval, success")
